"""What the users of a run must know of its checkpoints: sentences on value models whose values are
no better than chance, or that nobody could measure, and on promotions that few problems decided, or
none.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.separation import CHANCE, is_above_chance
from restmcts.domain.text import counted

_ERRORS_OF_95_PERCENT = 1.96
_AUC, _SIBLINGS, _ACCURACY = "auc", "sibling accuracy", "accuracy"

FEW = 20
"""Problems or trees below which a promotion shows large differences alone."""

MAX_NAMED = 4


class EndedPhase(Protocol):
    """A phase of a run, as far as it is read here."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def kind(self) -> str:
        """What it does."""

    @property
    def iteration(self) -> int:
        """Of the run; 0 before the first."""

    @property
    def result(self) -> Mapping[str, Any]:
        """What it says of itself once it has ended."""


def value_warnings(phases: Sequence[EndedPhase], mark: str = "") -> list[str]:
    """Return a sentence for each value model that was promoted though held-out trees show its
    values no better than chance, or show nothing; and what must be said of the run's promotions.

    Args:
        phases: of one run.
        mark: the word behind each sentence on values: "unchecked", or nothing.
    """
    behind = f" ({mark})" if mark else ""
    of_values = [f"{sentence}{behind}" for phase in phases for sentence in _about(phase.result)]
    return [*of_values, *_about_promotions(phases)]


def end_warnings(areas: Mapping[str, Estimate], mark: str = "") -> list[str]:
    """Return a sentence if the values that guided searches order verified ends no better than
    chance; a few trees show neither.

    Args:
        areas: by the name of a search, the chance that a right end has a higher value than a wrong
            one (AUC).
        mark: the word behind it: "unchecked", or nothing.
    """
    found = [
        f"{area.as_decimal()} in {name}" for name, area in areas.items() if area.n >= FEW and not is_above_chance(area)
    ]
    if not found:
        return []
    behind = f" ({mark})" if mark else ""
    return [
        "The value model is not better than chance: a right end has a higher value than a wrong one with chance "
        f"{_first_of(found)} (AUC; 0.50 is a guess; ± is one standard error over trees){behind}"
    ]


def _about_promotions(phases: Sequence[EndedPhase]) -> Iterator[str]:
    gates = [phase for phase in phases if phase.kind == "gate"]
    if not gates and any(
        phase.kind == "train-policy" and phase.iteration > 0 and phase.result.get("trained") for phase in phases
    ):
        yield (
            "No new checkpoint is compared with the one before it, as no problem is held out for that: the run goes on "
            "with each, better or worse"
        )
    few = [f"{gate.name} on {counted(number, what)}" for gate in gates for number, what in _few(gate.result)]
    if few:
        yield (
            f"Promotions were decided on few problems: {_first_of(few)}; only large differences show there, and a worse "
            "checkpoint may be promoted. More problems are held out with a larger promotion.num_problems, at most "
            "one in ten, and of puzzles with a larger puzzles.held_out"
        )


def _first_of(found: Sequence[str]) -> str:
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return f"{', '.join(found[:MAX_NAMED])}{more}"


def _few(decision: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield on how many problems or trees a promotion decided, if they are few."""
    for name, what in ((_ACCURACY, "problem"), (_AUC, "tree")):
        figure = (decision.get("figures", {}).get(name) or {}).get("candidate")
        if figure is not None and figure.get("n", FEW) < FEW:
            yield int(figure["n"]), f"held-out {what}"


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
