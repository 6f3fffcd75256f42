"""A lease is renewed as long as its work goes on, and a training job changes only in the hands of
the worker whose claim is the last.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.domain.runs.phases import TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import StorageError
from restmcts.messages.base import Message
from restmcts.messages.commands import TrainPolicy
from restmcts.messages.events import CheckpointTrained
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.leases import renewed
from restmcts.usecases.training_jobs import NotWanted, TrainingJobs

WAIT_SECONDS = 20.0


def test_a_lease_is_renewed_while_the_block_runs_also_after_a_database_that_was_away() -> None:
    renewals: list[str] = []
    enough = threading.Event()

    def renew() -> None:
        renewals.append(threading.current_thread().name)
        if len(renewals) == 1:
            raise StorageError("the database is away")
        if len(renewals) == 3:
            enough.set()

    with renewed("a job", 0.03, renew):
        assert enough.wait(WAIT_SECONDS)
    assert set(renewals) == {"lease"}
    assert not any(thread.name == "lease" for thread in threading.enumerate()), "nobody renews afterwards"


def test_a_lease_ends_with_the_error_of_its_block() -> None:
    with pytest.raises(ValueError, match="broken"), renewed("a job", 60.0, lambda: None):
        raise ValueError("broken")
    assert not any(thread.name == "lease" for thread in threading.enumerate())


@pytest.fixture
def sent() -> list[Message]:
    return []


@pytest.fixture
def database(tmp_path: Path, sent: list[Message]) -> Iterator[Database]:
    """A run whose one training waits for a worker."""
    database = Database(f"sqlite:///{tmp_path / 'run.db'}", lambda messages, _: sent.extend(messages))
    database.create_tables()
    with database.transaction() as transaction:
        phases = (TrainPolicyPhase("policy-1", 1, "base", TrainingSettings()),)
        new = NewRun("run", "rest-mcts", 0, phases, checkpoints={"base": NewCheckpoint("policy", "somewhere")})
        create_run(transaction, new)
        runs.add_dataset(transaction, 1, "train-policy", "artifact:datasets/1", "1", {"num_rows": 1})
        runs.set_phase(transaction, 1, PhaseState.TRAINING)
    sent.clear()
    yield database
    database.close()


def row(database: Database) -> Any:
    with database.transaction() as transaction:
        return runs.phase_by_id(transaction, 1)


def test_a_job_is_one_workers_until_its_lease_ends(database: Database) -> None:
    first = TrainingJobs(database, lease_seconds=60.0).claim(1)
    assert first is not None and (first.attempt, first.parent.name, first.saved) == (1, "base", None)
    assert TrainingJobs(database, lease_seconds=60.0).claim(1) is None


def test_what_is_left_of_an_overtaken_claim_changes_nothing(database: Database, sent: list[Message]) -> None:
    jobs = TrainingJobs(database, lease_seconds=-1.0)
    overtaken, mine = jobs.claim(1), jobs.claim(1)
    assert overtaken is not None and mine is not None and mine.attempt == 2
    before = row(database)
    with pytest.raises(NotWanted):
        jobs.check_wanted(overtaken)
    with pytest.raises(NotWanted):
        jobs.save_state(overtaken, "artifact:states/1", 10)
    jobs.give_back(overtaken, wake=True)
    jobs.release(overtaken)
    jobs.fail(overtaken, "out of memory")
    with jobs.owned(overtaken) as transaction:
        assert transaction is None
    assert row(database) == before and sent == []
    jobs.check_wanted(mine)


def test_whoever_goes_on_finds_the_state_that_was_saved(database: Database) -> None:
    jobs = TrainingJobs(database, lease_seconds=-1.0)
    first = jobs.claim(1)
    assert first is not None
    jobs.save_state(first, "artifact:states/1", 10)
    second = jobs.claim(1)
    assert second is not None and second.saved == "artifact:states/1"


def test_a_job_that_is_given_back_has_cost_no_attempt_and_wakes_another_worker(
    database: Database, sent: list[Message]
) -> None:
    jobs = TrainingJobs(database, lease_seconds=60.0)
    claim = jobs.claim(1)
    assert claim is not None
    jobs.give_back(claim, wake=True)
    assert (row(database).attempt, row(database).lease_until, sent) == (0, None, [TrainPolicy(phase_id=1)])


def test_a_job_that_cannot_be_done_ends_its_phase_with_the_reason(database: Database, sent: list[Message]) -> None:
    jobs = TrainingJobs(database, lease_seconds=60.0)
    claim = jobs.claim(1)
    assert claim is not None
    jobs.fail(claim, "out of memory")
    assert (row(database).state, row(database).result) == (PhaseState.FAILED, {"reason": "out of memory"})
    assert sent == [CheckpointTrained(run_id=1)]


def test_nobody_wants_the_job_of_a_run_that_was_cancelled(database: Database) -> None:
    jobs = TrainingJobs(database, lease_seconds=60.0)
    claim = jobs.claim(1)
    assert claim is not None
    with database.transaction() as transaction:
        runs.finish_run(transaction, 1, RunState.CANCELLED)
    with pytest.raises(NotWanted):
        jobs.check_wanted(claim)
    jobs.release(claim)
    assert (row(database).lease_until, row(database).attempt) == (None, 1), "its attempt counts"
    assert jobs.claim(1) is None
