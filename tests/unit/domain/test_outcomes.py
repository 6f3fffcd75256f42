"""Accuracies with errors, paired differences, compute-matched accuracies and pass@k, against what
can be worked out by hand.
"""

import math
import random

import pytest
from restmcts.domain.stats.outcomes import Outcome, OutcomeTable, pass_at_k


def _outcome(
    method: str, budget: int | None, problem: int, right: bool, *, tokens: int = 10, seed: int = 0, group: str = ""
) -> Outcome:
    verdict = "right" if right else "wrong"
    return Outcome(method, budget, "", group, seed, problem, verdict, right, tokens, 1, 0, 2, 3, 4, 0.5)


def _cell(method: str, budget: int | None, right: list[bool], **more: int) -> list[Outcome]:
    return [_outcome(method, budget, problem, one, **more) for problem, one in enumerate(right)]  # type: ignore[arg-type]


def test_the_error_of_one_seed_is_the_binomial_one() -> None:
    generator = random.Random(0)
    right = [generator.random() < 0.3 for _ in range(400)]
    summary = OutcomeTable(_cell("a", 10, right)).summary(("a", 10, ""))
    share = sum(right) / 400
    assert summary.accuracy.value == pytest.approx(share)
    assert summary.accuracy.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 399))


def test_differences_are_paired() -> None:
    """Two methods that nearly always agree differ with an error far below that of either."""
    generator = random.Random(1)
    first = [generator.random() < 0.5 for _ in range(400)]
    second = [not one if place < 8 else one for place, one in enumerate(first)]
    table = OutcomeTable([*_cell("a", 10, first), *_cell("b", 10, second)])
    difference = table.difference(("a", 10, ""), ("b", 10, ""))
    assert difference.value == pytest.approx((sum(first) - sum(second)) / 400)
    assert difference.standard_error < 0.3 * table.summary(("a", 10, "")).accuracy.standard_error


def test_seeds_that_disagree_widen_the_error() -> None:
    agreeing = [*_cell("a", 10, [True, False] * 50, seed=0), *_cell("a", 10, [True, False] * 50, seed=1)]
    at_odds = [*_cell("a", 10, [True] * 100, seed=0), *_cell("a", 10, [False] * 100, seed=1)]
    errors = [OutcomeTable(outcomes).summary(("a", 10, "")).accuracy.standard_error for outcomes in (agreeing, at_odds)]
    assert errors[1] > 3 * errors[0]


def test_a_method_with_one_seed_stands_for_all() -> None:
    outcomes = [
        *_cell("greedy", None, [True, False]),
        *_cell("a", 10, [True, True], seed=0),
        *_cell("a", 10, [False, True], seed=1),
    ]
    table = OutcomeTable(outcomes)
    assert table.difference(("a", 10, ""), ("greedy", None, "")).value == pytest.approx(0.25)


def test_groups_have_problems_of_their_own() -> None:
    outcomes = [_outcome("a", 10, problem, group == "x", group=group) for group in ("x", "y") for problem in range(3)]
    table = OutcomeTable(outcomes)
    assert table.num_problems == 6
    assert table.summary(("a", 10, "")).accuracy.value == 0.5
    assert table.summary(("a", 10, "")).accuracy.standard_error == 0.0, "groups are not drawn, problems in them are"


def test_compute_matched_accuracies_mix_the_budgets_on_either_side() -> None:
    cheap, dear = (
        _cell("a", 50, [True] * 4 + [False] * 6, tokens=60),
        _cell("a", 100, [True] * 8 + [False] * 2, tokens=120),
    )
    table = OutcomeTable([*cheap, *dear, *_cell("b", 75, [True] * 10, tokens=75)])
    found = {(row.method, row.tokens): row.accuracy for row in table.compute_matched()}
    assert found["a", 50] is None
    middle, above, most = found["a", 75], found["a", 100], table.at_cost("a", "", 500)
    assert middle is not None and middle.value == pytest.approx(0.4 + 0.25 * 0.4)
    assert above is not None and above.value == pytest.approx(0.4 + 2 / 3 * 0.4)
    assert most is not None and most.estimate.value == pytest.approx(0.8)


def test_what_is_missing_or_undecided_is_not_right() -> None:
    outcomes = [_outcome("a", 10, 0, True), *_cell("b", 10, [True, True])]
    outcomes.append(Outcome("a", 10, "", "", 0, 1, "undecided", False, 1, 1, 0, 1, 1, 1, 0.0))
    summary = OutcomeTable(outcomes).summary(("a", 10, ""))
    assert (summary.accuracy.value, summary.undecided.value) == (0.5, 0.5)
    assert (summary.any_right.value, summary.any_right.n) == (0.5, 2)


def test_a_method_that_is_never_right_has_an_interval_though_its_standard_error_is_0() -> None:
    summary = OutcomeTable(_cell("a", 10, [False] * 10)).summary(("a", 10, ""))
    assert summary.accuracy.standard_error == 0.0
    assert summary.interval == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_the_same_outcomes_give_the_same_table() -> None:
    outcomes = _cell("a", 10, [True, False, True])
    assert OutcomeTable(outcomes).summaries() == OutcomeTable(list(outcomes)).summaries()


def test_pass_at_k_is_the_share_of_draws_with_a_right_one() -> None:
    assert pass_at_k([4], [1], 1).value == pytest.approx(0.25)
    assert pass_at_k([4], [1], 2).value == pytest.approx(0.5), "half of the six pairs hold the right one"
    both = pass_at_k([4, 4], [0, 4], 3)
    assert (both.value, both.standard_error, both.n) == (pytest.approx(0.5), pytest.approx(0.5), 2)
    with pytest.raises(ValueError, match="at least 5"):
        pass_at_k([4], [1], 5)
