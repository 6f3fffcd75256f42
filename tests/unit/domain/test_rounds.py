"""An iteration in rounds: what each of them searches, with which models, and what it learns."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.plans import self_training_plan
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.splits import Round, size_of_round
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.errors import InputError

RUN = SelfTraining(
    num_iterations=2,
    train_sets=("train", "train"),
    bootstrap_set="train",
    budget=Budget(tokens=100),
    policy_training=TrainingSettings(num_steps=10),
    value_training=TrainingSettings(num_steps=7),
    held_out_set="held-out",
    test_set="test",
)


def plan(**settings: object) -> dict[str, Phase]:
    phases = self_training_plan(replace(RUN, **settings))  # type: ignore[arg-type]
    found = {phase.name: phase for phase in phases}
    assert len(found) == len(phases)
    return found


def trained(phases: dict[str, Phase], kind: type, iteration: int) -> list[TrainPolicyPhase | TrainValuePhase]:
    return [one for one in phases.values() if isinstance(one, kind) and one.iteration == iteration]  # type: ignore[misc]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(0, 5))
def test_each_problem_belongs_to_one_round_and_rounds_are_of_one_size(total: int, count: int, seed: int) -> None:
    rounds = [Round(number, count) for number in range(1, count + 1)]
    members = [one.members(range(total), seed) for one in rounds]
    assert sorted(place for one in members for place in one) == list(range(total))
    assert all(list(one) == sorted(one) for one in members)
    assert [len(one) for one in members] == [size_of_round(total, one) for one in rounds]
    assert max(map(len, members)) - min(map(len, members)) <= 1
    assert [one.members(range(total), seed) for one in rounds] == members


def test_which_problems_are_of_a_round_depends_on_the_seed() -> None:
    assert len({tuple(Round(1, 3).members(range(30), seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("max_staleness", [0, 2])
def test_rounds_search_and_train_as_much_in_all_as_iterations_do(method: str, max_staleness: int) -> None:
    usual, phases = plan(method=method), plan(method=method, num_rounds=3, max_staleness=max_staleness)
    known = {"base", *(["value-0"] if "value-0" not in phases else [])}
    for phase in phases.values():
        assert set(phase.needs()) <= known, f"{phase.name} needs what is planned after it"
        known.add(phase.name)
    assert usual.keys() <= phases.keys(), "the last round leaves what the iteration comes to"
    for name, phase in usual.items():
        parts = [phases[name], *(one for one in phases.values() if one.name.startswith(f"{name}."))]
        if isinstance(phase, SearchPhase) and phase.purpose == "collect":
            assert sum(size_of_round(100, one.round) for one in parts) == 100
            assert {(one.search, one.budget) for one in parts} == {(phase.search, phase.budget)}  # type: ignore[union-attr]
        if isinstance(phase, TrainPolicyPhase | TrainValuePhase) and phase.iteration:
            assert sum(one.training.num_steps for one in parts) == phase.training.num_steps  # type: ignore[union-attr, misc]
    assert [name for name in phases if name.startswith("grade")] == [name for name in usual if name.startswith("grade")]


def test_each_round_goes_on_from_the_round_before_it() -> None:
    phases = plan(num_rounds=3, method="rest-mcts-paper", held_out_set=None)
    policies = trained(phases, TrainPolicyPhase, 1) + trained(phases, TrainPolicyPhase, 2)
    assert [one.name for one in policies] == [
        *("policy-1.1", "policy-1.2", "policy-1", "policy-2.1", "policy-2.2", "policy-2")
    ]
    parents = ["base", *(one.name for one in policies[:-1])]
    collects = [one for one in phases.values() if isinstance(one, SearchPhase) and one.purpose == "collect"]
    assert [one.parent for one in policies] == [one.policy for one in collects] == parents
    assert [one.sources for one in policies] == [(one.name,) for one in collects]
    assert {one.staleness for one in collects} == {0}


def test_the_value_model_learns_the_newest_trees_and_all_of_them_at_the_end_of_an_iteration() -> None:
    phases = plan(num_rounds=2, method="rest-mcts-paper")
    sources = {name: one.sources for name, one in phases.items() if isinstance(one, TrainValuePhase)}
    assert sources == {
        "value-0": ("bootstrap",),
        "value-1.1": ("collect-1.1",),
        "value-1": ("bootstrap", "collect-1.1", "collect-1"),
        "value-2.1": ("collect-2.1",),
        "value-2": ("bootstrap", "collect-1.1", "collect-1", "collect-2.1", "collect-2"),
    }


@pytest.mark.parametrize("max_staleness", [0, 1, 2, 9])
@pytest.mark.parametrize("num_rounds", [1, 3])
def test_no_tree_is_staler_than_it_may_be_and_its_search_waits_for_no_newer_policy(
    max_staleness: int, num_rounds: int
) -> None:
    phases = plan(num_rounds=num_rounds, max_staleness=max_staleness, method="rest-mcts-paper", held_out_set=None)
    policies = ["base"]
    for phase in phases.values():
        if isinstance(phase, TrainPolicyPhase):
            policies.append(phase.name)
            (source,) = (phases[name] for name in phase.sources)
            assert isinstance(source, SearchPhase)
            between = policies.index(phase.parent) - policies.index(source.policy)
            assert source.staleness == between == min(max_staleness, len(policies) - 2)
            newer = policies[policies.index(source.policy) + 1 :]
            assert not set(source.needs()) & set(newer)


def test_two_policies_are_compared_on_held_out_problems_of_their_round() -> None:
    phases = plan(num_rounds=2)
    gates = [one for one in phases.values() if isinstance(one, PromotionPhase) and one.model == "policy"]
    assert [(one.name, one.round) for one in gates] == [
        ("gate-base", None),
        *((f"gate-policy-{name}", Round(1 if "." in name else 2, 2)) for name in ("1.1", "1", "2.1", "2")),
    ]
    for before, gate in pairwise(gates):
        assert gate.incumbent_evidence is not None
        compared = phases[gate.incumbent_evidence], phases[gate.evidence]
        assert [(one.policy, one.round, one.problem_set) for one in compared if isinstance(one, SearchPhase)] == [
            (before.name, gate.round, "held-out"),
            (gate.candidate, gate.round, "held-out"),
        ]
        assert {gate.evidence, gate.incumbent_evidence} <= set(gate.needs())
    values = [one for one in phases.values() if isinstance(one, PromotionPhase) and one.model == "value"]
    assert [one.round for one in values][-4:] == [Round(1, 2), Round(2, 2)] * 2


def test_what_follows_a_search_follows_that_of_its_round_and_all_of_earlier_iterations() -> None:
    phases = plan(num_rounds=2, method="rest-mcts-probed")
    follows = {name: one.follows for name, one in phases.items() if isinstance(one, SearchPhase) and one.follows}
    assert follows == {
        "collect-1.1": ("probe-1.1",),
        "collect-1": ("probe-1",),
        "collect-2.1": ("probe-2.1", "collect-1.1", "collect-1"),
        "collect-2": ("probe-2", "collect-1.1", "collect-1"),
    }
    restarts = plan(num_rounds=2, method="rest-mcts-restarts")
    assert (restarts["restart-1.1"].needs(), restarts["restart-2"].needs()) == (
        ("gate-base", "collect-1.1"),
        ("gate-policy-2.1", "collect-2"),
    )
    assert plan(num_rounds=2, method="star")["explain-1.1"].needs() == ("gate-base", "collect-1.1")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"num_rounds": 8}, "8 rounds divide 7 optimizer steps"),
        ({"num_rounds": 2, "truth": TruthSettings(source="votes")}, "leave rounds out, or give --truth answers"),
    ],
)
def test_what_rounds_cannot_do_is_said_before_anything_begins(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        plan(**settings)


def test_seed_solutions_that_are_learned_again_are_divided_too() -> None:
    phases = plan(num_rounds=2, seeds_again=True, seed_set="seeds", seed_training=TrainingSettings())
    rounds: Sequence[Round | None] = [one.round for one in trained(phases, TrainPolicyPhase, 1)]
    assert rounds == [Round(1, 2), Round(2, 2)]
