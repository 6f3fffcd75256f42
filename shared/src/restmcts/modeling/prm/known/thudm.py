"""The value models that were released with ReST-MCTS* (github.com/THUDM/ReST-MCTS): a layer on a
language model's logits, in one state_dict.
"""

from typing import TYPE_CHECKING, Any

from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import PRM_FORMATS, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout, continued

if TYPE_CHECKING:
    from restmcts.modeling.prm.weights import PrmWeights

_INNER = "base_model."


class Thudm(PrmFormat):
    """Problem and solution as the policy wrote it."""

    models = "state_dict of the released ReST-MCTS*"
    meaning = "progress so far, read from the language model's logits"
    rule = "drop"

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether there is one file of pickled weights, a whole model's, and no other."""
        file = folder.state_dict
        return not folder.weights and file is not None and file.name != "value_head.pth"

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return one text."""
        return continued(tokenizer, lambda question: f"Problem: {question}\nSolution:\n")

    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the language model, with the layer on its logits."""
        found = weights.pickled()
        model = weights.causal_model_of(
            {name.removeprefix(_INNER): each for name, each in found.items() if name.startswith(_INNER)}
        )
        head, output = weights.linear("LN", found), model.get_output_embeddings()
        return Scoring(model, model.base_model, lambda states: head(output(states).float()).squeeze(-1))


PRM_FORMATS.add("thudm", Thudm())
