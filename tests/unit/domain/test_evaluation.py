"""Methods by name, and the phases of an evaluation: what is shared is made once, every cell
finds its phase.
"""

from dataclasses import replace

import pytest
from restmcts.domain.runs.evaluation import (
    ANSWERING,
    TRAINING_SET,
    Evaluation,
    ModelPair,
    VerifierTraining,
    evaluation_cells,
    evaluation_plan,
)
from restmcts.domain.runs.phases import PHASE, SEARCH_PHASE, SearchPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.tree_of_thoughts import StepBeamSettings, TotBfsSettings
from restmcts.errors import InputError

MODELS = ModelPair("", "policy", {"value": "value", "orm": "orm", "ms": "ms"})
ALL = Evaluation(ANSWERING.values(), (50, 100), (0, 1), (MODELS,), solution_tokens=20)


def test_every_cell_has_its_phases_and_no_phase_is_made_twice() -> None:
    phases = {phase.name: phase for phase in evaluation_plan(ALL)}
    assert len(phases) == len(evaluation_plan(ALL))
    cells = list(evaluation_cells(ALL))
    assert {cell.phase for cell in cells} | {cell.scores for cell in cells if cell.scores} == set(phases)
    for cell in cells:
        if not cell.method.search.reads_pool:
            assert phases[cell.phase].budget.tokens == cell.budget


def test_samples_are_drawn_once_a_seed_and_scored_once_a_value_model() -> None:
    phases = evaluation_plan(ALL)
    drawn = [phase for phase in phases if phase.name.startswith("samples")]
    assert [phase.budget.tokens for phase in drawn] == [100, 100] and all(phase.value is None for phase in drawn)
    scoring = [phase for phase in phases if phase.samples_of is not None]
    assert sorted((phase.value, phase.samples_of) for phase in scoring) == sorted(
        (value, f"samples, seed {seed}") for value in ("value", "orm", "ms") for seed in (0, 1)
    )
    assert all(phase.samples_of in phase.needs() for phase in scoring)


def test_greedy_answers_once_whatever_budgets_and_seeds() -> None:
    assert [cell.budget for cell in evaluation_cells(ALL) if cell.method.name == "greedy"] == [None]


def test_pairs_of_models_have_phases_of_their_own() -> None:
    pairs = tuple(ModelPair(f"iteration {n}", f"policy-{n}", {"value": f"value-{n}"}) for n in range(2))
    evaluation = Evaluation((ANSWERING.get("greedy"), ANSWERING.get("best-first")), (50,), (0,), pairs)
    assert [(phase.policy, phase.value) for phase in evaluation_plan(evaluation)] == [
        ("policy-0", None),
        ("policy-1", None),
        ("policy-0", "value-0"),
        ("policy-1", "value-1"),
    ]


def test_phases_survive_being_stored() -> None:
    for phase in evaluation_plan(ALL):
        assert PHASE.validate_json(PHASE.dump_json(phase)) == phase


@pytest.mark.parametrize(("budget", "width", "branch"), [(20, 1, 1), (60, 1, 3), (170, 2, 4), (330, 4, 4)])
def test_widths_follow_from_the_budget(budget: int, width: int, branch: int) -> None:
    assert ANSWERING.get("step-beam").search.at_budget(budget, 20) == StepBeamSettings(beam_width=width, branch=branch)
    assert ANSWERING.get("tot-bfs").search.at_budget(budget, 20) == TotBfsSettings(width=width, branch=branch)
    assert ANSWERING.get("mcts-star").search.at_budget(budget, 20) == ANSWERING.get("mcts-star").search


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ()}, "needs methods"),
        ({"budgets": (0, 5)}, "at least 1 token"),
        ({"seeds": (0, 0)}, "seed 0 is named twice"),
        ({"solution_tokens": None}, "how many tokens a solution has"),
        ({"models": (ModelPair("", "policy", {"value": "value"}),)}, "asks a value model named 'ms'"),
    ],
)
def test_what_cannot_be_evaluated_is_said_at_once(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(ALL, **change)  # type: ignore[arg-type]


def test_value_models_that_nobody_gave_are_trained_on_the_same_samples() -> None:
    pair = ModelPair("iteration 1", "policy-1", {"value": "value-1"})
    verifiers = VerifierTraining(TrainingSettings(num_steps=3), num_samples=5)
    evaluation = Evaluation(ANSWERING.values(), (50,), (0,), (pair,), solution_tokens=20, verifiers=verifiers)
    plan = evaluation_plan(evaluation)
    drawn = [phase for phase in plan if isinstance(phase, SearchPhase) and phase.problem_set == TRAINING_SET]
    assert [(phase.name, phase.policy, phase.purpose) for phase in drawn] == [
        ("training samples, iteration 1", "policy-1", "bootstrap")
    ]
    trained = [phase for phase in plan if isinstance(phase, TrainValuePhase)]
    assert [(phase.name, phase.objective, phase.sources) for phase in trained] == [
        ("ms, iteration 1", "hard", (drawn[0].name,)),
        ("orm, iteration 1", "orm", (drawn[0].name,)),
    ]
    scoring = {phase.value for phase in plan if isinstance(phase, SearchPhase) and phase.samples_of is not None}
    assert scoring == {"value-1", "ms, iteration 1", "orm, iteration 1"}


@pytest.mark.parametrize(("budget", "expected"), [(300, 300), (2000, 1024), (None, 1024), (0, 1)])
def test_no_solution_may_be_longer_than_the_budget_of_its_tree(budget: int | None, expected: int) -> None:
    search = SelfConsistencySettings(num_samples=4)
    phase = SearchPhase("sc", 0, "evaluate", "test", "base", None, search, Budget(tokens=budget))
    assert phase.generation.max_solution_tokens == expected
    assert SEARCH_PHASE.validate_json(SEARCH_PHASE.dump_json(phase)) == phase
