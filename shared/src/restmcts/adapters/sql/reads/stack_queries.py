"""What operators ask of the stack: dead letters, waiting requests, training jobs, workers."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import OUTBOX, Transaction
from restmcts.adapters.sql.reads.tree_counts import count_if
from restmcts.adapters.sql.rows import columns
from restmcts.adapters.sql.state.requests import REQUESTS, UNANSWERED
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.state.workers import WORKERS
from restmcts.adapters.sql.tables import PhaseState, RequestState, RunState


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be handled, how often, and when last."""

    id: int
    queue: str
    name: str
    body: str
    reason: str
    created_at: datetime
    num_times: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenRequests:
    """How many requests of a kind wait, are leased, and are overdue."""

    kind: str
    waiting: int
    leased: int
    overdue: int


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A phase that is being trained; `lease_until` is None where nobody has started."""

    run: str
    phase: str
    attempt: int
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A process, with the meaning of `restmcts.adapters.sql.stack_tables.WorkerRow`."""

    id: str
    queue: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    doing: str | None
    since: datetime
    num_done: int


def list_dead_letters(transaction: Transaction, letter_id: int | None = None) -> list[DeadLetter]:
    """Return the dead letters, the oldest first, or only the one with that id."""
    statement = select(*columns(DeadLetter, DEAD_LETTERS)).order_by(DEAD_LETTERS.c.id)
    if letter_id is not None:
        statement = statement.where(DEAD_LETTERS.c.id == letter_id)
    return transaction.rows(DeadLetter, statement)


def open_requests(transaction: Transaction, grace_seconds: float = 0.0) -> list[OpenRequests]:
    """Return, for each kind of request that waits or is leased in running runs, how many wait, are
    leased, and are overdue.

    Overdue are those whose lease ended more than `grace_seconds` ago, and that nobody has released.
    """
    overdue = REQUESTS.c.lease_until < moment(-grace_seconds)
    statement = (
        select(
            REQUESTS.c.kind,
            count_if(REQUESTS.c.state == RequestState.WAITING.value).label("waiting"),
            count_if(REQUESTS.c.state == RequestState.LEASED.value).label("leased"),
            count_if((REQUESTS.c.state == RequestState.LEASED.value) & overdue).label("overdue"),
        )
        .join(TREES, TREES.c.id == REQUESTS.c.tree_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(UNANSWERED)
        .where(RUNS.c.state == RunState.RUNNING.value)
        .group_by(REQUESTS.c.kind)
        .order_by(REQUESTS.c.kind)
    )
    return transaction.rows(OpenRequests, statement)


def training_jobs(transaction: Transaction) -> list[TrainingJob]:
    """Return the phases that are being trained, with the end of their lease."""
    shown = (RUNS.c.name.label("run"), PHASES.c.name.label("phase"), PHASES.c.attempt, PHASES.c.lease_until)
    statement = (
        select(*shown).join(RUNS, RUNS.c.id == PHASES.c.run_id).where(PHASES.c.state == PhaseState.TRAINING.value)
    )
    return transaction.rows(TrainingJob, statement.order_by(PHASES.c.id))


def list_workers(transaction: Transaction) -> list[WorkerProcess]:
    """Return the processes of workers by queue and age; those that were killed lately are among
    them, with an old `seen_at`.
    """
    return transaction.rows(WorkerProcess, select(WORKERS).order_by(WORKERS.c.queue, WORKERS.c.started_at))


def outbox_age_seconds(transaction: Transaction) -> float:
    """Return for how long the oldest message of the outbox has waited to be published; 0 if
    none waits.
    """
    oldest = transaction.execute(select(func.min(OUTBOX.c.created_at))).scalar()
    return max((transaction.now() - oldest).total_seconds(), 0.0) if oldest is not None else 0.0


def num_dead_letters(transaction: Transaction) -> int:
    return int(transaction.execute(select(func.count()).select_from(DEAD_LETTERS)).scalar_one())
