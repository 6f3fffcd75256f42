"""Problems by how often samples solve them, and what a search finds in each row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.stats.spread import ProbedOutcome, spread_of

OUTCOMES = st.lists(st.builds(ProbedOutcome, st.integers(0, 4), st.booleans()), min_size=1, max_size=60)


def test_each_row_says_what_the_search_finds_in_it() -> None:
    outcomes = [ProbedOutcome(0, True), ProbedOutcome(0, False), ProbedOutcome(1, True), ProbedOutcome(2, True)]
    spread = spread_of(outcomes, 2)
    assert [(band.num_right, band.num_problems, band.share.value) for band in spread.bands] == [
        (0, 2, 0.5),
        (1, 1, 0.25),
        (2, 1, 0.25),
    ]
    assert [band.search_solved and band.search_solved.value for band in spread.bands] == [0.5, 1.0, 1.0]
    assert spread.solve_rate.value == pytest.approx(3 / 8)
    assert spread.search_is_ahead.value == pytest.approx(0.25)
    assert spread.settled.value == spread.solved_by_none.value == 0.25


def test_a_row_without_problems_has_no_figure() -> None:
    spread = spread_of([ProbedOutcome(2, True)], 2)
    assert [band.search_solved is None for band in spread.bands] == [True, True, False]


@given(OUTCOMES)
def test_rows_hold_every_problem_once_and_the_lead_is_paired(outcomes: list[ProbedOutcome]) -> None:
    spread = spread_of(outcomes, 4)
    assert sum(band.num_problems for band in spread.bands) == len(outcomes)
    solved = sum(one.search_solved for one in outcomes) - sum(one.num_right > 0 for one in outcomes)
    assert spread.search_is_ahead.value == pytest.approx(solved / len(outcomes))
    whole = spread.samples_solved.estimate.standard_error + spread.search_solved.estimate.standard_error
    assert spread.search_is_ahead.standard_error <= whole + 1e-12
