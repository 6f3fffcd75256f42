"""A figure with its standard error, by one rule for every report: what is measured on problems,
with one or several seeds, and differences of two figures paired by seed and problem.

The rule is in docs/decisions/0021-one-rule-for-errors.md. Pure arithmetic; knows nothing of
models, runs or pages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

PROBLEMS = "problems"
PROBLEMS_AND_SEEDS = "problems and seeds"

NORMAL_FROM = 5
"""Outcomes of each kind from which a share is shown with its standard error."""

_ERRORS_OF_95_PERCENT = 1.96

Rows = tuple[tuple[float, ...], ...]
"""Contributions by seed and problem."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, or a difference of two, with its error.

    Attributes:
        standard_error: 0 where nothing varied, and where there is one observation only; of a share
            `interval` is right there too.
        n: independent observations: problems, or trees, or answers. What several seeds found on
            one problem counts once.
        error_over: what the standard error is over, "problems" or "problems and seeds".
    """

    value: float
    standard_error: float
    n: int
    error_over: str = PROBLEMS

    @property
    def in_standard_errors(self) -> float:
        """The value divided by its standard error; 0 for the value 0, infinite where only the
        error is 0.
        """
        if self.value == 0.0:
            return 0.0
        return self.value / self.standard_error if self.standard_error > 0.0 else math.copysign(math.inf, self.value)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of a share, Wilson's: it holds for few observations too.

        Its number of observations is the one that would give the standard error in one seed,
        and `n` where the error is 0 (Wilson, J. Am. Stat. Assoc. 22, 1927).
        """
        z, num = _ERRORS_OF_95_PERCENT, self._effective_n
        centre = self.value + z**2 / (2 * num)
        spread = z * math.sqrt(self.value * (1.0 - self.value) / num + z**2 / (4 * num**2))
        whole = 1.0 + z**2 / num
        return max((centre - spread) / whole, 0.0), min((centre + spread) / whole, 1.0)

    @property
    def shown_interval(self) -> tuple[float, float]:
        """The interval that is shown of a share: one standard error on either side; its 95 %
        interval where fewer than five observations are of one kind.
        """
        if self._is_extreme:
            return self.interval
        return self.value - self.standard_error, self.value + self.standard_error

    def as_percent(self) -> str:
        """Return a share as text: `51.4 % ± 1.6` with its standard error; `15.0 % [5.2, 36.0]`
        with its interval where fewer than five observations are of one kind.
        """
        if self._is_extreme:
            low, high = self.interval
            return f"{100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        return f"{100 * self.value:.1f} % ± {100 * self.standard_error:.1f}"

    def as_decimal(self) -> str:
        """Return an AUC as text: `0.46 ± 0.02`, or `1.00 [0.70, 1.00]` by the same rule."""
        if self._is_extreme:
            low, high = self.interval
            return f"{self.value:.2f} [{low:.2f}, {high:.2f}]"
        return f"{self.value:.2f} ± {self.standard_error:.2f}"

    @property
    def _is_extreme(self) -> bool:
        return min(self.value, 1.0 - self.value) * self._effective_n < NORMAL_FROM

    @property
    def _effective_n(self) -> float:
        """The number of problems of one seed that would give this standard error."""
        spread = self.value * (1.0 - self.value)
        return 1.0 + spread / self.standard_error**2 if self.standard_error > 0.0 and spread > 0.0 else float(self.n)


