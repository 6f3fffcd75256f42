"""On PostgreSQL: a process with a wrong clock takes nobody's lease away, and one that is frozen
with a lock stops no other run.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import requests, runs
from restmcts.adapters.sql.state.requests import REQUESTS
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import PhaseState, RequestKind, RunState, TreeState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.errors import StorageError
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, TrainPolicy
from restmcts.usecases.reconcile import RetryPolicy, wake_overdue
from restmcts_cli.processes.stack_processes import Stack
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from sqlalchemy import select, update

SEARCH = SearchPhase("grade", 1, "evaluate", "set", "policy", None, CotSettings())
TRAINING = TrainPolicyPhase("policy-1", 1, "policy", TrainingSettings())
LEASE_SECONDS = 60.0


@pytest.fixture
def emitted(database: Database) -> list[Message]:
    """What transactions of the database emit; nobody handles it."""
    messages: list[Message] = []
    database.publish = lambda more, _: messages.extend(more)
    return messages


@pytest.fixture
def new_run(idle_servers: Stack, database: Database) -> Iterator[Callable[[], int]]:
    """A function that makes a run of one problem, which nobody has begun and no worker moves; at
    the end its runs are cancelled, so that workers of other tests do not ask for their policy,
    which is nowhere.
    """
    run_ids: list[int] = []

    def make() -> int:
        with database.transaction() as transaction:
            run_id = runs.create_run(transaction, f"clock-{time.monotonic_ns()}", "rest-mcts", 0, {})
            runs.add_problems(transaction, run_id, "set", [Problem(question="question", answer="1")])
            runs.add_checkpoint(transaction, run_id, "policy", "policy", "nowhere", "0")
            runs.add_phases(transaction, run_id, [SEARCH, TRAINING])
        run_ids.append(run_id)
        return run_id

    yield make
    with database.transaction() as transaction:
        for run_id in run_ids:
            runs.finish_run(transaction, run_id, RunState.CANCELLED)


def begin(database: Database, run_id: int) -> list[int]:
    """Let a run's tree search and ask; return the ids of its requests."""
    CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
    with database.transaction() as transaction:
        tree_ids = tuple(transaction.execute(select(TREES.c.id).where(TREES.c.run_id == run_id)).scalars())
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=tree_ids))
    with database.transaction() as transaction:
        return list(transaction.execute(select(REQUESTS.c.id).where(REQUESTS.c.tree_id.in_(tree_ids))).scalars())


def states(database: Database, request_ids: list[int]) -> set[str]:
    with database.transaction() as transaction:
        return set(transaction.execute(select(REQUESTS.c.state).where(REQUESTS.c.id.in_(request_ids))).scalars())


def round_of_coordinator(database: Database) -> None:
    with database.transaction() as transaction:
        wake_overdue(transaction, RetryPolicy(), lambda _: True)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_coordinator_with_a_wrong_clock_releases_live_leases_never_and_ended_ones_always(
    database: Database, emitted: list[Message], new_run: Callable[[], int], hours: int
) -> None:
    run_id = new_run()
    request_ids = begin(database, run_id)
    with database.transaction() as transaction:
        while (claim := requests.claim(transaction, RequestKind.PROPOSE, 64, LEASE_SECONDS)) is not None:
            live = [request for request in claim.requests if request.request_id in request_ids]
        [training] = [row for row in runs.phases_of(transaction, run_id) if row.name == "policy-1"]
        runs.set_phase(transaction, training.id, PhaseState.TRAINING, lease_until=moment(LEASE_SECONDS))
    emitted.clear()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)):
        round_of_coordinator(database)
        assert states(database, request_ids) == {"leased"}
        assert TrainPolicy(phase_id=training.id) not in emitted
        with database.transaction() as transaction:
            requests.renew(transaction, live, -1.0)
            transaction.execute(update(PHASES).where(PHASES.c.id == training.id).values(lease_until=moment(-1)))
        round_of_coordinator(database)
        assert states(database, request_ids) == {"waiting"}
        assert TrainPolicy(phase_id=training.id) in emitted


