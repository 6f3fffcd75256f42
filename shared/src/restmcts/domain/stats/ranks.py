"""Statistics of order: ranks, the area under the ROC curve, Spearman's correlation."""

import math
from collections.abc import Sequence


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
