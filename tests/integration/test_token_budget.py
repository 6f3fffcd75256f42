"""A token budget on real PostgreSQL: counted by several workers at once, none of whom waits,
and never counted twice.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs, token_budget
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, ProposeWaitingSteps, ScoreWaitingSteps
from restmcts.testing.threads import all_at_once
from restmcts.testing.trees import RandomModels
from restmcts.usecases import steer
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts_cli.processes.stack_processes import Stack
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_policy_generator.handlers import PolicyGeneratorHandlers
from restmcts_prm_scorer.handlers import PrmScorerHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from sqlalchemy import func, select

NUM_TREES = 24
NUM_WORKERS = 3
LIMITS = GenerationSettings(max_step_tokens=3, max_solution_tokens=25)
"""What the models of this file write at most: steps of two tokens, twelve at most, and an end."""

SEARCH = MctsStarSettings(mode="collect", stop_threshold=2.0, roll_forward_steps=2, max_depth=5)
PHASE = SearchPhase("collect", 1, "collect", "set", "policy", "value", SEARCH, Budget(iterations=8), generation=LIMITS)


class CountedRun:
    """A run on the database whose trees search only when the test says so."""

    def __init__(self, database: Database, max_tokens: int | None) -> None:
        self.database = database
        self.name = f"budget-{time.monotonic_ns()}"
        problems = [Problem(question=f"question {number}", answer="7") for number in range(NUM_TREES)]
        with database.transaction() as transaction:
            self.run_id = runs.create_run(transaction, self.name, "rest-mcts", 0, {}, max_tokens)
            runs.add_problems(transaction, self.run_id, "set", problems)
            for name in ("policy", "value"):
                runs.add_checkpoint(transaction, self.run_id, name, name, "nowhere", "0")
            runs.add_phases(transaction, self.run_id, [PHASE])
        self.coordinate()
        with database.transaction() as transaction:
            ids = select(TREES.c.id).where(TREES.c.run_id == self.run_id).order_by(TREES.c.id)
            self.tree_ids = list(transaction.execute(ids).scalars())
        self.workers = [TreeSearchHandlers(database) for _ in range(NUM_WORKERS)]

    def coordinate(self) -> str:
        """Let the coordinator look at the run; return its state."""
        CoordinatorHandlers(self.database).advance_run(AdvanceRun(run_id=self.run_id))
        with self.database.transaction() as transaction:
            return runs.state_of(transaction, self.run_id)

    def advance(self, place: int) -> None:
        """Let one worker advance its share of the trees, a few in each transaction."""
        share = self.tree_ids[place::NUM_WORKERS]
        for start in range(0, len(share), 2):
            self.workers[place].advance_trees(AdvanceTrees(tree_ids=tuple(share[start : start + 2])))

    def advance_all_at_once(self) -> None:
        in_threads([lambda place=place: self.advance(place) for place in range(NUM_WORKERS)])

    def ask_models(self) -> None:
        models = RandomModels()
        PolicyGeneratorHandlers(self.database, lambda _: models, WorkerSettings()).propose_steps(ProposeWaitingSteps())
        self.score()

    def score(self) -> None:
        models = RandomModels()
        PrmScorerHandlers(self.database, lambda _: models, WorkerSettings()).score_steps(ScoreWaitingSteps())

    def spent(self) -> tuple[int, int]:
        """Return what is counted, and what the trees say."""
        with self.database.transaction() as transaction:
            tokens = transaction.execute(
                select(func.sum(TREES.c.tokens)).where(TREES.c.run_id == self.run_id)
            ).scalar_one()
            return token_budget.spent(transaction, self.run_id), int(tokens)


def in_threads(calls: Sequence[Callable[[], object]]) -> None:
    """Do all at once; raise what one of them raises."""
    for error in all_at_once(calls):
        raise error


@pytest.fixture
def counted_run(idle_servers: Stack, database: Database) -> Iterator[Callable[[int | None], CountedRun]]:
    """Return a function that makes a run with a budget; no worker runs, so that the test alone
    moves it.
    """
    made: list[CountedRun] = []

    def make(max_tokens: int | None) -> CountedRun:
        made.append(CountedRun(database, max_tokens))
        return made[-1]

    yield make
    with database.transaction() as transaction:
        for run in made:
            runs.finish_run(transaction, run.run_id, RunState.CANCELLED)


def test_several_workers_and_a_coordinator_count_each_token_once(
    counted_run: Callable[[int | None], CountedRun],
) -> None:
    run = counted_run(10**9)
    for _ in range(12):
        in_threads([run.advance_all_at_once, run.coordinate, run.coordinate])
        run.ask_models()
    counted, tokens = run.spent()
    assert counted == tokens > 100
    assert run.coordinate() == RunState.RUNNING
    assert run.spent() == (counted, tokens)


def test_counting_waits_for_no_one_who_holds_the_run(counted_run: Callable[[int | None], CountedRun]) -> None:
    run = counted_run(10**9)
    run.advance_all_at_once()
    run.ask_models()
    with run.database.transaction() as transaction:
        assert runs.lock_run(transaction, run.run_id) is not None
        run.advance_all_at_once()
    assert run.spent()[0] == run.spent()[1] > 0


def test_a_spent_budget_wakes_the_coordinator_pauses_and_is_raised(
    counted_run: Callable[[int | None], CountedRun],
) -> None:
    run = counted_run(40)
    emitted: list[Message] = []
    run.database.publish = lambda messages, _: emitted.extend(messages)
    for _ in range(20):
        if AdvanceRun(run_id=run.run_id) in emitted:
            break
        run.ask_models()
        emitted.clear()
        run.advance_all_at_once()
    run.database.publish = None
    assert run.spent()[0] == run.spent()[1] >= 40
    assert run.coordinate() == RunState.PAUSED
    paused_at = run.spent()
    run.ask_models()
    run.advance_all_at_once()
    assert run.spent() == paused_at, "a paused run generated"
    with run.database.transaction() as transaction:
        steer.resume(transaction, run.name, 10**9)
    for _ in range(3):
        run.ask_models()
        run.advance_all_at_once()
    assert run.coordinate() == RunState.RUNNING
    assert run.spent()[0] == run.spent()[1] > paused_at[0]


def test_several_workers_at_once_overshoot_by_less_than_one_answer(
    counted_run: Callable[[int | None], CountedRun],
) -> None:
    """Each worker claims while the others generate, and each answer takes its time."""
    budget, most = 500, SEARCH.branch * LIMITS.max_solution_tokens
    run = counted_run(budget)
    under_way = threading.Barrier(NUM_WORKERS, timeout=20)

    class Slow(RandomModels):
        def propose(self, questions: Any, requests: Any, settings: Any) -> Any:
            with suppress(threading.BrokenBarrierError):
                under_way.wait(0.3)
            under_way.reset()
            return super().propose(questions, requests, settings)

    def generate() -> None:
        PolicyGeneratorHandlers(run.database, lambda _: Slow(), WorkerSettings()).propose_steps(ProposeWaitingSteps())

    for _ in range(200):
        in_threads([generate] * NUM_WORKERS)
        run.score()
        run.advance_all_at_once()
        if run.coordinate() == RunState.PAUSED:
            break
    counted, tokens = run.spent()
    assert counted == tokens
    assert budget <= tokens < budget + most


def test_a_budget_of_a_run_that_was_not_counted_begins_with_what_it_has_generated(
    counted_run: Callable[[int | None], CountedRun],
) -> None:
    run = counted_run(None)
    for _ in range(4):
        run.advance_all_at_once()
        run.ask_models()
    assert run.spent()[0] == 0 < run.spent()[1]
    with run.database.transaction() as transaction:
        steer.set_max_tokens(transaction, run.name, 10**9)
    assert run.spent()[0] == run.spent()[1]
    run.advance_all_at_once()
    assert run.spent()[0] == run.spent()[1]
