"""From the values of steps to the answer of a scoring request, and to one score of a whole
solution. Knows no models.
"""

import math
from collections.abc import Sequence
from typing import Literal

from restmcts.domain.requests import ScoreSteps, StepsScored

Aggregation = Literal["last", "min", "mean", "product"]


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
