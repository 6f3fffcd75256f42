"""Figures of gates against straightforward computations, and the plans that hold the gates."""

import random
from itertools import combinations, product

import pytest
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.plans import SelfTraining, self_training_plan
from restmcts.domain.runs.promotion import JudgedStep, auc, gain, is_promoted, share, sibling_accuracy
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.stats.statistics import Difference, area_under_curve, paired_difference

Forest = list[list[JudgedStep]]


def forest(seed: int, num_trees: int = 40) -> Forest:
    """Trees of up to six steps below two parents, with ties among the values."""
    draw = random.Random(seed)
    return [
        [JudgedStep(draw.randrange(2), draw.randrange(5) / 4, draw.random() < 0.5) for _ in range(draw.randrange(7))]
        for _ in range(num_trees)
    ]


def test_the_share_of_right_answers_is_an_accuracy_and_its_gain_is_paired() -> None:
    draw = random.Random(1)
    first = [draw.random() < 0.6 for _ in range(50)]
    second = [value != (draw.random() < 0.2) for value in first]
    new, old = (share([(float(value), 1.0) for value in values]) for values in (first, second))
    assert new is not None
    assert old is not None
    assert new.value == pytest.approx(sum(first) / 50)
    expected = paired_difference(first, second)
    assert gain(new, old).value == pytest.approx(expected.value)
    assert gain(new, old).standard_error == pytest.approx(expected.standard_error * (50 / 49) ** 0.5)


def test_auc_is_that_of_all_steps_and_sums_no_influence() -> None:
    trees = forest(2)
    steps = [step for tree in trees for step in tree]
    found = auc(trees)
    assert found is not None
    assert found.value == pytest.approx(
        area_under_curve([step.value for step in steps], [step.is_right for step in steps])
    )
    assert sum(found.influences) == pytest.approx(0.0, abs=1e-12)


def test_the_error_of_the_auc_is_that_of_drawing_the_trees_again() -> None:
    trees, draw = forest(3, 80), random.Random(4)
    found = auc(trees)
    again = [auc(draw.choices(trees, k=len(trees))) for _ in range(400)]
    values = [one.value for one in again if one is not None]
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    assert found is not None
    assert found.standard_error == pytest.approx(spread, rel=0.15)


def test_sibling_accuracy_counts_pairs_of_one_parent() -> None:
    trees = forest(5)
    outcomes = []
    for tree in trees:
        for first, second in combinations(tree, 2):
            if first.parent_id == second.parent_id and first.is_right != second.is_right:
                right, wrong = (first, second) if first.is_right else (second, first)
                outcomes.append(1.0 if right.value > wrong.value else 0.5 if right.value == wrong.value else 0.0)
    found = sibling_accuracy(trees)
    assert found is not None
    assert found.value == pytest.approx(sum(outcomes) / len(outcomes))


def test_without_both_kinds_there_is_no_figure() -> None:
    assert auc([[JudgedStep(0, 0.3, True)], []]) is None
    assert sibling_accuracy([[JudgedStep(0, 0.3, True)]]) is None
    assert share([]) is None


@pytest.mark.parametrize(("fall", "promoted"), [(-0.019, True), (-0.021, False), (0.3, True)])
def test_a_gate_holds_what_fell_by_more_than_the_margin(fall: float, promoted: bool) -> None:
    assert is_promoted({"auc": Difference(0.1, 0.01), "accuracy": Difference(fall, 0.01)}, margin=2.0) is promoted


@pytest.mark.parametrize(("method", "gated"), list(product(METHODS, (True, False))))
def test_every_phase_needs_only_what_came_before_it(method: str, gated: bool) -> None:
    training = TrainingSettings(num_steps=1)
    run = SelfTraining(
        num_iterations=2,
        train_sets=("train", "train"),
        bootstrap_set="train",
        method=method,
        seed_set="seeds",
        seed_training=training,
        held_out_set="held-out" if gated else None,
        test_set="test",
        control=True,
    )
    known = {"base"}
    for phase in self_training_plan(run):
        assert set(phase.needs()) <= known, phase.name
        assert phase.name not in known
        known.add(phase.name)
    assert {"policy-2", "control-2", "grade-policy-2", "grade-control-2"} <= known
    assert ("gate-policy-2" in known) is gated
