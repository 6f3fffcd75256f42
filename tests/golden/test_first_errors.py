"""The scores of ProcessBench: two hundred cases whose answer was chosen before their values, and
published F1s from published accuracies.
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from restmcts.domain.stats.first_errors import (
    MAX_THRESHOLDS,
    FirstErrorScore,
    best_threshold,
    first_error,
    first_error_score,
    harmonic_mean,
    mean_f1,
    step_score,
    sureness,
)

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("first_errors.jsonl").read_text().splitlines()
]


def test_the_first_wrong_step_is_the_one_that_was_chosen() -> None:
    assert len(CASES) == 200 and {case["rule"] for case in CASES} == {"below", "drop"}
    for case in CASES:
        assert first_error(case["values"], case["rule"], case["threshold"]) == case["first_error"], case


@pytest.mark.parametrize("rule", ["below", "drop"])
def test_the_f1_of_the_cases_is_that_counted_by_hand(rule: str) -> None:
    cases = [case for case in CASES if case["rule"] == rule]
    labels = [case["first_error"] for case in cases]
    assert first_error_score(labels, labels).f1 == 1.0
    # All right: every solution without an error is found, and none with one.
    assert first_error_score([-1] * len(cases), labels).f1 == 0.0
    # One place too late: no wrong solution is exact, though all are known to be wrong.
    late = first_error_score([label if label == -1 else label + 1 for label in labels], labels)
    assert late.of_wrong is not None and late.of_wrong.value == 0.0
    assert late.of_right is not None and late.of_right.value == 1.0 and late.f1 == 0.0


def test_f1_by_hand() -> None:
    # Of four wrong ones two exactly: 1/2. Of three right ones two: 2/3. F1 = 2 * 1/3 / (7/6) = 4/7.
    labels = [0, 2, 1, 3, -1, -1, -1]
    score = first_error_score([0, 2, 2, -1, -1, 0, -1], labels)
    assert score.of_wrong is not None and score.of_wrong.value == 0.5
    assert score.of_right is not None and score.of_right.value == pytest.approx(2 / 3)
    assert score.f1 == pytest.approx(4 / 7)
    # What could not be scored is never right.
    assert first_error_score([None] * 7, labels).f1 == 0.0
    assert first_error_score([0], [0]).f1 is None
    assert mean_f1([score, first_error_score([0, -1], [0, -1])]) == pytest.approx((4 / 7 + 1) / 2)
    assert mean_f1([score, first_error_score([0], [0])]) is None and mean_f1([]) is None


# By model: exact places, right solutions and F1 of GSM8K, MATH, OlympiadBench and Omni-MATH, and
# the mean F1, all in percent (arXiv:2412.06559, arXiv:2501.07301).
PUBLISHED = {
    "Math-Shepherd-PRM-7B": ([(32.4, 91.7, 47.9), (18.0, 82.0, 29.5), (15.0, 71.1, 24.8), (14.2, 73.0, 23.8)], 31.5),
    "RLHFlow-PRM-Mistral-8B": ([(33.8, 99.0, 50.4), (21.7, 72.2, 33.4), (8.2, 43.1, 13.8), (9.6, 45.2, 15.8)], 28.4),
    "Skywork-PRM-1.5B": ([(50.2, 71.5, 59.0), (37.9, 65.2, 48.0), (15.4, 26.0, 19.3), (13.6, 32.8, 19.2)], 36.4),
    "Qwen2.5-Math-7B-PRM800K": ([(53.1, 95.3, 68.2), (48.0, 90.1, 62.6), (35.7, 87.3, 50.7), (29.8, 86.1, 44.3)], 56.5),
    "Qwen2.5-Math-PRM-7B": ([(72.0, 96.4, 82.4), (68.0, 90.4, 77.6), (55.7, 85.5, 67.5), (55.2, 83.0, 66.3)], 73.5),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_f1s_follow_from_published_accuracies(model: str) -> None:
    splits, mean = PUBLISHED[model]
    f1s = [harmonic_mean(wrong, right) for wrong, right, _ in splits]
    # Accuracies are published with one digit, so that an F1 may differ in its last one.
    assert f1s == pytest.approx([f1 for _, _, f1 in splits], abs=0.1)
    assert fmean(f1s) == pytest.approx(mean, abs=0.1)


def score_of(wrong: float, right: float, num: int = 1000) -> FirstErrorScore:
    said = [0] * round(num * wrong) + [1] * (num - round(num * wrong))
    said += [-1] * round(num * right) + [0] * (num - round(num * right))
    return first_error_score(said, [0] * num + [-1] * num)


def test_a_published_row_is_reached_through_every_function() -> None:
    splits, mean = PUBLISHED["Qwen2.5-Math-PRM-7B"]
    scores = [score_of(wrong / 100, right / 100) for wrong, right, _ in splits]
    found = mean_f1(scores)
    assert found is not None and 100 * found == pytest.approx(mean, abs=0.1)


def test_a_threshold_is_chosen_by_f1_and_lies_between_two_values() -> None:
    solutions, labels = [[0.9, 0.8], [0.95, 0.3, 0.1], [0.2]], [-1, 1, 0]
    threshold = best_threshold(solutions, labels, "below")
    assert threshold == pytest.approx((0.3 + 0.8) / 2)
    assert [first_error(values, "below", threshold) for values in solutions] == labels
    # Progress that begins near 0: no threshold of values themselves is right, drops are.
    progress = [[0.1, 0.4, 0.9], [0.3, 0.1, 0.2], [0.2, 0.5, 0.3]]
    labels = [-1, 1, 2]
    drop = best_threshold(progress, labels, "drop")
    assert [first_error(values, "drop", drop) for values in progress] == labels
    below = best_threshold(progress, labels, "below")
    assert [first_error(values, "below", below) for values in progress] != labels


def test_a_threshold_among_many_values_is_near_the_best() -> None:
    solutions = [[0.5 + number / 1200] for number in range(300)] + [[number / 1200] for number in range(300)]
    labels = [-1] * 300 + [0] * 300
    assert len(solutions) > MAX_THRESHOLDS
    threshold = best_threshold(solutions, labels, "below")
    score = first_error_score([first_error(values, "below", threshold) for values in solutions], labels)
    assert score.f1 is not None and score.f1 > 0.99


def test_single_steps_are_scored_as_prmbench_does() -> None:
    # Right: called so 3 times, 2 of them true, of 4 true ones: P 2/3, R 1/2, F1 4/7.
    # Wrong: called so 3 times, 1 of them true, of 2 true ones: P 1/3, R 1/2, F1 2/5.
    said = [True, True, True, False, False, False]
    true = [True, True, False, True, True, False]
    score = step_score(said, true)
    assert score.f1 == pytest.approx(4 / 7) and score.negative_f1 == pytest.approx(2 / 5)
    assert score.prm_score == pytest.approx((4 / 7 + 2 / 5) / 2)
    assert step_score([True], [True]).negative_f1 is None and step_score([True], [True]).prm_score is None


def test_how_sure_a_miss_is() -> None:
    # A right step at .1 is called wrong at a threshold of .5; a wrong one at .9 is not.
    assert sureness([0.9, 0.1], -1, 1, "below", 0.5) == pytest.approx(0.4)
    assert sureness([0.9, 0.9], 1, -1, "below", 0.5) == pytest.approx(0.4)
    assert sureness([0.5, 0.1], -1, 1, "drop", 0.1) == pytest.approx(0.3)
