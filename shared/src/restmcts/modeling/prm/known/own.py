"""The two formats without weights of another's making: value models trained here, and language
models that are asked.
"""

from typing import TYPE_CHECKING, Any

from restmcts.errors import ModelError
from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import PRM_FORMATS, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout

if TYPE_CHECKING:
    from restmcts.modeling.prm.weights import PrmWeights


class _NotRead(PrmFormat):
    """Is opened in a way of its own: by its checkpoint, or by asking."""

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Raise ModelError."""
        raise ModelError(f"no server publishes the scores of the format {self.name}; choose another")

    def load(self, weights: "PrmWeights") -> Scoring:
        """Raise ModelError."""
        raise ModelError(f"{weights.files.path}: a model of the format {self.name} is not read at tokens")


class Value(_NotRead):
    """A value model trained here."""

    models = "a value model trained here"
    meaning = "progress so far: 1 at a right solution (arXiv:2406.03816, Eq. 1)"
    rule = "drop"

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether the checkpoint says so."""
        return folder.own_kind == "value"


class Judge(_NotRead):
    """A language model that is asked (restmcts.adapters.models.llm_judge)."""

    models = "causal language models, here or behind HTTP"
    meaning = "probability that the model, asked, says yes: it is right so far"


VALUE = PRM_FORMATS.add("value", Value())
JUDGE = PRM_FORMATS.add("judge", Judge())
