"""From the values of steps to the answer of a scoring request, and to one score of a whole
solution. Knows no models.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from restmcts.domain.requests import ScoreSteps, StepsScored

Aggregation = Literal["last", "min", "mean", "product"]
EDGE = 1e-7
"""Values nearer to 0 or 1 count as this near: float32 distinguishes no more below 1."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Values as chances: sigmoid(logit(value) / temperature + bias) (arXiv:1706.04599, Section
    4.2; with a bias it is Platt's scaling). The order of values stays as it is.

    Attributes:
        temperature: above 0; above 1 it moves values from the ends to the middle.
        bias: added to the log-odds.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.temperature < math.inf and math.isfinite(self.bias)):
            raise ValueError("a calibration has a temperature above 0 and a bias that are numbers")

    def applied(self, value: float) -> float:
        """Return the chance that a value in [0, 1] means."""
        return sigmoid(logit(value) / self.temperature + self.bias)

    def then(self, later: "Calibration") -> "Calibration":
        """Return the calibration that is this one and another after it."""
        return Calibration(self.temperature * later.temperature, self.bias / later.temperature + later.bias)


def logit(value: float) -> float:
    """Return the log-odds of a value in [0, 1]."""
    inside = min(max(value, EDGE), 1.0 - EDGE)
    return math.log(inside) - math.log1p(-inside)


def sigmoid(log_odds: float) -> float:
    """Return the chance of log-odds."""
    if log_odds >= 0.0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1.0 + odds)


def aggregate(values: Sequence[float], how: Aggregation) -> float:
    """Return a whole solution's score from the values of its K >= 1 steps."""
    if how == "last":
        return values[-1]
    if how == "min":
        return min(values)
    return math.prod(values) if how == "product" else math.fsum(values) / len(values)


def first_step(request: ScoreSteps) -> int:
    """Return the number (from 1) of the first step whose value is needed: a whole solution's
    score is made of all of them.
    """
    return 1 if request.whole else len(request.steps) + 1


def scored_branches(
    request: ScoreSteps,
    values: Sequence[Sequence[float]],
    how: Aggregation,
    num_scored_tokens: int,
    num_reused_tokens: int = 0,
) -> StepsScored:
    """Return the answer to a request.

    Args:
        values: `values[b]` is V of the steps of `steps + branches[b]` from `first_step` on.
        how: a whole solution's score is made.
    """
    of_branches = tuple(
        tuple(listed[len(listed) - len(b) :]) for b, listed in zip(request.branches, values, strict=True)
    )
    scores = tuple(aggregate(listed, how) for listed in values) if request.whole else ()
    return StepsScored(request.number, of_branches, num_scored_tokens, num_reused_tokens, scores)
