"""Whether values distinguish right steps from wrong ones: a right and a wrong next step after the
same ones, over several problems, and what the figures mean. Pure arithmetic; knows no models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from restmcts.domain.runs.promotion import HeldOutStep, auc, sibling_accuracy
from restmcts.domain.stats.estimates import Estimate

CHANCE = 0.5
END = 0.02
"""How near to an end of the range, 0 or 1, a value is called to be at it."""

SATURATED_FROM = 0.9
"""Share of pairs with both values at one end from which a model is called saturated."""

FEWEST_PROBLEMS = 10
_EQUAL = 1e-6


class Meaning(StrEnum):
    """What values say of right and wrong steps."""

    SEPARATED = "separated"
    FLIPPED = "flipped"
    CHANCE = "chance"
    FEW = "too few problems"
    CONSTANT = "constant"
    SATURATED = "saturated"


@dataclass(frozen=True, slots=True)
class StepPair:
    """The values of a right and of a wrong step that come after the same `place` steps of one
    problem's solution.
    """

    problem: int
    place: int
    right: float
    wrong: float


@dataclass(frozen=True, slots=True)
class Separation:
    """How well values distinguish right steps from wrong ones; errors are over problems.

    Attributes:
        auc: chance that a right step of any problem has a higher value than a wrong step of any,
            ties counting half.
        siblings: share of pairs in which the right step has the higher value, ties counting half.
        saturated: share of pairs with both values at the same end of the range.
        low: the lowest value.
        high: the highest.
    """

    num_pairs: int
    num_problems: int
    auc: Estimate
    siblings: Estimate
    saturated: float
    low: float
    high: float

    @property
    def meaning(self) -> Meaning:
        """What the figures say: of one that says nothing the reason, else whether it is the right
        way round. A figure counts that is above (or below) chance with its 95 % interval.
        """
        if self.high - self.low < _EQUAL:
            return Meaning.CONSTANT
        if self.saturated >= SATURATED_FROM:
            return Meaning.SATURATED
        if is_above_chance(self.auc) or is_above_chance(self.siblings):
            return Meaning.SEPARATED
        if self.auc.interval[1] < CHANCE or self.siblings.interval[1] < CHANCE:
            return Meaning.FLIPPED
        return Meaning.FEW if self.num_problems < FEWEST_PROBLEMS else Meaning.CHANCE


def is_above_chance(figure: Estimate) -> bool:
    """Return whether a figure for which 0.5 is a guess lies above it with its 95 % interval."""
    return figure.interval[0] > CHANCE


def separation(pairs: Sequence[StepPair]) -> Separation:
    """Return how well the values of pairs distinguish the right step from the wrong one.

    Raises:
        ValueError: if there is no pair.
    """
    if not pairs:
        raise ValueError("values are compared on at least one pair of steps")
    trees: dict[int, list[HeldOutStep]] = {}
    for pair in pairs:
        steps = [HeldOutStep(pair.place, pair.right, True), HeldOutStep(pair.place, pair.wrong, False)]
        trees.setdefault(pair.problem, []).extend(steps)
    overall, siblings = auc(list(trees.values())), sibling_accuracy(list(trees.values()))
    assert overall is not None and siblings is not None, "each pair has a right and a wrong step"
    values = [value for pair in pairs for value in (pair.right, pair.wrong)]
    at_one_end = sum(max(p.right, p.wrong) < END or min(p.right, p.wrong) > 1.0 - END for p in pairs)
    return Separation(
        num_pairs=len(pairs),
        num_problems=len(trees),
        auc=overall.estimate,
        siblings=siblings.estimate,
        saturated=at_one_end / len(pairs),
        low=min(values),
        high=max(values),
    )
