"""What is found and woken when messages were lost or workers died, and given up when waking does
not help.

Waking twice does no harm, and neither do two reconcilers: a round is under a lock, and what it
wakes is dated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, text, update

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import Columns, StoredPhase
from restmcts.adapters.sql.state import blocks, requests, runs, trees
from restmcts.adapters.sql.state.blocks import BLOCKS
from restmcts.adapters.sql.state.requests import REQUESTS, WAKE_UPS
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import Need, PhaseState, TreeState
from restmcts.messages.base import Message, PhaseMessage, Queue
from restmcts.messages.commands import (
    AdvanceRun,
    AdvanceTrees,
    EvaluateValues,
    LabelTrees,
    TrainPolicy,
    TrainValue,
    WriteDataset,
)
from restmcts.messages.routes import queue_of

TREES_PER_MESSAGE = 64
ROUND_LOCK = 7_264_001
SECONDS_UNASKED = 60.0
"""After which nobody seems to need any more what a run could not have."""

ENDED_PHASES = (PhaseState.DONE.value, PhaseState.SKIPPED.value, PhaseState.FAILED.value)

IsDrained = Callable[[Queue], bool]
"""Says whether workers have received everything that was in a queue."""

COMMANDS: dict[tuple[str, str], type[PhaseMessage]] = {
    (PhaseState.WRITING.value, "train-policy"): WriteDataset,
    (PhaseState.WRITING.value, "train-value"): WriteDataset,
    (PhaseState.TRAINING.value, "train-policy"): TrainPolicy,
    (PhaseState.TRAINING.value, "train-value"): TrainValue,
    (PhaseState.PROMOTING.value, "gate"): EvaluateValues,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When something is woken again, and when it is given up.

    Attributes:
        overdue_seconds: without progress after which a tree is woken.
        max_attempts: wake-ups of a tree, beginnings of a request or of a job, without progress.
    """

    overdue_seconds: float = 15.0
    max_attempts: int = 20


@dataclass(frozen=True, slots=True)
class StuckTree:
    """A tree that only a message can move."""

    id: int
    num_attempts: int


def wake_all(transaction: Transaction) -> None:
    """Release every lease and wake all that waits in the running runs that this process works on:
    no other process can have a lease (embedded use).
    """
    requests.release_overdue(transaction, all_leases=True)
    requests.end_unwanted(transaction)
    blocks.retry_now(transaction, transaction.only_run)
    run_ids = _running(transaction)
    transaction.execute(update(PHASES).where(PHASES.c.run_id.in_(run_ids)).values(lease_until=None))
    transaction.emit(*(AdvanceRun(run_id=run_id) for run_id in run_ids), *_about_requests(transaction))
    for state in (TreeState.SEARCHING, TreeState.ENDED):
        transaction.emit(*_wake_ups(state, [row.id for row in _stuck(transaction, run_ids, state)]))
    transaction.emit(*(COMMANDS[row.state, row.kind](phase_id=row.id) for row in _jobs(transaction, run_ids)))


def wake_overdue(transaction: Transaction, retries: RetryPolicy, is_drained: IsDrained) -> None:
    """Release leases that have ended, wake what has not gone on in running runs, and fail what was
    woken too often.

    A wake-up counts as an attempt only if workers took what was in the queue: while they are away,
    or behind, nothing is given up.
    """
    if not _lock_round(transaction):
        return
    metrics.WAKE_UPS.labels("lease").inc(requests.release_overdue(transaction))
    requests.end_unwanted(transaction)
    _forget_unneeded(transaction)
    run_ids = _running(transaction)
    _give_up(transaction, requests.exhausted(transaction, retries.max_attempts))
    for state, queue in ((TreeState.SEARCHING, Queue.SEARCH), (TreeState.ENDED, Queue.LABELS)):
        _wake_trees(transaction, run_ids, state, retries, counted=is_drained(queue))
    transaction.emit(*(message for message in _about_requests(transaction) if is_drained(queue_of(message.name))))
    _wake_jobs(transaction, run_ids, retries, is_drained)
    transaction.emit(*(AdvanceRun(run_id=run_id) for run_id in run_ids))


def _lock_round(transaction: Transaction) -> bool:
    lock = text(f"SELECT pg_try_advisory_xact_lock({ROUND_LOCK})")
    return transaction.connection.dialect.name != "postgresql" or bool(transaction.execute(lock).scalar())


def _running(transaction: Transaction) -> list[int]:
    """Return the running runs that this process works on, but for those that wait as a whole for
    what is not available yet.
    """
    running = select(RUNS.c.id).where(requests.is_worked_on(transaction))
    due = RUNS.c.id.not_in(blocks.not_due(Need.RUN))
    return list(transaction.execute(running.where(due).order_by(RUNS.c.id)).scalars())