def test_a_search_worker_with_a_wrong_clock_measures_time_as_the_others_do(
    database: Database, emitted: list[Message], new_run: Callable[[], int]
) -> None:
    run_id = new_run()
    CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        begin(database, run_id)
    with database.transaction() as transaction:
        tree = transaction.execute(select(TREES).where(TREES.c.run_id == run_id)).one()
        assert timedelta(0) <= tree.updated_at - tree.started_at < timedelta(minutes=1)
        assert abs((transaction.now() - tree.updated_at).total_seconds()) < 60


FROZEN = """
import os, signal, sys
from restmcts.adapters.sql.database import Database
from sqlalchemy import text
with Database(sys.argv[1], idle_seconds=float(sys.argv[2])).transaction() as transaction:
    transaction.execute(text(f"SELECT * FROM {sys.argv[3]} FOR UPDATE"))
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def freeze(servers: Stack) -> Iterator[Callable[[str, float], None]]:
    """Lock rows (a table and a condition) in a process that is then frozen."""
    processes: list[subprocess.Popen[bytes]] = []

    def lock(rows: str, idle_seconds: float) -> None:
        command = [sys.executable, "-c", FROZEN, servers.settings["RESTMCTS_DATABASE_URL"], str(idle_seconds), rows]
        processes.append(subprocess.Popen(command))
        os.waitid(os.P_PID, processes[-1].pid, os.WSTOPPED)

    yield lock
    for process in processes:
        process.kill()
        process.wait()


def test_a_frozen_holder_of_a_run_stops_no_other_and_its_own_until_its_transaction_is_ended(
    database: Database, emitted: list[Message], new_run: Callable[[], int], freeze: Callable[[str, float], None]
) -> None:
    locked, other = new_run(), new_run()
    freeze(f"runs WHERE id = {locked}", 5.0)
    coordinator = CoordinatorHandlers(database)
    coordinator.advance_run(AdvanceRun(run_id=locked))
    assert emitted == []
    coordinator.advance_run(AdvanceRun(run_id=other))
    assert AdvanceTrees in map(type, emitted)
    for _ in range(200):
        emitted.clear()
        coordinator.wake_passed_over()
        assert emitted == [AdvanceRun(run_id=locked)]
        coordinator.advance_run(AdvanceRun(run_id=locked))
        if len(emitted) > 1:
            break
        time.sleep(0.1)
    assert AdvanceTrees in map(type, emitted)
    emitted.clear()
    coordinator.wake_passed_over()
    assert emitted == []


def test_a_frozen_holder_of_a_hopeless_tree_stops_no_round_of_the_coordinator(
    database: Database, emitted: list[Message], new_run: Callable[[], int], freeze: Callable[[str, float], None]
) -> None:
    locked, other = new_run(), new_run()
    request_ids = begin(database, locked) + begin(database, other)
    with database.transaction() as transaction:
        transaction.execute(update(REQUESTS).where(REQUESTS.c.id.in_(request_ids)).values(attempt=3))
    freeze(f"trees WHERE run_id = {locked}", 60.0)
    with database.transaction() as transaction:
        wake_overdue(transaction, RetryPolicy(max_attempts=3), lambda _: True)
    with database.transaction() as transaction:
        found = dict(
            transaction.execute(select(TREES.c.run_id, TREES.c.state).where(TREES.c.run_id.in_([locked, other]))).all()
        )
    assert found == {locked: TreeState.SEARCHING, other: TreeState.FAILED}


def test_who_waits_for_a_lock_is_told_so_in_one_line(
    database: Database, new_run: Callable[[], int], freeze: Callable[[str, float], None]
) -> None:
    run_id = new_run()
    freeze(f"runs WHERE id = {run_id}", 60.0)
    with pytest.raises(StorageError, match="another process holds"), database.transaction() as transaction:
        runs.lock_run(transaction, run_id)
