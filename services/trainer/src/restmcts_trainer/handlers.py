"""Run training jobs: a phase is its own job, held by a lease while it trains, and ended by one
transaction.

A job whose lease lives is left alone, so a message that comes twice does not train twice. One whose
worker died goes on from the state that was last saved; one whose run was cancelled ends within a
step.
"""

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql import promotions, runs
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import ServiceContext, TrainProgress
from restmcts.domain.runs.phases import TRAINING_PHASE, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingReport
from restmcts.errors import RestMctsError, StorageError
from restmcts.messages.commands import TrainPolicy, TrainValue
from restmcts.messages.events import CheckpointTrained
from restmcts.ports import ArtifactStore

from restmcts_trainer.cards import write_card
from restmcts_trainer.job import Job
from restmcts_trainer.process import TrainingProcess

log = logging.getLogger(__name__)

STATES, LOGS = "training-states", "training-logs"
# Of looks whether a run is still wanted: no more often than once a step, and no more often than so.
_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True, slots=True)
class _Claim:
    phase_id: int
    run_id: int
    attempt: int
    phase: TrainPolicyPhase | TrainValuePhase
    parent: Any
    dataset: Any
    saved: str | None


@dataclass(frozen=True, slots=True)
class _Made:
    """A stored checkpoint; the parent's if nothing was trained."""

    uri: str
    digest: str
    lineage: dict[str, Any]


class _NotWanted(Exception):
    """The run was cancelled, or the job is another worker's by now."""


class TrainerHandlers:
    """Handlers of the queue `trainer`; the workspace of the settings holds what is being made."""

    def __init__(self, context: ServiceContext) -> None:
        settings = context.settings
        self._database = context.database
        self._artifacts = context.artifacts
        self._workspace = settings.workspace
        self._lease_seconds = settings.job_lease_seconds
        self._on_progress = context.on_training_step
        self._num_threads = settings.training_threads
        self._keep_logs = settings.keep_training_logs
        self._num_processes = settings.training_processes
        self._idle: list[TrainingProcess] = []
        self._busy: list[TrainingProcess] = []
        self._stopping = False

    def stop(self) -> None:
        """Give up what is being trained, for another worker to begin again; safe in a signal
        handler.
        """
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
            with self._heartbeat(claim), metrics.TRAINING_SECONDS.time():
                watcher, result = self._train(claim, folder)
                made = self._store(claim, folder, result)
            with self._held(claim) as transaction:
                if transaction is not None:
                    self._register(transaction, claim, made, result)
            watcher.forget_saved()
            metrics.TRAININGS.labels("done").inc()
        except _NotWanted:
            metrics.TRAININGS.labels("given-back").inc()
            with self._held(claim) as transaction:
                if transaction is not None:
                    runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, lease_until=None)
        except RestMctsError as error:
            if self._stopping or error.retryable:
                metrics.TRAININGS.labels("given-back").inc()
                self._give_back(claim, message)
                if self._stopping:
                    return
                raise
            metrics.TRAININGS.labels("failed").inc()
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
                runs.set_phase(
                    transaction, claim.phase_id, PhaseState.TRAINING, attempt=claim.attempt - 1, lease_until=None
                )
                if self._stopping:
                    transaction.emit(message)

    def _claim(self, phase_id: int) -> _Claim | None:
        with self._database.transaction() as transaction:
            row = runs.phase_by_id(transaction, phase_id, lock=True)
            if (
                row is None
                or row.state != PhaseState.TRAINING
                or (row.lease_until is not None and row.lease_until > transaction.now())
            ):
                return None
            if runs.state_of(transaction, row.run_id) == RunState.CANCELLED:
                return None
            lease_until = moment(self._lease_seconds)
            runs.set_phase(transaction, phase_id, PhaseState.TRAINING, attempt=row.attempt + 1, lease_until=lease_until)
            phase = TRAINING_PHASE.validate_python(row.spec)
            checkpoints = promotions.models(transaction, row.run_id)
            parent = checkpoints[phase.needs()[0]]
            dataset = runs.dataset_of(transaction, phase_id)
            return _Claim(phase_id, row.run_id, row.attempt + 1, phase, parent, dataset, row.result.get("saved"))

    def _train(self, claim: _Claim, folder: Path) -> tuple["_Watcher", dict[str, Any]]:
        """Train into `folder`; return what to tell of it. Without data the parent goes on, or a
        fresh value model begins.
        """
        job = Job(
            phase=claim.phase,
            parent=str(local_path(claim.parent.uri, self._artifacts)),
            dataset=self._artifacts.fetch(claim.dataset.uri),
            folder=folder,
            resume_from=self._fetch_saved(claim),
            keeps_log=self._keep_logs,
        )
        folder.mkdir(parents=True)
        watcher = _Watcher(self._database, self._artifacts, self._on_progress, claim)
        report = self._in_process(job, watcher)
        if report is None:
            return watcher, {"trained": False, "reason": "no training data"}
        result = {"trained": True, **asdict(report)}
        if job.log_folder.is_dir():
            result["log"] = self._artifacts.put(
                job.log_folder, LOGS, {"run_id": claim.run_id, "phase": claim.phase.name}
            ).uri
        return watcher, result

    def _fetch_saved(self, claim: _Claim) -> Path | None:
        """Return the last saved state; None where there is none, or it cannot be had: training
        then begins anew.
        """
        if claim.saved is None:
            return None
        try:
            return self._artifacts.fetch(claim.saved)
        except RestMctsError as error:
            log.warning("phase %s begins anew: its saved state cannot be had (%s)", claim.phase.name, error)
            return None

    def _in_process(self, job: Job, watcher: "_Watcher") -> TrainingReport | None:
        process = self._idle.pop() if self._idle else TrainingProcess(self._num_threads, self._num_processes)
        self._busy.append(process)
        if self._stopping:
            process.kill()
        try:
            report = process.run(job, watcher)
        except (RestMctsError, _NotWanted):
            process.close()
            raise
        finally:
            self._busy.remove(process)
        self._idle.append(process)
        return report

    def _store(self, claim: _Claim, folder: Path, result: dict[str, Any]) -> _Made:
        """Store what was trained, before the transaction that names it: it may take long."""
        phase = claim.phase
        lineage = {
            "run_id": claim.run_id,
            "phase": phase.name,
            "iteration": phase.iteration,
            "parent": claim.parent.digest,
            "dataset": claim.dataset.digest,
            "seed": phase.training.seed,
        }
        if result.get("held_out"):
            lineage |= {"held_out_before": result["held_out_before"], "held_out": result["held_out"]}
        uri, digest = claim.parent.uri, claim.parent.digest
        checkpoint = folder / "checkpoint"
        if checkpoint.exists():
            write_card(checkpoint, phase, claim.parent.name, lineage, result)
            artifact = self._artifacts.put(checkpoint, "checkpoints", lineage)
            uri, digest = artifact.uri, artifact.digest
        return _Made(uri, digest, lineage)

    def _register(self, transaction: Transaction, claim: _Claim, made: _Made, result: dict[str, Any]) -> None:
        phase, parent = claim.phase, claim.parent.name
        kind = "policy" if isinstance(phase, TrainPolicyPhase) else "value"
        runs.add_checkpoint(transaction, claim.run_id, phase.name, kind, made.uri, made.digest, parent, made.lineage)
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
                lease_until = moment(self._lease_seconds)
                runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, lease_until=lease_until)


