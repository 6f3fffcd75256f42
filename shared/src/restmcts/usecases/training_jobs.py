"""Training jobs: a phase is its own job, taken under a lease while it trains, and ended by one
transaction.

A job whose lease has not ended is left alone, so a message that comes twice does not train twice.
Every change of a job is made only while it is still the claim's: its attempt says whose it is.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.rows import StoredCheckpoint, StoredDataset, StoredPhase
from restmcts.adapters.sql.state import blocks, promotions, runs
from restmcts.adapters.sql.tables import Need, PhaseState, RunState
from restmcts.domain.runs.phases import TRAINING_PHASE, TrainPolicyPhase, TrainValuePhase
from restmcts.messages.base import PhaseMessage
from restmcts.messages.commands import TrainPolicy, TrainValue
from restmcts.messages.events import CheckpointTrained
from restmcts.usecases.blocked import block_phase
from restmcts.usecases.leases import renewed

COMMANDS: dict[str, type[PhaseMessage]] = {"train-policy": TrainPolicy, "train-value": TrainValue}
"""By kind of phase: what wakes a trainer for it."""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this worker does.

    Attributes:
        attempt: counts from 1; a claim of a later one takes the job away.
        parent: row of the checkpoint that is trained on.
        dataset: row of the phase's data.
        saved: URI of the state that was last saved, or None.
        num_deaths: attempts before this one whose process died.
    """

    phase_id: int
    run_id: int
    attempt: int
    phase: TrainPolicyPhase | TrainValuePhase
    parent: StoredCheckpoint
    dataset: StoredDataset
    saved: str | None
    num_deaths: int


class NotWanted(Exception):
    """The run was cancelled, or the job is another worker's by now."""


class TrainingJobs:
    """The jobs of one worker in a database."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds

    def claim(self, phase_id: int) -> ClaimedJob | None:
        """Take a job; None if it is done, another worker's, or its run was cancelled."""
        with self._database.transaction() as transaction:
            row = runs.phase_by_id(transaction, phase_id, lock=True)
            if row is None or row.state != PhaseState.TRAINING:
                return None
            if row.lease_until is not None and row.lease_until > transaction.now():
                return None
            if runs.state_of(transaction, row.run_id) == RunState.CANCELLED:
                return None
            attempt, lease_until = row.attempt + 1, moment(self._lease_seconds)
            runs.set_phase(transaction, phase_id, PhaseState.TRAINING, attempt=attempt, lease_until=lease_until)
            phase = TRAINING_PHASE.validate_python(row.spec)
            parent = promotions.models(transaction, row.run_id)[phase.needs()[0]]
            dataset = runs.dataset_of(transaction, phase_id)
            assert dataset is not None, "a phase trains once its data are written"
            saved, num_deaths = row.result.get("saved"), row.result.get("num_deaths", 0)
            return ClaimedJob(phase_id, row.run_id, attempt, phase, parent, dataset, saved, num_deaths)

    def renewed(self, claim: ClaimedJob) -> AbstractContextManager[None]:
        """Renew the lease of a job while the block runs."""
        return renewed(f"phase {claim.phase_id}", self._lease_seconds, lambda: self._renew(claim))

    def _renew(self, claim: ClaimedJob) -> None:
        with self.owned(claim) as transaction:
            if transaction is not None:
                lease_until = moment(self._lease_seconds)
                runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, lease_until=lease_until)

    @contextmanager
    def owned(self, claim: ClaimedJob) -> Iterator[Transaction | None]:
        """Yield a transaction with the job locked while it is still the claim's, else None."""
        with self._database.transaction() as transaction:
            row = runs.phase_by_id(transaction, claim.phase_id, lock=True)
            mine = row is not None and row.state == PhaseState.TRAINING and row.attempt == claim.attempt
            yield transaction if mine else None

    def row(self, transaction: Transaction, claim: ClaimedJob) -> StoredPhase:
        """Return the job's row.

        Raises:
            NotWanted: if nobody waits any more for what the claim does.
        """
        row = runs.phase_by_id(transaction, claim.phase_id)
        if row is None or row.state != PhaseState.TRAINING or row.attempt != claim.attempt:
            raise NotWanted
        if runs.state_of(transaction, claim.run_id) == RunState.CANCELLED:
            raise NotWanted
        return row

    def check_wanted(self, claim: ClaimedJob) -> None:
        """Look whether the job goes on.

        Raises:
            NotWanted: if it does not.
        """
        with self._database.transaction() as transaction:
            self.row(transaction, claim)

    def save_state(self, claim: ClaimedJob, uri: str, step: int) -> None:
        """Store where the state of a step is, for whoever goes on with the job.

        Raises:
            NotWanted: if nobody is to go on with this claim's.
        """
        with self._database.transaction() as transaction:
            result = {**self.row(transaction, claim).result, "saved": uri, "saved_step": step}
            runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, result=result)

    def release(self, claim: ClaimedJob) -> None:
        """End the lease of a job that is not wanted any more; its attempt counts."""
        with self.owned(claim) as transaction:
            if transaction is not None:
                runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, lease_until=None)

    def give_back(self, claim: ClaimedJob, *, wake: bool) -> None:
        """Let another worker have the job, as if it had not been started; at once, if `wake`."""
        with self.owned(claim) as transaction:
            if transaction is None:
                return
            runs.set_phase(
                transaction, claim.phase_id, PhaseState.TRAINING, attempt=claim.attempt - 1, lease_until=None
            )
            if wake:
                transaction.emit(COMMANDS[claim.phase.kind](phase_id=claim.phase_id))

    def begin_again(self, claim: ClaimedJob, *, has_died: bool) -> None:
        """Let any worker begin the job again, at once; its attempt counts, and whether its process
        died.
        """
        with self.owned(claim) as transaction:
            row = None if transaction is None else runs.phase_by_id(transaction, claim.phase_id)
            if transaction is not None and row is not None:
                result = {**row.result, "num_deaths": claim.num_deaths + has_died}
                runs.set_phase(transaction, claim.phase_id, PhaseState.TRAINING, lease_until=None, result=result)
                transaction.emit(COMMANDS[claim.phase.kind](phase_id=claim.phase_id))

    def block(self, claim: ClaimedJob, reason: str) -> None:
        """Give a job back that needs what is not available now: nobody takes it before a pause is
        over.
        """
        with self.owned(claim) as transaction:
            if transaction is not None:
                block_phase(transaction, claim.run_id, claim.phase_id, reason, attempt=claim.attempt - 1)

    def unblock(self, claim: ClaimedJob) -> None:
        """Note that the job has what it needs."""
        with self.owned(claim) as transaction:
            if transaction is not None:
                blocks.unblock(transaction, Need.PHASE, claim.phase_id)

    def fail(self, claim: ClaimedJob, reason: str) -> None:
        """End a job that cannot be done."""
        with self.owned(claim) as transaction:
            if transaction is not None:
                runs.set_phase(transaction, claim.phase_id, PhaseState.FAILED, result={"reason": reason})
                transaction.emit(CheckpointTrained(run_id=claim.run_id))