@dataclass(frozen=True, slots=True)
class Figure:
    """What each problem contributes to a figure, which is the mean of all contributions.

    For a share a contribution is 1 or 0. For a figure that is no mean (an AUC) it is the figure
    plus the problem's influence on it, times the number of problems: the figure's linear part, to
    which the delta method gives the same error.

    Attributes:
        groups: contributions by group, seed and problem. Groups are fixed (the evaluations that
            are pooled); problems and seeds within them were drawn.
        same_problems: whether the seeds of a group had the same problems in the same order.
    """

    groups: tuple[Rows, ...]
    same_problems: bool = True

    def __post_init__(self) -> None:
        if not self.groups or not all(rows and all(rows) for rows in self.groups):
            raise ValueError("a figure needs at least one outcome")
        if self.same_problems and any(len({len(row) for row in rows}) > 1 for rows in self.groups):
            raise ValueError("seeds with the same problems need as many outcomes")

    @classmethod
    def of(cls, contributions: Sequence[float]) -> "Figure":
        """Return the figure of one seed from its contributions, one a problem.

        Raises:
            ValueError: if there are none.
        """
        return cls(((tuple(map(float, contributions)),),))

    @classmethod
    def over_seeds(cls, contributions: Sequence[Sequence[float]], *, same_problems: bool) -> "Figure":
        """Return the figure of several seeds from contributions by seed and problem.

        Raises:
            ValueError: if there are none, or a seed has none.
        """
        return cls((tuple(tuple(map(float, row)) for row in contributions),), same_problems)

    @property
    def estimate(self) -> Estimate:
        """The mean with its standard error, every contribution weighing the same."""
        sizes = [sum(map(len, rows)) for rows in self.groups]
        value = math.fsum(x for rows in self.groups for row in rows for x in row) / sum(sizes)
        shares = [size / sum(sizes) for size in sizes]
        spread = math.fsum(
            share**2 * _variance(rows, self.same_problems) for share, rows in zip(shares, self.groups, strict=True)
        )
        n = sum(len(rows[0]) if self.same_problems else sum(map(len, rows)) for rows in self.groups)
        return Estimate(value, math.sqrt(spread), n, _error_over(max(map(len, self.groups))))

    def minus(self, other: "Figure") -> Estimate:
        """Return how far this figure lies above another, paired by group, seed and problem.

        Raises:
            ValueError: if the two were not measured on as many problems and seeds.
        """
        return self._with(other, 1.0, -1.0).estimate

    def mixed(self, other: "Figure", share: float) -> "Figure":
        """Return the figure of a mixture that takes `share` in [0, 1] of its outcomes from the
        other.

        Raises:
            ValueError: if the two were not measured on as many problems and seeds.
        """
        return self._with(other, 1.0 - share, share)

    def _with(self, other: "Figure", weight: float, other_weight: float) -> "Figure":
        if self.shape != other.shape:
            raise ValueError("figures that are compared need as many seeds and problems, in the same order")
        return Figure(
            tuple(
                tuple(
                    tuple(weight * x + other_weight * y for x, y in zip(row, other_row, strict=True))
                    for row, other_row in zip(rows, other_rows, strict=True)
                )
                for rows, other_rows in zip(self.groups, other.groups, strict=True)
            ),
            self.same_problems,
        )

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """The number of problems of each seed of each group."""
        return tuple(tuple(map(len, rows)) for rows in self.groups)


def share(num_right: int, n: int) -> Estimate:
    """Return the share of right ones among n problems.

    Raises:
        ValueError: if there are no problems.
    """
    return Figure.of([1.0] * num_right + [0.0] * (n - num_right)).estimate


def pooled_share(counts: Sequence[tuple[float, int]]) -> Estimate:
    """Return the share of all steps of several problems that count, its error over problems (delta
    method, as for any ratio of sums).

    Args:
        counts: by problem how many of its steps count, and how many it has.

    Raises:
        ValueError: if there are no steps.
    """
    total = sum(num for _, num in counts)
    if not total:
        raise ValueError("a share needs at least one step")
    value = sum(hits for hits, _ in counts) / total
    return Figure.of([value + len(counts) * (hits - value * num) / total for hits, num in counts]).estimate


def mean_over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of one figure over seeds, each of which has its own problems.

    Raises:
        ValueError: if there are none.
    """
    if not estimates:
        raise ValueError("a mean needs at least one figure")
    num_seeds = len(estimates)
    values = [one.value for one in estimates]
    over_problems = math.fsum(one.standard_error**2 for one in estimates) / num_seeds**2
    error = math.sqrt(max(_spread(values), over_problems))
    return Estimate(fmean(values), error, sum(one.n for one in estimates), _error_over(num_seeds))


def _error_over(num_seeds: int) -> str:
    return PROBLEMS_AND_SEEDS if num_seeds > 1 else PROBLEMS


def _variance(rows: Rows, same_problems: bool) -> float:
    """Return the variance of the mean of one group: that of a two-way table whose seeds and
    problems were both drawn.
    """
    seed_means = [fmean(row) for row in rows]
    over_seeds = _spread(seed_means)
    if not same_problems:
        # The spread of the seeds' means holds that of their problems.
        return max(over_seeds, math.fsum(map(_spread, rows)) / len(rows) ** 2)
    problem_means = [fmean(column) for column in zip(*rows, strict=True)]
    over_problems = _spread(problem_means)
    noise = _noise(rows, seed_means, problem_means)
    # Both hold the noise of single outcomes. Few seeds may agree by chance: never below either.
    return max(over_seeds, over_problems, over_seeds + over_problems - noise)


def _noise(rows: Rows, seed_means: Sequence[float], problem_means: Sequence[float]) -> float:
    """Return the variance of the mean that comes from single outcomes, neither seed nor
    problem.
    """
    degrees = (len(seed_means) - 1) * (len(problem_means) - 1)
    if not degrees:
        return 0.0
    whole = fmean(seed_means)
    residuals = math.fsum(
        (x - seed_mean - problem_mean + whole) ** 2
        for row, seed_mean in zip(rows, seed_means, strict=True)
        for x, problem_mean in zip(row, problem_means, strict=True)
    )
    return residuals / degrees / (len(seed_means) * len(problem_means))


def _spread(values: Sequence[float]) -> float:
    """Return the variance of the mean of independent values (n - 1 below their squares)."""
    if len(values) == 1:
        return 0.0
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) * (len(values) - 1))