class _Watcher:
    """Passes progress on, brings saved states to the store, and ends a job that is no longer
    wanted.
    """

    def __init__(self, database: Database, artifacts: ArtifactStore, on_progress: TrainProgress, claim: _Claim) -> None:
        self._database, self._artifacts, self._on_progress, self._claim = database, artifacts, on_progress, claim
        self._saved = claim.saved
        self._next_look = 0.0

    def on_step(self, step: int, num_steps: int, loss: float | None) -> None:
        """Pass a loss on; raise if the job is not wanted any more."""
        if loss is not None:
            self._on_progress(self._claim.phase.name, step, num_steps, loss)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
            with self._database.transaction() as transaction:
                self._row(transaction)

    def on_saved(self, step: int, folder: Path) -> None:
        """Store a saved state in place of the one before; where that fails, training goes on
        with the one before.
        """
        lineage = {"run_id": self._claim.run_id, "phase": self._claim.phase.name, "step": step}
        try:
            uri = self._artifacts.put(folder, STATES, lineage).uri
            with self._database.transaction() as transaction:
                result = {**self._row(transaction).result, "saved": uri, "saved_step": step}
                runs.set_phase(transaction, self._claim.phase_id, PhaseState.TRAINING, result=result)
        except StorageError as error:
            log.warning("phase %s: the state of step %d is not saved (%s)", self._claim.phase.name, step, error)
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        before, self._saved = self._saved, uri
        self._remove(before)

    def on_smaller(self, micro_batch: int) -> None:
        """Say what memory sufficed for; the report tells it too."""
        log.warning(
            "phase %s: out of memory; forward passes of %d examples now, batches as large as before",
            self._claim.phase.name,
            micro_batch,
        )

    def forget_saved(self) -> None:
        """Remove the saved state of a job that is done."""
        self._remove(self._saved)

    def _row(self, transaction: Transaction) -> Any:
        row = runs.phase_by_id(transaction, self._claim.phase_id)
        mine = row is not None and row.state == PhaseState.TRAINING and row.attempt == self._claim.attempt
        if not mine or runs.state_of(transaction, self._claim.run_id) == RunState.CANCELLED:
            raise _NotWanted
        return row

    def _remove(self, uri: str | None) -> None:
        if uri is None:
            return
        try:
            self._artifacts.remove(uri)
        except StorageError as error:
            log.warning("%s is not removed (%s)", uri, error)
