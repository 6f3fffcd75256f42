"""What the users of a run must know of its value models: sentences on promoted ones whose values
are no better than chance, or that nobody could measure.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from restmcts.domain.text import counted

CHANCE = 0.5
_ERRORS_OF_95_PERCENT = 1.96
_AUC, _SIBLINGS = "auc", "sibling accuracy"


class EndedPhase(Protocol):
    """A phase of a run, as far as it is read here."""

    @property
    def result(self) -> Mapping[str, Any]:
        """What it says of itself once it has ended."""


def value_warnings(phases: Sequence[EndedPhase], mark: str = "") -> list[str]:
    """Return a sentence for each value model that was promoted though held-out trees show its
    values no better than chance, or show nothing.

    Args:
        phases: of one run; those that decided on no value model say nothing.
        mark: the word behind each: "unchecked", or nothing.
    """
    behind = f" ({mark})" if mark else ""
    return [f"{sentence}{behind}" for phase in phases for sentence in _about(phase.result)]


def _about(decision: Mapping[str, Any]) -> Iterator[str]:
    figures = decision.get("figures") or {}
    if not decision.get("promoted") or _AUC not in figures:
        return
    name = decision["candidate"]
    auc, siblings = ((figures.get(each) or {}).get("candidate") for each in (_AUC, _SIBLINGS))
    if auc is None:
        yield (
            f"{name} was promoted without being measured: the held-out trees do not have both steps that led to a "
            "right answer and steps that did not"
        )
    elif _highest(auc) < CHANCE:
        yield (
            f"{name} was promoted though its values are worse than chance: {_of_auc(auc)}; "
            "a search that follows them is led away from right answers"
        )
    elif _lowest(auc) <= CHANCE:
        yield (
            f"{name} was promoted though its values are no better than chance: {_of_auc(auc)}; "
            "a search gains nothing from them until it learns from more trees or better labels"
        )
    elif siblings is not None and _lowest(siblings) <= CHANCE:
        yield (
            f"{name} distinguishes right steps from wrong ones (AUC {auc['value']:.2f}), but not among next steps after the "
            f"same ones: it prefers the right one in {_percent(siblings)} of the pairs on {_trees(siblings)} "
            "(50 % is a guess), so that a search chooses between siblings by chance"
        )


def _of_auc(figure: Mapping[str, float]) -> str:
    return (
        f"on {_trees(figure)} a step that led to a right answer has a higher value than one that did not "
        f"with chance {figure['value']:.2f} ± {figure['standard_error']:.2f} (AUC; 0.50 is a guess)"
    )


def _trees(figure: Mapping[str, float]) -> str:
    """Return on how many trees it was measured; earlier versions did not store that."""
    return f"{counted(int(figure['n']), 'held-out tree')}" if "n" in figure else "held-out trees"


def _percent(figure: Mapping[str, float]) -> str:
    return f"{100 * figure['value']:.1f} % ± {100 * figure['standard_error']:.1f}"


def _lowest(figure: Mapping[str, float]) -> float:
    return figure["value"] - _ERRORS_OF_95_PERCENT * figure["standard_error"]


def _highest(figure: Mapping[str, float]) -> float:
    return figure["value"] + _ERRORS_OF_95_PERCENT * figure["standard_error"]
