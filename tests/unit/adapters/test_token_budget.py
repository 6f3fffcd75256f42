"""A run with a token budget: counted as it generates, paused when it is spent, and gone on with
where it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.buses.local_bus import LocalBus
from restmcts.adapters.sql.reads import progress
from restmcts.adapters.sql.state import runs, token_budget
from restmcts.adapters.sql.state.trees import NODES, RUNS, TREES
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, ProposeSteps, max_new_tokens
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, ProposeWaitingSteps
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases import steer
from sqlalchemy import func, select, update

SEARCH = MctsStarSettings(mode="collect", stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=5)
COLLECT = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", SEARCH, Budget(iterations=5))
PROBLEMS = [Problem(f"question {number}", RIGHT_ANSWER) for number in range(6)]


class Run:
    """A handled run with a budget; `go_on` works until nothing is left to do."""

    def __init__(self, handled: Any, max_tokens: int | None) -> None:
        self.handled = handled
        with handled.database.transaction() as transaction:
            transaction.execute(update(RUNS).values(max_tokens=max_tokens))

    @property
    def bus(self) -> LocalBus:
        bus: LocalBus = self.handled.bus
        return bus

    def start(self, phases: Sequence[Phase]) -> Any:
        with self.handled.database.transaction() as transaction:
            runs.add_phases(transaction, self.handled.run_id, phases)
            transaction.emit(AdvanceRun(run_id=self.handled.run_id))
        return self.go_on()

    def go_on(self) -> Any:
        """Return the run's row."""
        self.bus.run()
        with self.handled.database.transaction() as transaction:
            return runs.find_run(transaction, "run")

    def resume(self, max_tokens: int | None = None) -> Any:
        with self.handled.database.transaction() as transaction:
            steer.resume(transaction, "run", max_tokens)
        return self.go_on()

    def spent(self) -> int:
        with self.handled.database.transaction() as transaction:
            return token_budget.spent(transaction, self.handled.run_id)

    def sum_of_trees(self) -> int:
        with self.handled.database.transaction() as transaction:
            return int(transaction.execute(select(func.sum(TREES.c.tokens))).scalar_one())

    def nodes(self) -> list[tuple[Any, ...]]:
        columns = [column for column in NODES.c if column.name != "log_prob"]
        with self.handled.database.transaction() as transaction:
            return [
                tuple(row) for row in transaction.execute(select(*columns).order_by(NODES.c.tree_id, NODES.c.node_id))
            ]


@pytest.fixture
def begin(handled_run: Callable[..., Any]) -> Callable[..., Run]:
    def run(max_tokens: int | None) -> Run:
        models = {"base": RandomModels(), "value-0": RandomModels()}
        return Run(handled_run(models, {"train": PROBLEMS}), max_tokens)

    return run


def whole_run(begin: Callable[..., Run], phase: SearchPhase = COLLECT) -> tuple[int, list[tuple[Any, ...]]]:
    """Return what the run generates in all without a budget, and its nodes."""
    run = begin(None)
    assert run.start([phase]).state == RunState.DONE
    whole = run.sum_of_trees(), run.nodes()
    assert run.spent() == 0, "a run without a budget is not counted"
    run.handled.close()
    (Path(str(run.handled.database.engine.url.database))).unlink()
    return whole


def test_a_run_pauses_when_its_budget_is_spent_and_goes_on_to_the_same_trees(begin: Callable[..., Run]) -> None:
    total, nodes = whole_run(begin)
    run = begin(total // 3)
    row = run.start([COLLECT])
    assert (row.state, row.finished_at) == (RunState.PAUSED, None)
    assert row.error == f"token budget of {total // 3:,} spent ({run.spent():,} generated)"
    assert total // 3 <= run.spent() == run.sum_of_trees() < total
    for max_tokens in (None, total // 4, run.spent()):
        with pytest.raises(
            InputError, match=f"^run run has generated {run.spent()} of .*--max-tokens, above {run.spent()}$"
        ):
            run.resume(max_tokens)
    assert run.resume(2 * total // 3).state == RunState.PAUSED
    row = run.resume(2 * total)
    assert (row.state, row.error) == (RunState.DONE, None)
    assert run.spent() == run.sum_of_trees() == total
    assert run.nodes() == nodes, "pausing changed a tree"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_budget_is_overshot_by_less_than_one_answer(begin: Callable[..., Run], share: float) -> None:
    limits = GenerationSettings(max_step_tokens=3, max_solution_tokens=25)
    total, _ = whole_run(begin)
    budget = int(total * share)
    run = begin(budget)
    assert run.start([replace(COLLECT, generation=limits)]).state == RunState.PAUSED
    assert budget <= run.spent() < budget + SEARCH.branch * limits.max_solution_tokens


def test_what_may_be_generated_is_known_before_it_is_asked_for() -> None:
    limits = GenerationSettings(max_step_tokens=10, max_solution_tokens=35)
    asked = {None: 35, 1: 10, 3: 30, 4: 35}
    for max_steps, tokens in asked.items():
        assert max_new_tokens(ProposeSteps(0, (), 2, max_steps, seed=0), limits) == 2 * tokens


def test_no_tree_need_end_for_the_pause(begin: Callable[..., Run]) -> None:
    run = begin(1)
    assert run.start([COLLECT]).state == RunState.PAUSED
    with run.handled.database.transaction() as transaction:
        states = list(transaction.execute(select(TREES.c.state)).scalars())
    assert states == ["searching"] * len(PROBLEMS)


def test_the_count_is_one_row_however_many_transactions_there_were(begin: Callable[..., Run]) -> None:
    run = begin(10**6)
    run.start([COLLECT])
    with run.handled.database.transaction() as transaction:
        (count,) = transaction.execute(select(token_budget.COUNTS.c.tokens)).scalars()
    assert count == run.sum_of_trees()


def test_what_needs_no_tokens_goes_on(begin: Callable[..., Run]) -> None:
    sampling = replace(COLLECT, value=None, search=SelfConsistencySettings(num_samples=3))
    total, _ = whole_run(begin, sampling)
    run = begin(total)
    scored = replace(COLLECT, name="scored", samples_of="collect-1")
    training = TrainPolicyPhase("policy-1", 1, "base", TrainingSettings(), ("collect-1",))
    assert run.start([sampling, scored, training]).state == RunState.RUNNING
    assert run.spent() == total
    with run.handled.database.transaction() as transaction:
        assert [phase.state for phase in progress.read(transaction, run.handled.run_id).phases] == [
            "done",
            "done",
            "training",
        ]
        steer.pause(transaction, "run")
        steer.resume(transaction, "run")


def test_a_budget_that_is_given_later_counts_what_was_generated_before(begin: Callable[..., Run]) -> None:
    run = begin(None)
    with run.handled.database.transaction() as transaction:
        runs.add_phases(transaction, run.handled.run_id, [COLLECT])
        transaction.emit(AdvanceRun(run_id=run.handled.run_id))
    handlers = run.bus._handlers
    for _ in range(3):
        handlers[AdvanceRun.name](AdvanceRun(run_id=run.handled.run_id))
        handlers[AdvanceTrees.name](AdvanceTrees(tree_ids=tuple(range(1, 7))))
        handlers[ProposeWaitingSteps.name](ProposeWaitingSteps())
    with run.handled.database.transaction() as transaction:
        steer.set_max_tokens(transaction, "run", 10**6)
    assert run.spent() == run.sum_of_trees() > 0
    assert run.go_on().state == RunState.DONE
    assert run.spent() == run.sum_of_trees()
