"""Model requests as rows: claimed in batches under a lease, answered once, applied once.

Invariants: a request that was issued is waiting, leased, answered or applied, and gone only if its
    tree ended without it; an answer
is written only by the attempt that holds the request; an answered request is applied by the
transaction that advances its tree.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, literal_column, select, tuple_, update

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.tables import (
    CheckpointRow,
    ProblemRow,
    RequestKind,
    RequestRow,
    RequestState,
    Run,
    RunState,
    TreeRow,
    TreeState,
)
from restmcts.domain.requests import ProposeSteps, Request

REQUESTS = table_of(RequestRow)
PROBLEMS = table_of(ProblemRow)
_TREES = table_of(TreeRow)
_RUNS = table_of(Run)
_CHECKPOINTS = table_of(CheckpointRow)


_HELD = ("id", "attempt")
_LEASED = REQUESTS.c.state == literal_column("'leased'")


@dataclass(frozen=True, slots=True)
class ClaimedRequest:
    """A request held by this worker: `attempt` must be given back with the answer."""

    request_id: int
    tree_id: int
    attempt: int
    question: str
    payload: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Requests that one model call can serve; `batch_key` is `<checkpoint id>:<generation
    settings as JSON>`.
    """

    batch_key: str
    requests: list[ClaimedRequest]

    @property
    def checkpoint_id(self) -> int:
        return int(self.batch_key.partition(":")[0])

    @property
    def generation(self) -> str:
        return self.batch_key.partition(":")[2]


def request_row(tree_id: int, problem_id: int, request: Request, payload: str, batch_key: str) -> dict[str, Any]:
    """Return a new request's row."""
    kind = RequestKind.PROPOSE if isinstance(request, ProposeSteps) else RequestKind.SCORE
    return {
        "tree_id": tree_id,
        "problem_id": problem_id,
        "number": request.number,
        "kind": kind.value,
        "batch_key": batch_key,
        "num_prompt_chars": sum(map(len, request.steps)),
        "payload": payload,
        "state": RequestState.WAITING.value,
        "attempt": 0,
    }


def claim(
    transaction: Transaction, kind: RequestKind, max_requests: int, lease_seconds: float, without: Collection[str] = ()
) -> Claim | None:
    """Take the oldest `max_requests` waiting requests of the oldest batch key under a lease; None
    if nothing waits.

    They come sorted by the length of their prompts. Rows that another worker holds are passed over,
    and the batch keys `without`.
    """
    wanted = _waiting(kind) & REQUESTS.c.batch_key.not_in(without)
    oldest = select(REQUESTS.c.batch_key).where(wanted).order_by(REQUESTS.c.id).limit(1)
    batch_key = transaction.execute(oldest.with_for_update(skip_locked=True)).scalar()
    if batch_key is None:
        return None
    rows = transaction.execute(
        select(REQUESTS.c.id, REQUESTS.c.tree_id, REQUESTS.c.attempt, PROBLEMS.c.question, REQUESTS.c.payload)
        .add_columns(REQUESTS.c.num_prompt_chars)
        .join(PROBLEMS, PROBLEMS.c.id == REQUESTS.c.problem_id)
        .where(_waiting(kind), REQUESTS.c.batch_key == batch_key)
        .order_by(REQUESTS.c.id)
        .limit(max_requests)
        .with_for_update(skip_locked=True, of=REQUESTS)
    ).all()
    transaction.execute(
        update(REQUESTS)
        .where(REQUESTS.c.id.in_([row.id for row in rows]))
        .values(state=RequestState.LEASED.value, attempt=REQUESTS.c.attempt + 1, lease_until=moment(lease_seconds))
    )
    by_length = sorted(rows, key=lambda row: row.num_prompt_chars)
    return Claim(
        batch_key,
        [ClaimedRequest(row.id, row.tree_id, row.attempt + 1, row.question, row.payload) for row in by_length],
    )


def _waiting(kind: RequestKind) -> Any:
    """Return the condition for requests that wait and are wanted: those of trees that search,
    in runs that are running.
    """
    # The state as text, not as a parameter: the planner then knows that the index of waiting
    # requests serves.
    return (REQUESTS.c.kind == kind.value) & (REQUESTS.c.state == literal_column("'waiting'")) & _wanted()


def _wanted() -> Any:
    running = select(_RUNS.c.id).where(_RUNS.c.state == RunState.RUNNING.value)
    wanted = select(_TREES.c.id).where(
        _TREES.c.id == REQUESTS.c.tree_id, _TREES.c.state == TreeState.SEARCHING.value, _TREES.c.run_id.in_(running)
    )
    return wanted.exists()


