"""Run training jobs, each in a process of its own, for the phases that this worker could claim.

One whose worker died goes on from the state that was last saved; one whose run was cancelled ends
within a step.
"""

import logging
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from restmcts.adapters.observability import metrics
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import ServiceContext
from restmcts.domain.runs.training_settings import TrainingReport
from restmcts.errors import (
    LEAVING,
    CorruptArtifactError,
    MissingArtifactError,
    RestMctsError,
    StorageError,
    is_retryable,
    is_unavailable,
    reason_of,
)
from restmcts.messages.commands import TrainPolicy, TrainValue
from restmcts.usecases.storage import sweep_training_states
from restmcts.usecases.training_jobs import ClaimedJob, NotWanted, TrainingJobs

from restmcts_trainer.job import Job, Sources
from restmcts_trainer.machines import FurtherMachines, MachineLostError, TrainingProcessDiedError
from restmcts_trainer.process import TrainingProcess
from restmcts_trainer.registration import register, store_checkpoint
from restmcts_trainer.watcher import Watcher

log = logging.getLogger(__name__)

LOGS = "training-logs"
MAX_DEATHS = 3
"""Of the processes of a training, after which it is not started again."""
MAX_LOSSES = 20
"""Attempts after which a training that lost a machine is not started again."""
SECONDS_BEFORE_NAMED = 3600.0
"""Within which the row that names a saved state is there, or will never be."""


class TrainerHandlers:
    """Handlers of the queue `trainer`; the workspace of the settings holds what is being made."""

    def __init__(self, context: ServiceContext) -> None:
        self._artifacts = context.artifacts
        self._database = context.database
        self._settings = context.settings
        self._on_progress = context.on_training_step
        self._sparers = context.sparers
        self._jobs = TrainingJobs(context.database, context.settings.job_lease_seconds)
        self._idle: list[TrainingProcess] = []
        self._busy: list[TrainingProcess] = []
        self._stopping = False
        wanted = context.settings.training_machines
        self._machines = None if wanted is None else FurtherMachines(wanted)

    def stop(self) -> None:
        """Give up what is being trained, for another worker to begin again; safe in a signal
        handler.
        """
        self._stopping = True
        for process in list(self._busy):
            process.kill()

    def close(self) -> None:
        """End all training processes that wait for work, and let further machines go."""
        while self._idle:
            self._idle.pop().close()
        if self._machines is not None:
            self._machines.close()

    def train(self, message: TrainPolicy | TrainValue) -> None:
        """Train the phase's model, unless another worker does or it is done."""
        claim = None if self._stopping else self._jobs.claim(message.phase_id)
        if claim is None:
            return
        self._sweep()
        folder = self._settings.workspace / f"training-{uuid.uuid4().hex}"
        try:
            self._do(claim, folder)
            metrics.TRAININGS.labels("done").inc()
        except NotWanted:
            metrics.TRAININGS.labels("given-back").inc()
            self._jobs.release(claim)
        except LEAVING:
            raise
        except BaseException as error:
            if isinstance(error, TrainingProcessDiedError) and not self._stopping:
                self._begin_again(claim, error)
                return
            if not self._stopping and is_unavailable(error):
                metrics.TRAININGS.labels("given-back").inc()
                self._jobs.block(claim, reason_of(error))
                raise
            if not self._stopping and not is_retryable(error):
                metrics.TRAININGS.labels("failed").inc()
                self._jobs.fail(claim, reason_of(error))
                return
            metrics.TRAININGS.labels("given-back").inc()
            self._jobs.give_back(claim, wake=self._stopping)
            if not self._stopping:
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _begin_again(self, claim: ClaimedJob, error: TrainingProcessDiedError) -> None:
        """Let the job go on from its saved state where its process died or a machine was lost; not
        without end.
        """
        is_lost = isinstance(error, MachineLostError)
        if claim.attempt < MAX_LOSSES if is_lost else claim.num_deaths + 1 < MAX_DEATHS:
            log.warning("phase %s: %s; it is started again", claim.phase.name, error)
            metrics.TRAININGS.labels("given-back").inc()
            self._jobs.begin_again(claim, has_died=not is_lost)
        else:
            metrics.TRAININGS.labels("failed").inc()
            self._jobs.fail(claim, f"{reason_of(error)} (attempt {claim.attempt})")

    def _sweep(self) -> None:
        """Remove the states of trainings that nobody goes on with; where that fails, another time
        does.
        """
        try:
            sweep_training_states(self._database, self._artifacts, SECONDS_BEFORE_NAMED)
        except StorageError as error:
            log.warning("the states of ended trainings are not swept (%s)", error)

    def _do(self, claim: ClaimedJob, folder: Path) -> None:
        watcher = Watcher(self._jobs, self._artifacts, self._on_progress, claim)
        with self._jobs.renewed(claim), metrics.TRAINING_SECONDS.time():
            result = self._train(claim, folder, watcher)
            made = store_checkpoint(self._artifacts, claim, folder / "checkpoint", result)
        with self._jobs.owned(claim) as transaction:
            if transaction is not None:
                register(transaction, claim, made, result)
        watcher.forget_saved()

    def _train(self, claim: ClaimedJob, folder: Path, watcher: Watcher) -> dict[str, Any]:
        """Train into `folder`; return what the phase's result says of it. Without data the parent
        goes on, or a fresh value model begins.
        """
        resume_from = self._fetch_saved(claim)
        job = Job(
            phase=claim.phase,
            parent=str(local_path(claim.parent.uri, self._artifacts)),
            dataset=self._artifacts.fetch(claim.dataset.uri),
            folder=folder,
            resume_from=resume_from,
            keeps_log=self._settings.keep_training_logs,
            sources=Sources(claim.parent.uri, claim.dataset.uri, None if resume_from is None else claim.saved),
        )
        folder.mkdir(parents=True)
        report = self._in_process(job, watcher)
        if report is None:
            return {"trained": False, "reason": "no training data"}
        result = {"trained": True, **asdict(report)}
        if job.log_folder.is_dir():
            lineage = {"run_id": claim.run_id, "phase": claim.phase.name}
            result["log"] = self._artifacts.put(job.log_folder, LOGS, lineage).uri
        return result

    def _fetch_saved(self, claim: ClaimedJob) -> Path | None:
        """Return the last saved state; None where there is none, or it is no more: training then
        begins anew.
        """
        if claim.saved is None:
            return None
        try:
            return self._artifacts.fetch(claim.saved)
        except (MissingArtifactError, CorruptArtifactError) as error:
            log.warning("phase %s starts from the beginning: its saved state is gone (%s)", claim.phase.name, error)
            return None

    def _in_process(self, job: Job, watcher: Watcher) -> TrainingReport | None:
        process = self._idle.pop() if self._idle else self._new_process()
        self._busy.append(process)
        if self._stopping:
            process.kill()
        for spare in self._sparers:
            spare()
        try:
            report = process.run(job, watcher)
        except (RestMctsError, NotWanted):
            process.close()
            raise
        finally:
            self._busy.remove(process)
        self._idle.append(process)
        return report

    def _new_process(self) -> TrainingProcess:
        settings = self._settings
        return TrainingProcess(
            settings.training_threads, settings.training_processes, settings.training_sharding, self._machines
        )
