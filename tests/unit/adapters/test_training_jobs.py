"""A training job that is another worker's, done, or not wanted any more is left alone; one that
is given back is as if it had not been begun.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pytest
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import ServiceContext, ServiceSettings
from restmcts.domain.runs.phases import TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import StorageError, TrainingError
from restmcts.messages.base import Message
from restmcts.messages.commands import TrainPolicy
from restmcts_trainer.handlers import TrainerHandlers
from restmcts_trainer.machines import MachineLostError, TrainingProcessDiedError
from restmcts_trainer.process import TrainingProcess


@pytest.mark.parametrize(
    ("state", "columns", "run_state"),
    [
        (PhaseState.TRAINING, {"lease_until": moment(300), "attempt": 1}, RunState.RUNNING),
        (PhaseState.DONE, {}, RunState.RUNNING),
        (PhaseState.TRAINING, {}, RunState.CANCELLED),
    ],
    ids=["held", "done", "cancelled"],
)
def test_a_message_that_comes_again_does_not_train_again(
    state: PhaseState, columns: dict[str, Any], run_state: RunState, tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "run", "rest-mcts", 0, {})
        runs.add_phases(transaction, run_id, [TrainPolicyPhase("policy-1", 1, "base", TrainingSettings())])
        runs.add_checkpoint(transaction, run_id, "base", "policy", "nowhere", "0")
        runs.set_phase(transaction, 1, state, **columns)
        if run_state != RunState.RUNNING:
            runs.finish_run(transaction, run_id, run_state)
        before = runs.phase_by_id(transaction, 1)
    artifacts = FolderArtifactStore(tmp_path / "artifacts")
    trainer = TrainerHandlers(ServiceContext(database, artifacts, ServiceSettings(tmp_path / "work")))
    trainer.train(TrainPolicy(phase_id=1))
    with database.transaction() as transaction:
        assert runs.phase_by_id(transaction, 1) == before
    assert not (tmp_path / "work").exists()
    database.close()


class Away(FolderArtifactStore):
    """A store that calls `on_fetch` before it fetches."""

    on_fetch: Callable[[], None] = staticmethod(lambda: None)

    def fetch(self, uri: str) -> Path:
        self.on_fetch()
        return super().fetch(uri)


Store = TypeVar("Store", bound=FolderArtifactStore)


def waiting_for_training(folder: Path, artifacts: Store) -> tuple[Database, Store]:
    """Return a database with a phase, the first, that is to train, and was tried twice."""
    database = Database(f"sqlite:///{folder / 'run.db'}")
    database.create_tables()
    (folder / "data").mkdir()
    (folder / "data" / "rows").write_text("data")
    data = artifacts.put(folder / "data", "datasets", {})
    parent = artifacts.put(folder / "data", "checkpoints", {})
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "run", "rest-mcts", 0, {})
        runs.add_phases(transaction, run_id, [TrainPolicyPhase("policy-1", 1, "base", TrainingSettings())])
        runs.add_checkpoint(transaction, run_id, "base", "policy", parent.uri, parent.digest)
        runs.add_dataset(transaction, 1, "train-policy", data.uri, data.digest, {"num_rows": 1})
        runs.set_phase(transaction, 1, PhaseState.TRAINING, attempt=2)
    return database, artifacts


def test_deaths_are_counted_apart_from_lost_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines were lost before; the third death ends the job, whatever else was lost."""
    database, artifacts = waiting_for_training(tmp_path, FolderArtifactStore(tmp_path / "artifacts"))
    trainer = TrainerHandlers(ServiceContext(database, artifacts, ServiceSettings(tmp_path / "work")))
    ends = [TrainingProcessDiedError("died"), MachineLostError("lost"), *[TrainingProcessDiedError("died")] * 2]
    monkeypatch.setattr(TrainingProcess, "run", lambda *_: raised(ends.pop(0)))
    states = []
    while ends:
        trainer.train(TrainPolicy(phase_id=1))
        with database.transaction() as transaction:
            row: Any = runs.phase_by_id(transaction, 1)
        states.append((row.state, row.result.get("num_deaths")))
    going_on = [(PhaseState.TRAINING, number) for number in (1, 1, 2)]
    assert states == [*going_on, (PhaseState.FAILED, None)]
    database.close()


def raised(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("is_away", [True, False], ids=["store away", "state gone"])
def test_only_a_saved_state_that_is_gone_is_not_waited_for(
    is_away: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, artifacts = waiting_for_training(tmp_path, Away(tmp_path / "artifacts"))
    with database.transaction() as transaction:
        runs.set_phase(transaction, 1, PhaseState.TRAINING, result={"saved": "artifact:training-states/0"})
    resumed: list[Path | None] = []
    monkeypatch.setattr(TrainingProcess, "run", lambda _, job, __: resumed.append(job.resume_from))
    if is_away:
        artifacts.on_fetch = lambda: raised(StorageError("the bucket is away"))
    trainer = TrainerHandlers(ServiceContext(database, artifacts, ServiceSettings(tmp_path / "work")))
    with pytest.raises(StorageError) if is_away else nullcontext():
        trainer.train(TrainPolicy(phase_id=1))
    with database.transaction() as transaction:
        row: Any = runs.phase_by_id(transaction, 1)
    if is_away:
        assert (row.state, row.result["saved"]) == (PhaseState.TRAINING, "artifact:training-states/0")
        assert resumed == []
    else:
        assert (row.state, resumed) == (PhaseState.DONE, [None])
    database.close()


def test_memory_that_only_saves_time_is_given_up_before_a_training_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, artifacts = waiting_for_training(tmp_path, FolderArtifactStore(tmp_path / "artifacts"))
    context = ServiceContext(database, artifacts, ServiceSettings(tmp_path / "work"))
    events: list[str] = []
    context.sparers.append(lambda: events.append("spared"))

    def run(*_: object) -> None:
        events.append("trained")
        raise TrainingError("no further")

    monkeypatch.setattr(TrainingProcess, "run", run)
    trainer = TrainerHandlers(context)
    trainer.train(TrainPolicy(phase_id=1))
    assert events == ["spared", "trained"]
    trainer.close()
    database.close()


@pytest.mark.parametrize("stops", [False, True], ids=["the store is away", "the worker is asked to end"])
def test_a_training_that_is_given_back_costs_no_attempt(stops: bool, tmp_path: Path) -> None:
    sent: list[Message] = []
    database, artifacts = waiting_for_training(tmp_path, Away(tmp_path / "artifacts"))
    database.publish = lambda messages, _: sent.extend(messages)
    trainer = TrainerHandlers(ServiceContext(database, artifacts, ServiceSettings(tmp_path / "work")))
    message = TrainPolicy(phase_id=1)
    if stops:
        artifacts.on_fetch = trainer.stop
        trainer.train(message)
    else:
        with database.transaction() as transaction:
            data = runs.dataset_of(transaction, 1)
        assert data is not None
        artifacts.remove(data.uri)
        with pytest.raises(StorageError):
            trainer.train(message)
    with database.transaction() as transaction:
        row: Any = runs.phase_by_id(transaction, 1)
    assert (row.state, row.attempt) == (PhaseState.TRAINING, 2)
    assert (row.lease_until is None) == stops, "what cannot be had is not asked for at once"
    assert sent == [message] * stops, "whoever stops leaves the job to another at once; who fails is asked again"
    trainer.close()
    database.close()
