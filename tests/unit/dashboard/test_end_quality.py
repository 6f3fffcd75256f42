"""Figures of a run's page that are computed from counts."""

import random
from collections import Counter
from statistics import fmean

import pytest
from restmcts.adapters.sql.reads.end_quality import EndCounts, area_of
from restmcts.domain.runs.promotion import HeldOutStep, auc
from restmcts.domain.stats.estimates import share
from restmcts.reporting.line_charts import Point, Series, accuracy_axis, line_chart, number_axis


def test_the_auc_of_counted_ends_is_that_of_the_ends_with_its_error_over_trees() -> None:
    draw = random.Random(0)
    trees = []
    for _ in range(40):
        ease = draw.random()
        ends = [(round(min(ease, draw.random()), 1), draw.random() < ease) for _ in range(draw.randint(1, 9))]
        trees.append([HeldOutStep(0, value, is_right) for value, is_right in ends])
    counted = Counter((place, step.value, step.is_right) for place, tree in enumerate(trees) for step in tree)
    places = dict.fromkeys((place, value) for place, value, _ in counted)
    counts = [EndCounts(*at, counted[*at, True], counted[*at, False]) for at in places]
    draw.shuffle(counts)
    found, expected = area_of(counts), auc(trees)
    assert found is not None and expected is not None
    assert found.auc.value == pytest.approx(expected.estimate.value)
    assert found.auc.standard_error == pytest.approx(expected.estimate.standard_error)
    assert (found.auc.n, found.num_right + found.num_wrong) == (40, sum(map(len, trees)))
    assert 0.5 < found.auc.value < 0.95 and fmean(map(len, trees)) > 2


def test_ends_of_one_kind_have_no_auc() -> None:
    assert area_of([EndCounts(1, 0.5, 3, 0), EndCounts(2, 0.1, 1, 0)]) is None


def test_error_bars_and_the_last_tick_are_within_the_picture() -> None:
    series = [Series("Policy", (Point(0.0, 0.2, 0.1), Point(300_000.0, 0.4, 0.1)))]
    drawn = line_chart("c", number_axis("Tokens", [0.0, 300_000.0], floor=0.0), accuracy_axis(series), series)
    axis = drawn.partition('<path class="axis" d="M58 ')[0]
    assert axis != drawn and '<path class="error" d="M66.0 ' in drawn, "beside the axis, not on it"
    assert '<text class="tick end" x="558" y="301">300,000</text>' in drawn


@pytest.mark.parametrize(("num_right", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_a_share_of_none_or_all_has_an_error_bar_within_the_axis(num_right: int, low: float, high: float) -> None:
    point = Point.of(0.0, share(num_right, 10))
    assert point.bar == pytest.approx((low, high), abs=1e-4)
    series = [Series("Policy", (point,))]
    axis = accuracy_axis(series)
    assert axis.low <= low and axis.high >= high
    assert '<path class="error" d="M' in line_chart("c", number_axis("Tokens", [0.0, 1.0]), axis, series)
