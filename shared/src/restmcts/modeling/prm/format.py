"""A format of process reward models is one object: what its scores mean, by what a model folder
shows it, how it writes a question and its steps, how its weights are loaded, and by which servers
it is scored.

Imports no torch: what only names formats must not wait for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from restmcts.domain.scoring import Aggregation
from restmcts.domain.stats.first_errors import Rule
from restmcts.errors import ModelError
from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.layouts import Layout
from restmcts.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from restmcts.modeling.prm.weights import PrmWeights

LEADS = "probability that the step can lead to the right answer"
RIGHT = "probability that the step is right"
POOLING, CLASSIFY = "pooling", "classify"


class Scoring(NamedTuple):
    """A loaded model, and how values are read in it.

    Attributes:
        model: all of it.
        trunk: the part whose last hidden states are read.
        head: gives the raw scores of hidden states, `[N, hidden]` -> `[N]`, in the format's range.
    """

    model: Any
    trunk: Any
    head: "Callable[[Tensor], Tensor]"


class PrmFormat(ABC):
    """A format of process reward models, registered in `PRM_FORMATS`.

    Attributes:
        models: known ones.
        meaning: of the score after a step.
        low: of its own range; values are mapped from [low, high] to [0, 1].
        high: likewise.
        aggregation: of the steps' values to a whole solution's score, as its authors do it.
        rule: by which a value calls a step wrong: a chance that is "below" a threshold, or progress
            that "drop"s.
        marker: the text at whose token the score is read; empty: the step's own last token, that
            of its separator.
        routes: of scoring servers, which publish this format ("pooling" is vLLM's, "classify"
            SGLang's); what has a value head of its own they do not.
        good_class: whose probability the score is, of the two that a server gives; None: it gives
            one output a text, a logit.
        trace: in the names of its models, in lower case, where their files do not show the format;
            empty: there is none.
    """

    models: str
    meaning: str
    low: float = 0.0
    high: float = 1.0
    aggregation: Aggregation = "last"
    rule: Rule = "below"
    marker: str = ""
    routes: tuple[str, ...] = ()
    good_class: int | None = None
    trace: str = ""

    @property
    def name(self) -> str:
        """The name by which it is chosen."""
        return PRM_FORMATS.name_of(self)

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether a folder's files show this format, and none of the others."""
        return False

    @abstractmethod
    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return how texts are written, and where in them scores are read.

        Args:
            tokenizer: the model's.
            separator: of steps, for formats that leave it open.

        Raises:
            ModelError: if the tokenizer cannot write this format.
        """

    @abstractmethod
    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the loaded model.

        Raises:
            ModelError: if the folder's weights, or its tokenizer, are not of this format.
        """


PRM_FORMATS: Registry[PrmFormat] = Registry("prm-formats", "PRM format")


def detect_format(folder: Path, given: str = "") -> PrmFormat:
    """Return the format that a model folder seems to have.

    Args:
        folder: with the model's files.
        given: how the person called it; formats that leave no other trace are known by their names.

    Raises:
        ModelError: if its files show none, or more than one.
    """
    shown = ModelFolder(folder, given)
    found = [each for each in PRM_FORMATS.values() if each.shows_in(shown)]
    found = found or [each for each in PRM_FORMATS.values() if each.trace and each.trace in shown.names]
    if len(found) == 1:
        return found[0]
    names, say = given or str(folder), "say which: {}?format=NAME, one of {}"
    if found:
        both = ", ".join(each.name for each in found)
        raise ModelError(f"{names}: its files show more than one PRM format; {say.format(names, both)}")
    listed = ", ".join(shown.architectures) or "no architecture named"
    raise ModelError(
        f"{names}: not known as a process reward model ({listed}); if it is one, "
        f"{say.format(names, ', '.join(PRM_FORMATS))}"
    )
