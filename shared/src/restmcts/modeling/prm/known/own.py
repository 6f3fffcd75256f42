"""The formats without a head of another's making: value models trained here, language models that
are asked, policies compared with what they were trained from, and several models as one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from restmcts.errors import InputError, ModelError
from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import PRM_FORMATS, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout

if TYPE_CHECKING:
    from restmcts.modeling.prm.weights import PrmWeights


REFERENCE, BETA = "reference", "beta"
DEFAULT_BETA = 0.05


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


class Implicit(_NotRead):
    """A policy against its reference (restmcts.modeling.prm.implicit)."""

    models = "a causal language model, with &reference= the one that it was trained from"
    meaning = "sigmoid of beta times the log-ratio of both for the solution so far (arXiv:2412.01981)"
    rule = "drop"


class Ensemble(_NotRead):
    """Several models as one (restmcts.adapters.models.ensemble); `rule` and `aggregation` are those
    of its members.
    """

    models = "ensemble+MODEL1,MODEL2,…, value models whose values mean the same"
    meaning = "mean of their values, less &penalty= times their standard deviation"


VALUE = PRM_FORMATS.add("value", Value())
JUDGE = PRM_FORMATS.add("judge", Judge())
IMPLICIT = PRM_FORMATS.add("implicit", Implicit())
ENSEMBLE = PRM_FORMATS.add("ensemble", Ensemble())


def implicit_options(options: Mapping[str, str]) -> tuple[str, float]:
    """Return the reference's place and beta, as a model's reference says them.

    Raises:
        InputError: if there is no reference, beta is no number above 0, or another option is given.
    """
    unknown = sorted(set(options) - {REFERENCE, BETA})
    if unknown:
        raise InputError(f"format=implicit: unknown option {', '.join(unknown)}; there are {REFERENCE} and {BETA}")
    if not options.get(REFERENCE):
        raise InputError("format=implicit: name the policy that the model was trained from, &reference=FOLDER_OR_ID")
    given = options.get(BETA, str(DEFAULT_BETA))
    try:
        beta = float(given)
    except ValueError:
        beta = 0.0
    if not 0.0 < beta < float("inf"):
        raise InputError(f"format=implicit: beta is {given!r}; give a number above 0")
    return options[REFERENCE], beta
