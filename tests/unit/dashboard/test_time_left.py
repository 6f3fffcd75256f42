"""The time that a run still takes, as its page guesses it from what is recorded."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState
from restmcts.adapters.storage.folder_lock import FolderUse
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts_dashboard.runs.run_reads import read_run
from sqlalchemy import insert, update

NUM_PROBLEMS = 100


def collect(number: int) -> SearchPhase:
    search = MctsStarSettings(mode="collect")
    return SearchPhase(
        f"collect-{number}", number, "collect", "train", "base", None, search, Budget(iterations=6, tokens=500)
    )


def train(number: int, *sources: str) -> TrainPolicyPhase:
    training = TrainingSettings(num_steps=100 if sources else 200)
    return TrainPolicyPhase(f"policy-{number}", number, "base", training, sources)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A run that goes on: policy-0 was trained for 40 s, 10 of them before its first step,
    collect-1 took 100 s, policy-1 15 s, and collect-2 goes on for 50 s and is half done.
    """
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "goes on", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "train", [Problem(str(n), "1") for n in range(NUM_PROBLEMS)])
        runs.add_checkpoint(transaction, run_id, "base", "policy", "nowhere", "0")
        phases = [train(0), collect(1), train(1, "collect-1"), collect(2), train(2, "collect-2")]
        runs.add_phases(transaction, run_id, phases)
        record(transaction, run_id, "policy-0", -205, -165, 30)
        record(transaction, run_id, "collect-1", -165, -65)
        record(transaction, run_id, "policy-1", -65, -50, 15)
        record(transaction, run_id, "collect-2", -50, None)
        transaction.execute(update(RUNS).values(created_at=transaction.now() - timedelta(seconds=205), provenance=None))
    yield database
    database.close()


def record(
    transaction: Transaction, run_id: int, name: str, begin: float, end: float | None, trained: float = 0
) -> None:
    """Record a phase; a search ends a tree a second."""
    now = transaction.now()
    ids = {row.name: row.id for row in runs.phases_of(transaction, run_id)}
    state = PhaseState.DONE if end is not None else PhaseState.SEARCHING
    values = {"state": state.value, "started_at": now + timedelta(seconds=begin)}
    if end is not None:
        values["finished_at"] = now + timedelta(seconds=end)
    if trained:
        values["result"] = {"seconds": trained}
    transaction.execute(update(PHASES).where(PHASES.c.id == ids[name]).values(**values))
    if not name.startswith("collect"):
        return
    problems = runs.problems_of(transaction, run_id, "train")
    tree = {"run_id": run_id, "phase_id": ids[name], "seed": 0}
    rows = []
    for place, problem in enumerate(problems):
        has_ended = begin + place < (end or 0)
        ended = {"state": "labelled", "tokens": 500, "ended_at": now + timedelta(seconds=begin + place)}
        waiting = {"state": "waiting", "tokens": 0, "ended_at": None}
        rows.append({**tree, "problem_id": problem.id, **(ended if has_ended else waiting)})
    transaction.execute(insert(TREES), rows)


def seconds_left(database: Database, use: FolderUse | None = None) -> float:
    with database.transaction() as transaction:
        forecast = read_run(transaction, 1, use).forecast
    assert forecast is not None and forecast.seconds is not None
    return forecast.seconds


def interrupt(database: Database, seconds_ago: float) -> None:
    """Let nine hours pass after what was recorded before."""
    recorded = ((PHASES, "started_at"), (PHASES, "finished_at"), (TREES, "ended_at"), (RUNS, "created_at"))
    with database.transaction() as transaction:
        until = transaction.now() - timedelta(seconds=seconds_ago)
        for table, name in recorded:
            for row in transaction.execute(table.select().where(table.c[name] < until)).all():
                earlier = {name: getattr(row, name) - timedelta(hours=9)}
                transaction.execute(update(table).where(table.c.id == row.id).values(earlier))


def test_each_kind_of_work_goes_on_at_its_own_rate(database: Database) -> None:
    """Half of a search like the last one, and a training like the last one."""
    assert seconds_left(database) == pytest.approx(50 + 15, abs=6)


def test_the_time_in_which_nothing_works_on_a_run_does_not_count(database: Database) -> None:
    interrupt(database, 0)
    assert seconds_left(database, FolderUse(is_locked=False)) == pytest.approx(50 + 15, abs=6)


def test_a_run_that_was_resumed_is_measured_from_then_on(database: Database) -> None:
    """In the midst of the second search; of a training nothing is known since then."""
    interrupt(database, 30)
    with database.transaction() as transaction:
        resumed = transaction.now() - timedelta(seconds=30)
        start = {"when": resumed.isoformat(), "command": "restmcts", "versions": {}, "machine": {}}
        transaction.execute(update(RUNS).values(provenance=[start]))
        transaction.execute(update(PHASES).where(PHASES.c.name == "policy-2").values(state=PhaseState.SKIPPED.value))
    assert seconds_left(database) == pytest.approx(50, abs=6)
