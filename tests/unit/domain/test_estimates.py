"""Figures and their errors against what can be worked out by hand, and against drawing again."""

import math
import random
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.stats.estimates import Estimate, Figure, mean_over_seeds, share

RIGHT, WRONG = 1.0, 0.0


def crossed(generator: random.Random, num_seeds: int, num_problems: int, seed_effect: float) -> list[list[float]]:
    """Return outcomes by seed and problem; problems differ in difficulty, seeds in luck."""
    difficulties = [generator.random() for _ in range(num_problems)]
    luck = [generator.gauss(0.0, seed_effect) for _ in range(num_seeds)]
    return [[float(generator.random() < chance + own) for chance in difficulties] for own in luck]


def test_a_share_has_the_binomial_error() -> None:
    found = Figure.of([RIGHT] * 3 + [WRONG]).estimate
    assert (found.value, found.n, found.error_over) == (0.75, 4, "problems")
    assert found.standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    assert share(3, 4) == found
    assert Figure.of([RIGHT, RIGHT]).estimate.standard_error == 0.0


@pytest.mark.parametrize("groups", [(), ((),), (((),),), (((1.0,), ()),)])
def test_a_figure_needs_outcomes(groups: tuple[tuple[tuple[float, ...], ...], ...]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Figure(groups)


def test_a_single_outcome_has_no_error() -> None:
    assert Figure.of([RIGHT]).estimate == Estimate(1.0, 0.0, 1)


def test_differences_use_the_pairs() -> None:
    first, second = Figure.of([RIGHT, RIGHT, WRONG, WRONG]), Figure.of([RIGHT, WRONG, WRONG, WRONG])
    change = first.minus(second)
    assert (change.value, change.standard_error) == (0.25, pytest.approx(0.25))
    unpaired = math.hypot(first.estimate.standard_error, second.estimate.standard_error)
    assert change.standard_error < unpaired
    assert first.minus(first) == Estimate(0.0, 0.0, 4)


@pytest.mark.parametrize("other", [[[RIGHT]], [[RIGHT, WRONG], [WRONG, WRONG]]])
def test_what_was_measured_on_other_problems_is_not_compared(other: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="as many seeds and problems"):
        Figure.of([RIGHT, WRONG]).minus(Figure.over_seeds(other, same_problems=True))


def test_a_difference_in_standard_errors() -> None:
    assert Estimate(0.1, 0.05, 100).in_standard_errors == pytest.approx(2.0)
    assert Estimate(0.0, 0.0, 1).in_standard_errors == 0.0
    assert Estimate(-0.5, 0.0, 1).in_standard_errors == -math.inf


def test_problems_of_their_own_are_counted_by_seed() -> None:
    found = Figure.over_seeds([[RIGHT, WRONG], [RIGHT, RIGHT]], same_problems=False).estimate
    assert (found.value, found.n, found.error_over) == (0.75, 4, "problems and seeds")
    assert found.standard_error == pytest.approx(0.25), "the spread of the seeds, 0.5 and 1.0"
    level = Figure.over_seeds([[RIGHT, WRONG], [WRONG, RIGHT]], same_problems=False).estimate
    assert level.standard_error == pytest.approx(math.sqrt(2 * 0.25) / 2), "seeds that agree by chance"


def test_the_same_problems_count_once() -> None:
    once = Figure.of([RIGHT, WRONG, RIGHT, RIGHT]).estimate
    thrice = Figure.over_seeds([[RIGHT, WRONG, RIGHT, RIGHT]] * 3, same_problems=True).estimate
    assert (thrice.value, thrice.n) == (once.value, once.n)
    assert thrice.standard_error == pytest.approx(once.standard_error)


def test_seeds_and_problems_both_widen_the_error() -> None:
    rows = [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
    found = Figure.over_seeds(rows, same_problems=True).estimate
    over_seeds = (0.125**2 * 2) / 2
    over_problems = (2 * 0.375**2 + 0.125**2 + 0.625**2) / 3 / 4
    noise = 8 * ((0.125**2 * 6 + 0.375**2 * 2) / 8) / 3 / 8
    assert found.standard_error == pytest.approx(math.sqrt(over_seeds + over_problems - noise))


@pytest.mark.parametrize("seed_effect", [0.0, 0.1])
def test_the_error_is_that_of_drawing_problems_and_seeds_again(seed_effect: float) -> None:
    generator = random.Random(2)
    found = [
        Figure.over_seeds(crossed(generator, 3, 60, seed_effect), same_problems=True).estimate for _ in range(1500)
    ]
    true = pvariance([one.value for one in found])
    estimated = fmean(one.standard_error**2 for one in found)
    assert 0.9 < estimated / true < 1.3, "right on average, and rather too wide than too narrow"


def test_groups_are_fixed_and_weigh_by_their_size() -> None:
    first, second = ((RIGHT, WRONG),), ((RIGHT, RIGHT, RIGHT, WRONG, WRONG, WRONG),)
    found = Figure((first, second)).estimate
    errors = [Figure((one,)).estimate.standard_error for one in (first, second)]
    assert (found.value, found.n) == (0.5, 8)
    assert found.standard_error == pytest.approx(math.hypot(0.25 * errors[0], 0.75 * errors[1]))


def test_a_mixture_lies_between_its_parts() -> None:
    first, second = Figure.of([RIGHT, WRONG, WRONG, WRONG]), Figure.of([RIGHT, RIGHT, RIGHT, WRONG])
    assert first.mixed(second, 0.25).estimate.value == pytest.approx(0.75 * 0.25 + 0.25 * 0.75)
    assert first.mixed(second, 0.0).estimate == first.estimate


def test_figures_of_seeds_are_averaged() -> None:
    found = mean_over_seeds([Estimate(0.6, 0.01, 50), Estimate(0.6, 0.01, 50), Estimate(0.6, 0.01, 50)])
    assert (found.value, found.n) == (pytest.approx(0.6), 150)
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(3)), "seeds that agree by chance"
    apart = mean_over_seeds([Estimate(0.5, 0.01, 50), Estimate(0.7, 0.01, 50)])
    assert apart.standard_error == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least one"):
        mean_over_seeds([])


def test_the_interval_is_wilsons() -> None:
    # 0 of 10 and 5 of 10, as in Brown, Cai and DasGupta (2001)
    assert share(0, 10).interval == (0.0, pytest.approx(0.2775, abs=1e-3))
    low, high = share(5, 10).interval
    assert (low, high) == (pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_interval_holds_the_share_and_lies_within_0_and_1(num_right: int, num_wrong: int) -> None:
    if num_right + num_wrong:
        found = share(num_right, num_right + num_wrong)
        low, high = found.interval
        assert 0.0 <= low <= found.value + 1e-12 and found.value <= high + 1e-12 and high <= 1.0


@pytest.mark.parametrize(
    ("num_right", "n", "text"),
    [(514, 1000, "51.4 % ± 1.6"), (3, 20, "15.0 % [5.2, 36.0]"), (200, 200, "100.0 % [98.1, 100.0]")],
)
def test_a_share_is_shown_with_its_error_or_with_its_interval(num_right: int, n: int, text: str) -> None:
    assert share(num_right, n).as_percent() == text
