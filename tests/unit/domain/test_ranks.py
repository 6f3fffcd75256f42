import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.stats.ranks import area_under_curve, average_ranks, rank_correlation

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)


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
