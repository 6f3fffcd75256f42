"""What searched trees say of values: figures by hand, and values that are known beforehand."""

import pytest
from restmcts.domain.stats.tree_values import ValuedStep, jackknifed, tree_values


def step(parent: int, value: float, right: bool, leaves: float | None = None, depth: int = 1) -> ValuedStep:
    return ValuedStep(parent, depth, value, right, leaves)


def test_figures_by_hand() -> None:
    # Siblings of the first problem: .8 over .2; of the second .3 under .6. AUC: .8 above .2 and .6,
    # .3 above .2 alone: 3 of 4. Bins .2 (0 of 1), .3 (1 of 1), .6 (0 of 1), .8 (1 of 1):
    # (.2 + .7 + .6 + .2) / 4.
    problems = [[step(0, 0.8, True), step(0, 0.2, False)], [step(0, 0.3, True), step(0, 0.6, False)]]
    found = tree_values(problems)
    assert found.auc is not None and found.auc.value == pytest.approx(0.75)
    assert found.siblings is not None and found.siblings.value == pytest.approx(0.5)
    assert found.calibration_error is not None and found.calibration_error.value == pytest.approx(0.425)
    assert (found.num_problems, found.num_steps) == (2, 4) and found.auc.n == 2


def test_ranks_are_by_depth() -> None:
    def problem(number: int) -> list[ValuedStep]:
        share = number / 10
        # At depth one the values rise with the right leaves, at depth two they fall; at depth three
        # nothing is known of the leaves.
        return [
            step(0, share, True, share, 1),
            step(1, 1 - share, True, share, 2),
            step(2, share, False, None, 3),
        ]

    found = tree_values([problem(number) for number in range(10)])
    first, second, third = found.by_depth
    assert first.correlation is not None and first.correlation.value == pytest.approx(1.0)
    assert second.correlation is not None and second.correlation.value == pytest.approx(-1.0)
    assert third.correlation is None and third.num_steps == 10


def test_one_kind_alone_is_not_measured() -> None:
    found = tree_values([[step(0, 0.5, True)]])
    assert found.auc is None and found.siblings is None and found.calibration_error is not None


def test_the_error_of_a_mean_is_the_usual_one() -> None:
    # With a group a problem the jackknife's error of a mean is its standard error.
    values = [0.1, 0.4, 0.4, 0.9, 0.7]
    problems = [[step(0, value, True)] for value in values]
    found = jackknifed(problems, lambda some: sum(s.value for steps in some for s in steps) / len(some))
    mean = sum(values) / 5
    expected = (sum((value - mean) ** 2 for value in values) / (5 * 4)) ** 0.5
    assert found is not None and found.value == pytest.approx(mean)
    assert found.standard_error == pytest.approx(expected)
