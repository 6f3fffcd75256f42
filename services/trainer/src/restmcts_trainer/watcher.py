"""What a training job's process says, seen by whoever claimed the job."""

import logging
import shutil
import time
from pathlib import Path

from restmcts.adapters.workers.service import TrainProgress
from restmcts.errors import StorageError
from restmcts.ports import ArtifactStore
from restmcts.usecases.training_jobs import ClaimedJob, TrainingJobs

log = logging.getLogger(__name__)

STATES = "training-states"
SECONDS_BETWEEN_LOOKS = 0.2
"""Whether a job is still wanted is not asked more often than this."""


class Watcher:
    """Passes progress on, brings saved states to the store, and ends a job that is no longer
    wanted.
    """

    def __init__(
        self, jobs: TrainingJobs, artifacts: ArtifactStore, on_progress: TrainProgress, claim: ClaimedJob
    ) -> None:
        self._jobs, self._artifacts, self._on_progress, self._claim = jobs, artifacts, on_progress, claim
        self._saved = claim.saved
        self._has_stepped = False
        self._next_look = 0.0

    def on_step(self, step: int, num_steps: int, loss: float | None) -> None:
        """Pass a loss on; raise if the job is not wanted any more."""
        if loss is not None:
            self._on_progress(self._claim.phase.name, step, num_steps, loss)
        if not self._has_stepped:
            self._has_stepped = True
            self._jobs.unblock(self._claim)
        self.on_wait()

    def on_wait(self) -> None:
        """Raise if the job is not wanted any more."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
            self._jobs.check_wanted(self._claim)

    def on_saved(self, step: int, folder: Path) -> None:
        """Store a saved state in place of the one before; where that fails, training goes on
        with the one before.
        """
        lineage = {"run_id": self._claim.run_id, "phase": self._claim.phase.name, "step": step}
        try:
            uri = self._artifacts.put(folder, STATES, lineage).uri
            self._jobs.save_state(self._claim, uri, step)
        except StorageError as error:
            log.warning("phase %s: the state of step %d is not saved (%s)", self._claim.phase.name, step, error)
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        before, self._saved = self._saved, uri
        self._remove(before)

    def on_smaller(self, micro_batch: int) -> None:
        """Log what memory sufficed for; the report has it too."""
        log.warning(
            "phase %s: out of memory; forward passes of %d examples now, batches as large as before",
            self._claim.phase.name,
            micro_batch,
        )

    def forget_saved(self) -> None:
        """Remove the saved state of a job that is done."""
        self._remove(self._saved)

    def _remove(self, uri: str | None) -> None:
        if uri is None:
            return
        try:
            self._artifacts.remove(uri)
        except StorageError as error:
            log.warning("%s is not removed (%s)", uri, error)
