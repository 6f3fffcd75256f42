"""Formats with one linear head on the last hidden state: Skywork-o1, AlphaMath, rStar-Math.
Sources: the models' cards and their authors' inference code.
"""

from typing import TYPE_CHECKING, Any

from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import LEADS, PRM_FORMATS, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout, TokenLayout, bare, continued, prompted, token_ids

if TYPE_CHECKING:
    from restmcts.modeling.prm.weights import PrmWeights

_HEAD = "v_head.summary"


class _ValueHead(PrmFormat):
    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the trunk, and its head squashed to the format's range."""
        head = weights.linear(_HEAD)
        trunk = weights.trunk()
        return Scoring(trunk, trunk, lambda states: self.squashed(head(states.float()).squeeze(-1)))

    def squashed(self, raw: Any) -> Any:
        """Return the scores of what the head gives."""
        return raw.tanh()


class Skywork(_ValueHead):
    """Start token and problem and newline, then each step encoded on its own with a newline's
    token behind it.
    """

    models = "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-{1.5B,7B}"
    meaning = LEADS
    aggregation = "mean"
    marker = "\n"

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether the head's weights are among the model's."""
        return f"{_HEAD}.weight" in folder.weights

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return the pieces."""
        newline = token_ids(tokenizer, "\n")[-1:]
        begin = tokenizer.bos_token or ""
        return TokenLayout(
            lambda question: token_ids(tokenizer, f"{begin}{question}\n"),
            lambda step: token_ids(tokenizer, bare(step)) + newline,
        )

    def squashed(self, raw: Any) -> Any:
        """Return probabilities."""
        return raw.sigmoid()


class AlphaMath(_ValueHead):
    """The question in tags, then the steps as the policy wrote them."""

    models = "MARIO-Math-Reasoning/AlaphaMath-7B"
    meaning = "expected outcome, -1 wrong to 1 right"
    low = -1.0

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether the head is beside the weights."""
        return (folder.path / "value_head.pth").is_file()

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return one text."""
        return continued(tokenizer, lambda question: f"<question> {question} </question>\n")


class RStar(_ValueHead):
    """The prompt of the policy, gone on from."""

    models = "rStar-Math's process preference model"
    meaning = "preference for the step, -1 to 1"
    low = -1.0

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return one text."""
        return prompted(tokenizer)

    def squashed(self, raw: Any) -> Any:
        """Return preferences."""
        return (raw / 5).tanh()


PRM_FORMATS.add("skywork", Skywork())
PRM_FORMATS.add("alphamath", AlphaMath())
PRM_FORMATS.add("rstar", RStar())
