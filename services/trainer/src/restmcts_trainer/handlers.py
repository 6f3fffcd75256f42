"""Run training jobs: a phase is its own job, held by a lease while it trains, and ended by one transaction.

A job whose lease lives is left alone, so a message that comes twice does not train twice.
"""

import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from restmcts.adapters.sql import promotions, runs
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.tables import PhaseState, now
from restmcts.adapters.trained_on import write_trained_on
from restmcts.adapters.uris import local_path
from restmcts.domain.phases import TRAINING_PHASE, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.training_settings import TrainingReport
from restmcts.errors import RestMctsError, StorageError, TrainingError
from restmcts.messages.commands import TrainPolicy, TrainValue
from restmcts.messages.events import CheckpointTrained
from restmcts.ports import ArtifactStore

from restmcts_trainer.job import Job
from restmcts_trainer.process import TrainingProcess

log = logging.getLogger(__name__)

TrainProgress = Callable[[str, int, int, float], None]


@dataclass(frozen=True, slots=True)
class _Claim:
    phase_id: int
    run_id: int
    attempt: int
    phase: TrainPolicyPhase | TrainValuePhase
    parent: Any
    dataset: Any


class TrainerHandlers:
    """Handlers of the queue `trainer`; `workspace` holds what is being made."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        workspace: Path,
        lease_seconds: float = 60.0,
        on_progress: TrainProgress | None = None,
        num_threads: int | None = None,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._workspace = workspace
        self._lease_seconds = lease_seconds
        self._on_progress = on_progress
        self._num_threads = num_threads
        self._idle: list[TrainingProcess] = []
        self._busy: list[TrainingProcess] = []
        self._stopping = False

    def stop(self) -> None:
        """Give up what is being trained, for another worker to begin again; safe in a signal handler."""
        self._stopping = True
        for process in list(self._busy):
            process.kill()

    def close(self) -> None:
        """End all training processes that wait for work."""
        while self._idle:
            self._idle.pop().close()

    def train(self, message: TrainPolicy | TrainValue) -> None:
        """Train the phase's model, unless another worker does or it is done."""
        claim = None if self._stopping else self._claim(message.phase_id)
        if claim is None:
            return
        folder = self._workspace / f"training-{uuid.uuid4().hex}"
        try:
            with self._heartbeat(claim):
                result = self._train(claim, folder)
            with self._held(claim) as transaction:
                if transaction is not None:
                    self._register(transaction, claim, folder, result)
        except RestMctsError as error:
            if self._stopping or error.retryable:
                self._give_back(claim, message)
                if self._stopping:
                    return
                raise
            with self._held(claim) as transaction:
                if transaction is not None:
                    runs.set_phase(transaction, claim.phase_id, PhaseState.FAILED, result={"reason": str(error)})
                    transaction.emit(CheckpointTrained(run_id=claim.run_id))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _give_back(self, claim: _Claim, message: TrainPolicy | TrainValue) -> None:
        """Let another worker have the job, as if it had not been begun."""
        with self._held(claim) as transaction:
            if transaction is not None:
                runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, attempt=claim.attempt - 1, lease_until=None)
                if self._stopping:
                    transaction.emit(message)

    def _claim(self, phase_id: int) -> _Claim | None:
        with self._database.transaction() as transaction:
            row = runs.phase_by_id(transaction, phase_id, lock=True)
            if row is None or row.state != PhaseState.TRAINING or _lives(row.lease_until):
                return None
            lease_until = now() + timedelta(seconds=self._lease_seconds)
            runs.set_phase(transaction, phase_id, PhaseState.TRAINING, attempt=row.attempt + 1, lease_until=lease_until)
            phase = TRAINING_PHASE.validate_python(row.spec)
            checkpoints = promotions.models(transaction, row.run_id)
            parent = checkpoints[phase.needs()[0]]
            return _Claim(phase_id, row.run_id, row.attempt + 1, phase, parent, runs.dataset_of(transaction, phase_id))

    def _train(self, claim: _Claim, folder: Path) -> dict[str, Any]:
        """Train into `folder`; return what to tell of it. Without data the parent goes on, or a fresh value model begins."""
        job = Job(
            phase=claim.phase,
            parent=str(local_path(claim.parent.uri, self._artifacts)),
            dataset=self._artifacts.fetch(claim.dataset.uri),
            output=folder,
        )
        report = self._in_process(job)
        if folder.exists():
            write_trained_on(folder, job.parent, job.dataset)
        return {"trained": False, "reason": "no training data"} if report is None else {"trained": True, **asdict(report)}

    def _in_process(self, job: Job) -> TrainingReport | None:
        process = self._idle.pop() if self._idle else TrainingProcess(self._num_threads)

        def on_progress(step: int, num_steps: int, loss: float) -> None:
            if self._on_progress is not None:
                self._on_progress(job.phase.name, step, num_steps, loss)

        self._busy.append(process)
        if self._stopping:
            process.kill()
        try:
            report = process.run(job, on_progress)
        except TrainingError:
            process.close()
            raise
        finally:
            self._busy.remove(process)
        self._idle.append(process)
        return report

    def _register(self, transaction: Transaction, claim: _Claim, folder: Path, result: dict[str, Any]) -> None:
        phase = claim.phase
        lineage = {
            "run_id": claim.run_id,
            "phase": phase.name,
            "iteration": phase.iteration,
            "parent": claim.parent.digest,
            "dataset": claim.dataset.digest,
            "seed": phase.training.seed,
        }
        uri, digest = claim.parent.uri, claim.parent.digest
        if folder.exists():
            artifact = self._artifacts.put(folder, "checkpoints", lineage)
            uri, digest = artifact.uri, artifact.digest
        kind = "policy" if isinstance(phase, TrainPolicyPhase) else "value"
        runs.add_checkpoint(transaction, claim.run_id, phase.name, kind, uri, digest, claim.parent.name, lineage)
        runs.set_phase(transaction, claim.phase_id, PhaseState.DONE, result=result)
        transaction.emit(CheckpointTrained(run_id=claim.run_id))

    @contextmanager
    def _held(self, claim: _Claim) -> Iterator[Transaction | None]:
        """Yield a transaction while the job is still this worker's, else None."""
        with self._database.transaction() as transaction:
            row = runs.phase_by_id(transaction, claim.phase_id, lock=True)
            mine = row is not None and row.state == PhaseState.TRAINING and row.attempt == claim.attempt
            yield transaction if mine else None

    @contextmanager
    def _heartbeat(self, claim: _Claim) -> Iterator[None]:
        """Renew the lease while the block runs."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self._lease_seconds / 3):
                try:
                    self._renew(claim)
                except StorageError as error:
                    log.warning("the lease of phase %d is not renewed yet (%s)", claim.phase_id, error)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _renew(self, claim: _Claim) -> None:
        with self._held(claim) as transaction:
            if transaction is not None:
                lease_until = now() + timedelta(seconds=self._lease_seconds)
                runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, lease_until=lease_until)


def _lives(lease_until: Any) -> bool:
    if lease_until is None:
        return False
    aware = lease_until if lease_until.tzinfo is not None else lease_until.replace(tzinfo=now().tzinfo)
    return bool(aware > now())
