"""A temperature on held-out trees: values whose chances are known, and an order that stays."""

import random
from itertools import pairwise

import pytest
from restmcts.domain.scoring import Calibration, logit, sigmoid
from restmcts.domain.stats.temperature import HIGHEST, LOWEST, calibrated, fitted
from restmcts.domain.stats.tree_values import ValuedStep
from restmcts.errors import InputError


def drawn(temperature: float, bias: float, problems: int = 200) -> list[list[ValuedStep]]:
    """Return steps that lead to a right answer with the chance that a calibration gives their
    values.
    """
    generator, truth = random.Random(0), Calibration(temperature, bias)
    values = [[generator.uniform(0.01, 0.99) for _ in range(10)] for _ in range(problems)]
    return [
        [ValuedStep(place // 2, 1, v, generator.random() < truth.applied(v), None) for place, v in enumerate(one)]
        for one in values
    ]


def test_a_calibration_is_found_again_and_gains_on_problems_it_has_not_seen() -> None:
    found = calibrated(drawn(2.5, -1.0), with_bias=True)
    assert found.calibration.temperature == pytest.approx(2.5, rel=0.15)
    assert found.calibration.bias == pytest.approx(-1.0, abs=0.15)
    for change in (found.nll, found.brier, found.calibration_error):
        assert change.difference.value == pytest.approx(change.after.value - change.before.value)
        assert change.difference.value + 3 * change.difference.standard_error < 0.0
        assert change.before.n == 200
    assert found.calibration_error.after.value < 0.06 < 0.1 < found.calibration_error.before.value


def test_chances_are_left_as_they_are() -> None:
    found = calibrated(drawn(1.0, 0.0), with_bias=False)
    assert found.calibration.temperature == pytest.approx(1.0, rel=0.1) and found.calibration.bias == 0.0
    assert abs(found.nll.difference.value) < 0.002


def test_the_order_of_values_stays() -> None:
    found = calibrated(drawn(0.5, 2.0), with_bias=True)
    assert found.auc is not None and found.siblings is not None
    assert found.auc[0] == found.auc[1] and found.siblings[0] == found.siblings[1]
    values = [k / 1000 for k in range(1001)]
    for temperature in (LOWEST * 4, 1.0, HIGHEST):
        chances = [Calibration(temperature, 1.0).applied(value) for value in values]
        assert all(low < high for low, high in pairwise(chances)), temperature


def test_a_temperature_by_hand() -> None:
    # Half of the steps at logit 2 are right with odds e, at logit -2 with odds 1/e: temperature 2.
    high, low = sigmoid(2.0), sigmoid(-2.0)
    num_right = round(1000 * sigmoid(1.0))
    pairs = [(high, place < num_right) for place in range(1000)] + [(low, place >= num_right) for place in range(1000)]
    found = fitted(pairs, with_bias=False)
    assert logit(high) / found.temperature == pytest.approx(logit(num_right / 1000), abs=1e-6)


@pytest.mark.parametrize(("right_at", "expected"), [(0.6, LOWEST), (0.4, HIGHEST)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_that_separate_perfectly_or_the_wrong_way_get_the_last_temperature(
    right_at: float, expected: float, with_bias: bool
) -> None:
    pairs = [(right_at, True), (1.0 - right_at, False)] * 50
    assert fitted(pairs, with_bias=with_bias).temperature == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_value_becomes_the_share_of_right_ones(value: float) -> None:
    pairs = [(value, place < 30) for place in range(100)]
    assert fitted(pairs, with_bias=True).applied(value) == pytest.approx(0.3, abs=1e-3)


def test_two_calibrations_are_one() -> None:
    first, second = Calibration(2.0, 0.5), Calibration(0.7, -1.0)
    for value in (0.02, 0.5, 0.9):
        assert first.then(second).applied(value) == pytest.approx(second.applied(first.applied(value)))


def test_what_cannot_be_calibrated_is_one_line() -> None:
    with pytest.raises(InputError, match="both steps that led to a right answer"):
        fitted([(0.5, True)], with_bias=False)
    with pytest.raises(InputError, match="at least two"):
        calibrated(drawn(1.0, 0.0, problems=1), with_bias=False)
    for temperature, bias in ((0.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))):
        with pytest.raises(ValueError, match="above 0"):
            Calibration(temperature, bias)
