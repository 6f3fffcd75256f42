"""Figures of gates against straightforward computations, and the plans that hold the gates."""

import random
from itertools import combinations, product

import pytest
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import PromotionPhase
from restmcts.domain.runs.plans import self_training_plan
from restmcts.domain.runs.promotion import HeldOutStep, PromotionSettings, auc, is_promoted, sibling_accuracy
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.ranks import area_under_curve
from restmcts.errors import InputError

Forest = list[list[HeldOutStep]]


def forest(seed: int, num_trees: int = 40) -> Forest:
    """Trees of up to six steps below two parents, with ties among the values."""
    draw = random.Random(seed)
    return [
        [HeldOutStep(draw.randrange(2), draw.randrange(5) / 4, draw.random() < 0.5) for _ in range(draw.randrange(7))]
        for _ in range(num_trees)
    ]


def test_auc_is_that_of_all_steps() -> None:
    trees = forest(2)
    steps = [step for tree in trees for step in tree]
    found = auc(trees)
    assert found is not None
    assert found.estimate.value == pytest.approx(
        area_under_curve([step.value for step in steps], [step.is_right for step in steps])
    )


def test_the_error_of_the_auc_is_that_of_drawing_the_trees_again() -> None:
    trees, draw = forest(3, 80), random.Random(4)
    found = auc(trees)
    again = [auc(draw.choices(trees, k=len(trees))) for _ in range(400)]
    values = [one.estimate.value for one in again if one is not None]
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    assert found is not None
    assert found.estimate.standard_error == pytest.approx(spread, rel=0.15)


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
    assert found.estimate.value == pytest.approx(sum(outcomes) / len(outcomes))


def test_without_both_kinds_there_is_no_figure() -> None:
    assert auc([[HeldOutStep(0, 0.3, True)], []]) is None
    assert sibling_accuracy([[HeldOutStep(0, 0.3, True)]]) is None


@pytest.mark.parametrize(("fall", "promoted"), [(-0.019, True), (-0.021, False), (0.3, True)])
def test_a_gate_holds_what_fell_by_more_than_the_margin(fall: float, promoted: bool) -> None:
    assert is_promoted({"auc": Estimate(0.1, 0.01, 50), "accuracy": Estimate(fall, 0.01, 50)}, margin=2.0) is promoted


@pytest.mark.parametrize(("rise", "promoted"), [(0.019, False), (0.021, True), (-0.3, False)])
def test_a_gain_that_is_asked_for_is_had_by_every_figure(rise: float, promoted: bool) -> None:
    gains = {"auc": Estimate(0.1, 0.01, 50), "sibling accuracy": Estimate(rise, 0.01, 50)}
    assert is_promoted(gains, margin=2.0, least_gain=2.0) is promoted
    assert not is_promoted({"auc": Estimate(0.0, 0.0, 50)}, margin=2.0, least_gain=0.0), "as good is no gain"


def test_a_gain_without_held_out_problems_is_refused_and_reaches_the_promotions_of_value_models() -> None:
    for settings in ({"value_gain": 1.0}, {"value_metric": "auc"}, {"value_bench": "file.jsonl"}):
        with pytest.raises(InputError, match="num_problems above 0"):
            PromotionSettings(num_problems=0, **settings)
    run = SelfTraining(
        num_iterations=1,
        train_sets=("train",),
        bootstrap_set="train",
        held_out_set="held-out",
        gate=PromotionSettings(value_metric="siblings", value_gain=1.5, value_bench="file.jsonl"),
    )
    found = [phase for phase in self_training_plan(run) if isinstance(phase, PromotionPhase)]
    asked = {phase.model: (phase.value_metric, phase.value_gain, phase.bench_set) for phase in found}
    assert asked == {"policy": ("both", None, None), "value": ("siblings", 1.5, "value-bench")}


@pytest.mark.parametrize(("method", "gated"), list(product(METHODS, (True, False))))
def test_every_phase_needs_only_what_came_before_it(method: str, gated: bool) -> None:
    training = TrainingSettings(num_steps=1)
    run = SelfTraining(
        num_iterations=2,
        train_sets=("train", "train"),
        bootstrap_set="train",
        method=method,
        budget=Budget(tokens=100),
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
