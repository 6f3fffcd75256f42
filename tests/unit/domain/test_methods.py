"""What each method does of its own, and the pairs that a policy makes of its own samples."""

from math import exp

import pytest
from restmcts.domain.labels.filtering import PairFilter, solution_pairs
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.plans import control_plan, self_training_plan
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import spec_plan
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.tree import Tree


def plan(method: str, given_value: bool = False) -> dict[str, Phase]:
    run = SelfTraining(
        num_iterations=2,
        train_sets=("first", "second"),
        bootstrap_set="first",
        method=method,
        budget=Budget(tokens=100),
        given_value=given_value,
        policy_training=TrainingSettings(num_steps=5, learning_rate=1.0),
        seed_set="seeds",
        control=True,
    )
    return {phase.name: phase for phase in self_training_plan(run)}


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_searches_its_problems_under_the_budget_and_knows_its_control(method: str) -> None:
    phases = plan(method)
    for number, problem_set in ((1, "first"), (2, "second")):
        collect = phases[f"collect-{number}"]
        assert collect.kind == "search"
        assert collect.problem_set == problem_set
        assert collect.budget.tokens is not None
        assert 0 < collect.budget.tokens <= 100
        control, policy = phases[f"control-{number}"], phases[f"policy-{number}"]
        assert isinstance(control, TrainPolicyPhase)
        assert isinstance(policy, TrainPolicyPhase)
        assert control.training.num_steps == policy.training.num_steps == 5
        assert control.solutions_of == "seeds"


def of_document(**document: object) -> dict[str, Phase]:
    spec = RunSpec.model_validate(
        {"problems": "p.jsonl", "iterations": 2, "promotion": {"num_problems": 0}, **document}
    )
    return {phase.name: phase for phase in spec_plan(spec)}


def test_rest_mcts_searches_best_first_without_a_value_model_and_trains_one() -> None:
    phases = of_document()
    assert list(phases) == ["collect-1", "value-1", "policy-1", "collect-2", "value-2", "policy-2"]
    first, second = phases["collect-1"], phases["value-2"]
    assert isinstance(first, SearchPhase) and isinstance(second, TrainValuePhase)
    assert (first.search.algorithm, first.search.needs_values, first.value) == ("best-first", False, None)
    assert (second.parent, second.sources) == ("value-1", ("collect-1", "collect-2"))


def test_a_value_model_that_is_given_or_asked_for_leads_the_search() -> None:
    given = of_document(value="some/model")["collect-1"]
    assert isinstance(given, SearchPhase) and (given.value, given.search.needs_values) == ("value-0", True)
    asked = of_document(search={"score": True})
    assert list(asked)[:2] == ["bootstrap", "value-0"]


def test_rest_mcts_paper_does_what_the_paper_does() -> None:
    phases = of_document(method="rest-mcts-paper")
    collect = phases["collect-1"]
    assert isinstance(collect, SearchPhase) and isinstance(collect.search, MctsStarSettings)
    assert (collect.search.mode, collect.value) == ("collect", "value-0")
    same = of_document(search={"algorithm": "mcts-star"})
    assert same == phases, "the name chooses a search where none is named, and nothing else"


def test_the_control_alone_is_that_of_the_method() -> None:
    run = SelfTraining(num_iterations=1, train_sets=("first",), bootstrap_set="first", seed_set="seeds", control=True)
    assert [phase.name for phase in control_plan(run)] == ["policy-0", "control-1"]
    whole = self_training_plan(run)
    assert all(phase in whole for phase in control_plan(run))


def test_self_rewarding_asks_a_judge_only_if_it_has_one() -> None:
    assert "value-0" not in plan("self-rewarding")
    with_judge = plan("self-rewarding", given_value=True)["collect-1"]
    assert with_judge.kind == "search"
    assert with_judge.value == "value-0"


def samples(*solutions: tuple[str, float, float | None]) -> Tree:
    """Return a tree of solutions of one step of two tokens: text, log-probability, judge's
    value.
    """
    tree = Tree()
    for text, log_prob, value in solutions:
        node, _ = tree.add_child(tree.root, ProposedStep(text, 2, log_prob), final=True)
        node.model_value = value
    return tree


def test_the_most_likely_solution_is_preferred_to_the_least_likely_one() -> None:
    (pair,) = solution_pairs(
        samples(("a", -2.0, None), ("b", -1.0, None), ("c", -6.0, None)), PairFilter(between="solutions")
    )
    assert (pair.chosen.step, pair.rejected.step) == ("b", "c")
    assert (pair.chosen_value, pair.rejected_value) == pytest.approx((exp(-0.5), exp(-3.0)))


def test_a_judge_is_believed_before_the_likelihood() -> None:
    (pair,) = solution_pairs(samples(("a", -2.0, 0.9), ("b", -1.0, 0.2)), PairFilter(between="solutions"))
    assert (pair.chosen.step, pair.rejected.step) == ("a", "b")


@pytest.mark.parametrize("solutions", [(), (("a", -1.0, None),), (("a", -1.0, 0.5), ("b", -2.0, 0.5))])
def test_there_is_no_pair_without_a_difference(solutions: tuple[tuple[str, float, float | None], ...]) -> None:
    assert solution_pairs(samples(*solutions), PairFilter(between="solutions")) == []
