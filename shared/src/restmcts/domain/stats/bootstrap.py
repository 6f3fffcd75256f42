"""The paired bootstrap over problems and seeds: all methods are measured on the same resamples,
so that differences are paired.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from restmcts.domain.stats.statistics import Accuracy, Difference

NUM_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """A mean, and the same mean on every resample."""

    value: float
    resampled: tuple[float, ...]
    num_outcomes: int

    @property
    def accuracy(self) -> Accuracy:
        return Accuracy(self.value, _spread(self.resampled), self.num_outcomes)

    def minus(self, other: "Figures") -> Difference:
        """Return the difference of two means with its standard error, both taken on the same
        resamples.
        """
        differences = [first - second for first, second in zip(self.resampled, other.resampled, strict=True)]
        return Difference(self.value - other.value, _spread(differences))

    def mixed(self, other: "Figures", share: float) -> "Figures":
        """Return the mean of a mixture that takes `share` in [0, 1] of its outcomes from the
        other.
        """
        resampled = tuple((1.0 - share) * a + share * b for a, b in zip(self.resampled, other.resampled, strict=True))
        return Figures((1.0 - share) * self.value + share * other.value, resampled, self.num_outcomes)


class Resampling:
    """Draws of problems, and of seeds, with replacement, group by group; the same for whatever is
    measured on it.

    Attributes:
        shape: (number of seeds, number of problems) of each group.
    """

    def __init__(self, shape: tuple[tuple[int, int], ...], seed: int, num_resamples: int = NUM_RESAMPLES) -> None:
        self.shape = shape
        generator = random.Random(seed)
        self._draws = [
            [(_counts(generator, num_seeds), _counts(generator, num_problems)) for num_seeds, num_problems in shape]
            for _ in range(num_resamples)
        ]

    def figures(self, table: Sequence[Sequence[Sequence[float]]]) -> Figures:
        """Return the mean of a table by group, seed and problem, every outcome weighing the same.

        Raises:
            ValueError: if the table has another shape.
        """
        if tuple((len(group), len(group[0])) for group in table) != self.shape:
            raise ValueError("the table has another shape than its resampling")
        num_outcomes = sum(num_seeds * num_problems for num_seeds, num_problems in self.shape)
        whole = math.fsum(sum(row) for group in table for row in group) / num_outcomes
        resampled = tuple(
            sum(
                times * sum(map(mul, row, problems))
                for group, (seeds, problems) in zip(table, draw, strict=True)
                for row, times in zip(group, seeds, strict=True)
                if times
            )
            / num_outcomes
            for draw in self._draws
        )
        return Figures(whole, resampled, num_outcomes)


def _counts(generator: random.Random, num_members: int) -> list[int]:
    """Return how often each member is drawn in as many draws as there are members."""
    drawn = Counter(generator.choices(range(num_members), k=num_members))
    return [drawn[member] for member in range(num_members)]


def _spread(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