def _forget_unneeded(transaction: Transaction) -> None:
    """Strike out what a run could not have and nothing asks for any more: whatever needed it ended
    otherwise.
    """
    asked_for = select(REQUESTS.c.checkpoint_id).where(
        requests.UNANSWERED, REQUESTS.c.checkpoint_id == BLOCKS.c.need_id
    )
    ended = select(PHASES.c.id).where(PHASES.c.state.in_(ENDED_PHASES))
    unneeded = {Need.CHECKPOINT: ~asked_for.exists(), Need.PHASE: BLOCKS.c.need_id.in_(ended)}
    for need, condition in unneeded.items():
        overdue = BLOCKS.c.retry_at < moment(-SECONDS_UNASKED)
        transaction.execute(delete(BLOCKS).where(BLOCKS.c.need == need.value, overdue, condition))


def _about_requests(transaction: Transaction) -> list[Message]:
    return [message for kind, message in WAKE_UPS.items() if requests.any_waiting(transaction, kind)]


def _stuck(transaction: Transaction, run_ids: Sequence[int], state: TreeState, seconds: float = 0.0) -> list[StuckTree]:
    """Return, locked, trees that only a message can move: to begin, to apply their answers, or
    to be labelled.
    """
    due = PHASES.c.id.not_in(blocks.not_due(Need.PHASE))
    phase_ids = select(PHASES.c.id).where(PHASES.c.run_id.in_(run_ids), due)
    statement = select(TREES.c.id, TREES.c.num_attempts).where(
        TREES.c.phase_id.in_(phase_ids), TREES.c.state == state.value
    )
    if state == TreeState.SEARCHING:
        answered = select(REQUESTS.c.tree_id).where(requests.ANSWERED)
        statement = statement.where((TREES.c.version == 0) | TREES.c.id.in_(answered))
    if seconds:
        statement = statement.where(TREES.c.updated_at < moment(-seconds))
    return transaction.rows(StuckTree, statement.order_by(TREES.c.id).with_for_update(skip_locked=True))


def _wake_trees(
    transaction: Transaction, run_ids: Sequence[int], state: TreeState, retries: RetryPolicy, *, counted: bool
) -> None:
    stuck = _stuck(transaction, run_ids, state, retries.overdue_seconds)
    hopeless = [row.id for row in stuck if row.num_attempts >= retries.max_attempts]
    _give_up(
        transaction,
        dict.fromkeys(hopeless, f"woken {retries.max_attempts} times while {state.value}, without progress"),
    )
    woken = [row.id for row in stuck if row.num_attempts < retries.max_attempts]
    num_attempts = TREES.c.num_attempts + int(counted)
    transaction.execute(
        update(TREES).where(TREES.c.id.in_(woken)).values(updated_at=moment(), num_attempts=num_attempts)
    )
    metrics.WAKE_UPS.labels("tree").inc(len(woken))
    transaction.emit(*_wake_ups(state, woken))


def _give_up(transaction: Transaction, reasons: dict[int, str]) -> None:
    """Fail trees; their runs are advanced by the round itself."""
    trees.fail(
        transaction,
        {tree_id: f"{reason}; see the dead letters and the workers' logs" for tree_id, reason in reasons.items()},
    )


def _wake_ups(state: TreeState, tree_ids: Sequence[int]) -> list[Message]:
    command = AdvanceTrees if state == TreeState.SEARCHING else LabelTrees
    chunks = [tree_ids[start : start + TREES_PER_MESSAGE] for start in range(0, len(tree_ids), TREES_PER_MESSAGE)]
    return [command(tree_ids=tuple(chunk)) for chunk in chunks]


def _jobs(transaction: Transaction, run_ids: Sequence[int]) -> list[StoredPhase]:
    """Return, locked, the phases that write data, train or evaluate and that nobody leases."""
    statement = select(PHASES).where(
        PHASES.c.run_id.in_(run_ids),
        PHASES.c.state.in_({state for state, _ in COMMANDS}),
        PHASES.c.lease_until.is_(None) | (PHASES.c.lease_until < moment()),
    )
    rows = transaction.rows(StoredPhase, statement.order_by(PHASES.c.id).with_for_update(skip_locked=True))
    return [row for row in rows if (row.state, row.kind) in COMMANDS]


def _wake_jobs(transaction: Transaction, run_ids: Sequence[int], retries: RetryPolicy, is_drained: IsDrained) -> None:
    """Wake jobs whose command has left the queue and that nobody leases; the trainer counts its
    own beginnings.
    """
    for row in _jobs(transaction, run_ids):
        command = COMMANDS[row.state, row.kind](phase_id=row.id)
        if row.attempt >= retries.max_attempts:
            reason = f"started {row.attempt} times and never ended; see the dead letters and the workers' logs"
            runs.set_phase(transaction, row.id, PhaseState.FAILED, result={"reason": reason})
        elif is_drained(queue_of(command.name)):
            if row.state != PhaseState.TRAINING:
                runs.set_phase(transaction, row.id, PhaseState(row.state), **_dated(row, retries))
            metrics.WAKE_UPS.labels("job").inc()
            transaction.emit(command)


def _dated(row: StoredPhase, retries: RetryPolicy) -> Columns:
    return {"attempt": row.attempt + 1, "lease_until": moment(retries.overdue_seconds)}
