"""Accuracies of methods over several seeds, with the errors that seeds and problems give them,
and paired differences.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.stats.statistics import mean_and_standard_error


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A mean over seeds and problems.

    Attributes:
        over_seeds: its standard error from the spread of the seeds' means, which holds that of
            their problems too; 0 for one seed.
        over_problems: its standard error from the spread of the problems, as if the seeds were all
            there are.
    """

    value: float
    over_seeds: float
    over_problems: float

    @property
    def standard_error(self) -> float:
        """The greater of the two: few seeds may agree by chance."""
        return max(self.over_seeds, self.over_problems)

    @property
    def in_standard_errors(self) -> float:
        if self.value == 0.0:
            return 0.0
        return self.value / self.standard_error if self.standard_error else math.copysign(math.inf, self.value)


def mean_over_seeds(outcomes: Sequence[Sequence[bool]], *, same_problems: bool) -> SeedMean:
    """Return the accuracy of outcomes by seed and problem; `same_problems`: each seed has the same
    ones in the same order.

    Raises:
        ValueError: if a seed has no outcomes, or there is no seed.
    """
    return _mean([[float(outcome) for outcome in seed] for seed in outcomes], same_problems)


def paired_over_seeds(
    first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]], *, same_problems: bool
) -> SeedMean:
    """Return first minus second, paired by seed and problem.

    Raises:
        ValueError: if seeds or problems differ in number, or there are none.
    """
    differences = [
        [float(a) - float(b) for a, b in zip(one, other, strict=True)] for one, other in zip(first, second, strict=True)
    ]
    return _mean(differences, same_problems)


def _mean(rows: Sequence[Sequence[float]], same_problems: bool) -> SeedMean:
    by_seed = [mean_and_standard_error(row) for row in rows]
    value, over_seeds = mean_and_standard_error([mean for mean, _ in by_seed])
    if same_problems:
        _, over_problems = mean_and_standard_error(
            [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
        )
    else:
        over_problems = math.hypot(*(error for _, error in by_seed)) / len(rows)
    return SeedMean(value, over_seeds, over_problems)
