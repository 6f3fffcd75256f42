"""Which problems are worth a tree once a few samples of each are verified, and how large it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.runs.allocation import ProbedProblem, budget_of_open
from restmcts.domain.search.protocol import Budget


@pytest.mark.parametrize(
    ("num_right", "searched_in_vain", "is_open"),
    [(2, False, False), (2, True, False), (1, False, True), (1, True, True), (0, False, True), (0, True, False)],
)
def test_what_is_settled_or_hopeless_is_not_searched(num_right: int, searched_in_vain: bool, is_open: bool) -> None:
    assert ProbedProblem(2, num_right, searched_in_vain).is_open is is_open


def test_a_problem_without_a_sample_is_open() -> None:
    assert ProbedProblem(0, 0).is_open


@given(
    limit=st.integers(1, 500),
    num_problems=st.integers(1, 300),
    share=st.floats(0.0, 1.0),
    spent=st.floats(0.0, 1.0),
)
def test_the_whole_spends_what_a_tree_a_problem_would(
    limit: int, num_problems: int, share: float, spent: float
) -> None:
    num_open = max(round(share * num_problems), 1)
    tokens = int(spent * limit * num_problems)
    found = budget_of_open(Budget(tokens=limit, nodes=7), num_problems, num_open, tokens, 0)
    assert found.tokens is not None and found.nodes == 7 and found.iterations is None
    left = limit * num_problems - tokens
    assert found.tokens == 1 or left - num_open < found.tokens * num_open <= left


def test_rounds_are_divided_as_tokens_are() -> None:
    assert budget_of_open(Budget(iterations=10), 6, 3, 999, 12) == Budget(iterations=16)
