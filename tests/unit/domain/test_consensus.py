"""Labels of two sources: where they agree, their mean, and how often they say the same."""

import pytest
from restmcts.domain.labels.consensus import Agreement, Consensus, StepValue, agreed, agreement
from restmcts.errors import InputError

RIGHT, WRONG = StepValue(0.6, True), StepValue(0.2, False)


@pytest.mark.parametrize(
    ("step", "judged", "kept"),
    [(RIGHT, 0.9, True), (RIGHT, 0.5, True), (RIGHT, 0.4, False), (WRONG, 0.1, True), (WRONG, 0.5, False)],
)
def test_a_label_stays_as_it_is_where_both_say_the_same(step: StepValue, judged: float, kept: bool) -> None:
    assert agreed(step, judged, Consensus()) == (step if kept else None)


def test_the_threshold_says_when_the_judge_says_right() -> None:
    assert agreed(RIGHT, 0.6, Consensus(threshold=0.7)) is None
    assert agreed(WRONG, 0.6, Consensus(threshold=0.7)) == WRONG


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(0.0, StepValue(0.2, False)), (0.5, StepValue(0.5, True)), (1.0, StepValue(0.8, True))],
)
def test_a_mean_is_weighted_and_right_from_the_threshold_on(weight: float, expected: StepValue) -> None:
    found = agreed(WRONG, 0.8, Consensus("mean", 0.5, weight))
    assert found is not None and found.target == pytest.approx(expected.target)
    assert found.leads_to_right is expected.leads_to_right


def test_agreement_by_hand() -> None:
    pairs = [(RIGHT, 0.9), (RIGHT, 0.8), (RIGHT, 0.1), (WRONG, 0.2), (WRONG, 0.9)]
    found = agreement(pairs, 0.5)
    assert found == Agreement(3, 2, 2, 1)
    # Seen 3 of 5; by chance 3/5 * 3/5 + 2/5 * 2/5 = 13/25.
    assert found.kappa == pytest.approx((0.6 - 0.52) / 0.48)
    assert agreement([(RIGHT, 0.9), (WRONG, 0.1)], 0.5).kappa == 1.0
    assert agreement([(RIGHT, 0.9)], 0.5).kappa is None and agreement([], 0.5).kappa is None


@pytest.mark.parametrize("settings", [{"threshold": 1.5}, {"weight": -0.1}])
def test_a_setting_outside_its_range_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give"):
        Consensus(**settings)  # type: ignore[arg-type]
