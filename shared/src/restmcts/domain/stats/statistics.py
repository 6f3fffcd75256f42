"""The few statistics that reports and tests need. Pure Python; knows nothing of models,
problems or runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right outcomes, its standard error, and how many outcomes it is the share of."""

    value: float
    standard_error: float
    num_outcomes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a first figure lies above a second, with the standard error of that."""

    value: float
    standard_error: float

    @property
    def in_standard_errors(self) -> float:
        """The difference divided by its standard error; 0 for no difference, infinite where the
        error is 0.
        """
        if self.value == 0.0:
            return 0.0
        return self.value / self.standard_error if self.standard_error > 0.0 else math.copysign(math.inf, self.value)


def accuracy(outcomes: Sequence[bool]) -> Accuracy:
    """Return the share of true outcomes with the binomial standard error, sqrt(p (1 - p) / n).

    Raises:
        ValueError: if there are no outcomes.
    """
    if not outcomes:
        raise ValueError("an accuracy needs at least one outcome")
    value = sum(map(bool, outcomes)) / len(outcomes)
    return Accuracy(value, math.sqrt(value * (1.0 - value) / len(outcomes)), len(outcomes))


def unpaired_difference(first: Accuracy, second: Accuracy) -> Difference:
    """Return first minus second for figures measured independently of one another."""
    return Difference(first.value - second.value, math.hypot(first.standard_error, second.standard_error))


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """Return the difference of two accuracies on the same problems in the same order; its error is
    that of the mean of the per-problem differences, smaller than the unpaired one where both find
    the same problems hard.

    Raises:
        ValueError: if the lengths differ or are 0.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"paired outcomes need equal lengths above 0, got {len(first)} and {len(second)}")
    differences = [float(bool(a)) - float(bool(b)) for a, b in zip(first, second, strict=True)]
    mean = math.fsum(differences) / len(differences)
    variance = math.fsum((difference - mean) ** 2 for difference in differences) / len(differences)
    return Difference(mean, math.sqrt(variance / len(differences)))


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error (0 for a single value).

    Raises:
        ValueError: if there are no values.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def area_under_curve(scores: Sequence[float], is_positive: Sequence[bool]) -> float | None:
    """Return the chance that a random positive scores above a random negative, ties counting half
    (the AUC of the ROC curve); None where one of the two kinds is missing.

    Raises:
        ValueError: if the lengths differ, or a score is not a number.
    """
    ranks = average_ranks(scores)
    if len(scores) != len(is_positive):
        raise ValueError(f"{len(scores)} scores but {len(is_positive)} kinds")
    num_positive = sum(map(bool, is_positive))
    num_negative = len(scores) - num_positive
    if num_positive == 0 or num_negative == 0:
        return None
    rank_sum = math.fsum(rank for rank, positive in zip(ranks, is_positive, strict=True) if positive)
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties sharing their mean rank; None where either side does
    not vary.

    Raises:
        ValueError: if the lengths differ, or a value is not a number.
    """
    if len(first) != len(second):
        raise ValueError(f"a correlation needs equal lengths, got {len(first)} and {len(second)}")
    middle = (len(first) + 1) / 2
    first_ranks = [rank - middle for rank in average_ranks(first)]
    second_ranks = [rank - middle for rank in average_ranks(second)]
    spread = math.sqrt(math.fsum(rank**2 for rank in first_ranks) * math.fsum(rank**2 for rank in second_ranks))
    if spread == 0.0:
        return None
    return math.fsum(a * b for a, b in zip(first_ranks, second_ranks, strict=True)) / spread


def average_ranks(values: Sequence[float]) -> list[float]:
    """Return each value's rank from 1, equal values sharing the mean of their places.

    Raises:
        ValueError: if a value is not a number.
    """
    if any(math.isnan(value) for value in values):
        raise ValueError("a value to be ranked is not a number (nan)")
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in range(first, last + 1):
            ranks[order[place]] = (first + last) / 2 + 1
        first = last + 1
    return ranks
