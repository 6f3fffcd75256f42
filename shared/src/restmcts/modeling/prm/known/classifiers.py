"""Formats of the library's own classifiers: of tokens (TRL), and of texts (outcome models)."""

from typing import TYPE_CHECKING, Any

from restmcts.errors import ModelError
from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import CLASSIFY, POOLING, PRM_FORMATS, RIGHT, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout, TokenLayout, bare, prompted, token_ids

if TYPE_CHECKING:
    from torch import Tensor

    from restmcts.modeling.prm.weights import PrmWeights


class Trl(PrmFormat):
    """Start token, prompt, then steps with the separator behind each, all encoded on their own
    (trl's PRMTrainer.tokenize_row).
    """

    models = "token classifiers of TRL's PRMTrainer"
    meaning = RIGHT
    aggregation = "min"
    routes = (POOLING,)
    good_class = 1

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether it is a classifier of tokens with two classes."""
        return folder.is_classifier_of("Token") and folder.num_labels == 2

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return the pieces."""
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        ends = token_ids(tokenizer, separator)
        return TokenLayout(
            lambda question: start + token_ids(tokenizer, question),
            lambda step: token_ids(tokenizer, bare(step)) + ends,
        )

    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the classifier."""
        model = weights.token_classifier()
        if model.config.num_labels != 2:
            raise ModelError(f"{weights.files.path}: {model.config.num_labels} classes where a PRM of TRL has 2")
        head = getattr(model, "score", None) or model.classifier

        def right(states: "Tensor") -> "Tensor":
            found: Tensor = head(states.to(next(head.parameters()).dtype)).float().softmax(dim=-1)[:, 1]
            return found

        return Scoring(model, model.base_model, right)


class Orm(PrmFormat):
    """The prompt of the policy, gone on from."""

    models = "sequence classifiers with one output"
    meaning = "probability that the whole solution is right"
    routes = (POOLING, CLASSIFY)

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether it is a classifier of texts, and none that was saved here."""
        return folder.is_classifier_of("Sequence") and not folder.own_kind

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return one text."""
        return prompted(tokenizer)

    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the classifier."""
        model = weights.sequence_classifier()
        head: Any = getattr(model, "score", None)
        if model.config.num_labels != 1 or not hasattr(head, "weight"):
            raise ModelError(
                f"{weights.files.path}: {model.config.num_labels} outputs where an outcome reward model has 1, "
                "of one layer"
            )
        return Scoring(
            model, model.base_model, lambda states: head(states.to(head.weight.dtype)).float().squeeze(-1).sigmoid()
        )


PRM_FORMATS.add("trl", Trl())
PRM_FORMATS.add("orm", Orm())
