import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.stats.statistics import (
    Accuracy,
    Difference,
    accuracy,
    area_under_curve,
    average_ranks,
    mean_and_standard_error,
    paired_difference,
    rank_correlation,
    unpaired_difference,
)

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)


def test_accuracy_has_the_binomial_error() -> None:
    measured = accuracy([True] * 3 + [False])
    assert measured == Accuracy(0.75, math.sqrt(0.75 * 0.25 / 4), 4)
    assert accuracy([True, True]).standard_error == 0.0
    with pytest.raises(ValueError, match="at least one"):
        accuracy([])


def test_unpaired_difference_adds_variances() -> None:
    change = unpaired_difference(Accuracy(0.6, 0.03, 100), Accuracy(0.5, 0.04, 100))
    assert change.value == pytest.approx(0.1) and change.standard_error == pytest.approx(0.05)
    assert change.in_standard_errors == pytest.approx(2.0)


def test_paired_difference_uses_the_pairs() -> None:
    change = paired_difference([True, True, False, False], [True, False, False, False])
    assert change.value == 0.25 and change.standard_error == pytest.approx(math.sqrt(0.1875 / 4))
    assert paired_difference([True, False], [True, False]) == Difference(0.0, 0.0)


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_paired_difference_needs_pairs(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        paired_difference(first, second)


def test_independent_outcomes_pair_as_if_unpaired() -> None:
    generator = random.Random(0)
    first = [generator.random() < 0.6 for _ in range(20_000)]
    second = [generator.random() < 0.4 for _ in range(20_000)]
    unpaired = unpaired_difference(accuracy(first), accuracy(second))
    assert paired_difference(first, second).standard_error == pytest.approx(unpaired.standard_error, rel=0.02)


def test_difference_without_an_error() -> None:
    assert Difference(0.0, 0.0).in_standard_errors == 0.0
    assert Difference(0.5, 0.0).in_standard_errors == math.inf
    assert Difference(-0.5, 0.0).in_standard_errors == -math.inf


def test_mean_and_standard_error() -> None:
    assert mean_and_standard_error([1.0, 3.0]) == (2.0, 1.0)
    assert mean_and_standard_error([5.0]) == (5.0, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        mean_and_standard_error([])


def test_ranks_share_ties() -> None:
    assert average_ranks([10.0, 20.0, 10.0, 30.0]) == [1.5, 3.0, 1.5, 4.0]
    assert average_ranks([]) == []
    with pytest.raises(ValueError, match="nan"):
        average_ranks([math.nan, 1.0])


@given(scores, st.randoms(use_true_random=False))
def test_area_is_the_share_of_ordered_pairs_with_ties_half(values: list[float], generator: random.Random) -> None:
    positive = [generator.random() < 0.5 for _ in values]
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, is_a in zip(values, positive, strict=True)
        for b, is_b in zip(values, positive, strict=True)
        if is_a and not is_b
    ]
    area = area_under_curve(values, positive)
    assert area is None if not wins else area == pytest.approx(sum(wins) / len(wins))


def test_area_needs_a_kind_for_every_score() -> None:
    with pytest.raises(ValueError, match="2 scores but 1 kinds"):
        area_under_curve([0.1, 0.2], [True])


def test_rank_correlation_of_monotone_curves() -> None:
    values = [0.1, 0.5, 0.7, 0.9]
    assert rank_correlation(values, [value**3 for value in values]) == pytest.approx(1.0)
    assert rank_correlation(values, [-value for value in values]) == pytest.approx(-1.0)
    assert rank_correlation(values, [1.0] * 4) is None
    assert rank_correlation([], []) is None


def test_rank_correlation_with_ties_by_hand() -> None:
    # ranks 1.5 1.5 3 4 and 1 2 3.5 3.5, centred on 2.5: products sum to 4, squares to 4.5 each
    assert rank_correlation([1, 1, 2, 3], [1, 2, 3, 3]) == pytest.approx(4 / 4.5)


@given(scores)
def test_rank_correlation_with_itself_is_one(values: list[float]) -> None:
    correlation = rank_correlation(values, values)
    assert correlation is None if len(set(values)) == 1 else correlation == pytest.approx(1.0)
