"""Labels of steps that two sources make together: the trees (or whoever labelled the data), and a
judge or any other model that scored the same steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from restmcts.domain.ranges import UnitInterval, check_ranges

Rule = Literal["agree", "mean"]


@dataclass(frozen=True, slots=True)
class Consensus:
    """How two labels become one.

    Attributes:
        rule: "agree": a label stays if both say that the step is right, or both that it is wrong,
            and is left out otherwise (consensus filtering, arXiv:2501.07301;
            departure: step by step, where theirs keeps or drops whole solutions); "mean": the
            weighted mean of both values.
        threshold: value from which on the judge says that a step is right.
        weight: of the judge in the mean.
    """

    rule: Rule = "agree"
    threshold: UnitInterval = 0.5
    weight: UnitInterval = 0.5

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class StepValue:
    """The value of a step as training data have it, and whether it leads to a right answer."""

    target: float
    leads_to_right: bool


def agreed(step: StepValue, judged: float, how: Consensus) -> StepValue | None:
    """Return what both say of a step; None where they do not agree.

    Args:
        judged: the judge's value of the step, in [0, 1].
    """
    if how.rule == "mean":
        target = (1.0 - how.weight) * step.target + how.weight * judged
        return StepValue(target, target >= how.threshold)
    return step if step.leads_to_right == (judged >= how.threshold) else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two sources of labels say the same.

    Attributes:
        num_right: labels that call a step right, of which the judge agrees with `agreed_right`.
        num_wrong: likewise.
    """

    num_right: int
    agreed_right: int
    num_wrong: int
    agreed_wrong: int

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: 0 as by chance, 1 always; None where one of them says one thing only."""
        num = self.num_right + self.num_wrong
        says_right = self.agreed_right + self.num_wrong - self.agreed_wrong
        if not num:
            return None
        by_chance = (self.num_right * says_right + self.num_wrong * (num - says_right)) / num**2
        seen = (self.agreed_right + self.agreed_wrong) / num
        return (seen - by_chance) / (1.0 - by_chance) if by_chance < 1.0 else None


def agreement(pairs: Sequence[tuple[StepValue, float]], threshold: float) -> Agreement:
    """Return how often labels and a judge's values say the same."""
    said = [(step.leads_to_right, judged >= threshold) for step, judged in pairs]
    right = [judged for is_right, judged in said if is_right]
    wrong = [judged for is_right, judged in said if not is_right]
    return Agreement(len(right), sum(right), len(wrong), len(wrong) - sum(wrong))