def answer(transaction: Transaction, answers: Sequence[tuple[ClaimedRequest, str]]) -> None:
    """Write answers of requests that are still held by their attempt; others change nothing."""
    rows = [
        {"state": RequestState.ANSWERED.value, "answer": response, "lease_until": None, **_held_by(request)}
        for request, response in answers
    ]
    transaction.alter(REQUESTS, rows, _HELD, _LEASED)


def renew(transaction: Transaction, requests: Sequence[ClaimedRequest], lease_seconds: float) -> None:
    """Hold requests longer that this worker still serves."""
    held = [(request.request_id, request.attempt) for request in requests]
    mine = tuple_(REQUESTS.c.id, REQUESTS.c.attempt).in_(held)
    transaction.execute(update(REQUESTS).where(mine, _LEASED).values(lease_until=moment(lease_seconds)))


def _held_by(request: ClaimedRequest) -> dict[str, int]:
    return {"id": request.request_id, "attempt": request.attempt}


def give_back(transaction: Transaction, requests: Sequence[ClaimedRequest], *, counted: bool = True) -> None:
    """Let requests wait again that this worker holds and cannot serve; `counted`: as an attempt
    that failed.
    """
    attempt = REQUESTS.c.attempt if counted else REQUESTS.c.attempt - 1
    transaction.execute(
        update(REQUESTS)
        .where(REQUESTS.c.id == bindparam("key"), REQUESTS.c.attempt == bindparam("held"))
        .where(REQUESTS.c.state == RequestState.LEASED.value)
        .values(state=RequestState.WAITING.value, lease_until=None, attempt=attempt),
        [{"key": request.request_id, "held": request.attempt} for request in requests],
    )


def release_overdue(transaction: Transaction, *, all_leases: bool = False) -> int:
    """Let requests wait again whose lease has ended (or all, where no other worker can be
    alive); return how many.
    """
    leased = REQUESTS.c.state == literal_column("'leased'")
    overdue = leased if all_leases else leased & (REQUESTS.c.lease_until < moment())
    # Passing over rows that their worker is answering just now.
    ids = list(transaction.execute(select(REQUESTS.c.id).where(overdue).with_for_update(skip_locked=True)).scalars())
    waiting = {"state": RequestState.WAITING.value, "lease_until": None}
    transaction.execute(update(REQUESTS).where(REQUESTS.c.id.in_(ids)).values(**waiting))
    return len(ids)


def withdraw(transaction: Transaction, tree_ids: Sequence[int]) -> None:
    """Delete the requests that still wait of trees that have ended: nobody needs their answers."""
    waiting = REQUESTS.c.state == RequestState.WAITING.value
    transaction.execute(delete(REQUESTS).where(REQUESTS.c.tree_id.in_(list(tree_ids)), waiting))


def any_waiting(transaction: Transaction, kind: RequestKind) -> bool:
    """Return whether a model worker has something to do."""
    return transaction.execute(select(REQUESTS.c.id).where(_waiting(kind)).limit(1)).first() is not None


def policies_waited_for(transaction: Transaction) -> list[str]:
    """Return the URIs of the policies that open requests name, that of the oldest first."""
    open_ = REQUESTS.c.state.in_([RequestState.WAITING.value, RequestState.LEASED.value])
    wanted = _wanted() & open_ & (REQUESTS.c.kind == RequestKind.PROPOSE.value)
    statement = (
        select(REQUESTS.c.batch_key).where(wanted).group_by(REQUESTS.c.batch_key).order_by(func.min(REQUESTS.c.id))
    )
    ids = [int(key.partition(":")[0]) for key in transaction.execute(statement).scalars()]
    rows = transaction.execute(select(_CHECKPOINTS.c.id, _CHECKPOINTS.c.uri).where(_CHECKPOINTS.c.id.in_(ids))).all()
    uris = {row.id: str(row.uri) for row in rows}
    return list(dict.fromkeys(uris[checkpoint_id] for checkpoint_id in ids))


def exhausted(transaction: Transaction, max_attempts: int) -> dict[int, str]:
    """Return trees with a request that waits after as many attempts, each with the reason to
    give it up.
    """
    statement = (
        select(REQUESTS.c.tree_id, REQUESTS.c.kind, REQUESTS.c.attempt)
        .join(_TREES, _TREES.c.id == REQUESTS.c.tree_id)
        .where(REQUESTS.c.state == literal_column("'waiting'"), REQUESTS.c.attempt >= max_attempts)
        .where(_TREES.c.state == TreeState.SEARCHING.value)
        .order_by(REQUESTS.c.tree_id)
    )
    rows = transaction.execute(statement).all()
    return {
        row.tree_id: f"a request to {row.kind} steps was begun {row.attempt} times and never answered" for row in rows
    }
