"""Model requests as rows: claimed in batches under a lease, answered once, applied once.

Invariants: a request that was issued is waiting, leased, answered or applied, and gone only if its
tree, or its run, ended without it; an answer is written only by the attempt that holds the request;
an answered request is applied by the transaction that advances its tree.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from sqlalchemy import and_, bindparam, delete, func, literal_column, select, text, tuple_, union_all, update

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import Columns, Condition
from restmcts.adapters.sql.stack_tables import TokenCountRow
from restmcts.adapters.sql.state import blocks
from restmcts.adapters.sql.tables import (
    CheckpointRow,
    Need,
    ProblemRow,
    RequestKind,
    RequestRow,
    RequestState,
    Run,
    RunState,
    TreeRow,
    TreeState,
)
from restmcts.domain.requests import CallTool, ProposeSteps, Request, ScoreSteps
from restmcts.domain.text import escaped_text
from restmcts.messages.base import Message
from restmcts.messages.commands import AnswerWaitingCalls, ProposeWaitingSteps, ScoreWaitingSteps

REQUESTS = table_of(RequestRow)
PROBLEMS = table_of(ProblemRow)
_TREES = table_of(TreeRow)
_RUNS = table_of(Run)
_CHECKPOINTS = table_of(CheckpointRow)
_COUNTS = table_of(TokenCountRow)

BUDGET_LOCK = 7_264_002
"""With a run's id, who reserves tokens of its budget."""


_LEASE_KEY = ("id", "attempt")
_BATCH = (REQUESTS.c.checkpoint_id, REQUESTS.c.generation)
# States as text, not as parameters, so that the planner knows which index of some of the requests
# serves; and that of open ones word by word, without which SQLite reads all requests there ever
# were.
_IS_OPEN = text("requests.state IN ('leased', 'answered')")
WAITING = REQUESTS.c.state == literal_column("'waiting'")
LEASED = and_(REQUESTS.c.state == literal_column("'leased'"), _IS_OPEN)
ANSWERED = and_(REQUESTS.c.state == literal_column("'answered'"), _IS_OPEN)
UNANSWERED = REQUESTS.c.id.in_(
    union_all(*(select(REQUESTS.c.id).where(state).correlate(None) for state in (WAITING, LEASED)))
)


WAKE_UPS: Mapping[RequestKind, Message] = {
    RequestKind.PROPOSE: ProposeWaitingSteps(),
    RequestKind.SCORE: ScoreWaitingSteps(),
    RequestKind.CALL: AnswerWaitingCalls(),
}
"""What wakes those who serve requests of a kind."""

_ASKED = {
    RequestKind.PROPOSE.value: "propose steps",
    RequestKind.SCORE.value: "score steps",
    RequestKind.CALL.value: "call a tool",
}
_KINDS = {ProposeSteps: RequestKind.PROPOSE, ScoreSteps: RequestKind.SCORE, CallTool: RequestKind.CALL}


class Batch(NamedTuple):
    """What requests of a kind must have in common for one model call to serve them."""

    checkpoint_id: int
    generation: str
    """The generation settings as JSON; empty where the policy is not asked."""


@dataclass(frozen=True, slots=True)
class ClaimedRequest:
    """A request leased by this worker: `attempt` must be given back with the answer."""

    request_id: int
    tree_id: int
    attempt: int
    question: str
    payload: str


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """Requests that one model call can serve."""

    batch: Batch
    requests: list[ClaimedRequest]


def request_row(
    tree_id: int, problem_id: int, request: Request, payload: str, batch: Batch, max_tokens: int | None = None
) -> Columns:
    """Return a new request's row; `max_tokens` is what its answer may cost."""
    kind = _KINDS[type(request)]
    return {
        "tree_id": tree_id,
        "problem_id": problem_id,
        "number": request.number,
        "kind": kind.value,
        **batch._asdict(),
        "num_prompt_chars": sum(map(len, request.steps)),
        "max_tokens": max_tokens,
        "payload": payload,
        "state": RequestState.WAITING.value,
        "attempt": 0,
    }


def claim(
    transaction: Transaction,
    kind: RequestKind,
    max_requests: int,
    lease_seconds: float,
    without: Collection[Batch] = (),
) -> ClaimedBatch | None:
    """Take the oldest `max_requests` waiting requests of the oldest batch under a lease; None
    if nothing waits.

    They come sorted by the length of their prompts. Rows that another worker holds are passed over,
    and the batches `without`. Of a run with a token budget come as many as it has tokens left for,
    all that is under way counted at its limit; only the last one may go beyond that.
    """
    passed_over = set(without)
    while (batch := _oldest(transaction, kind, passed_over)) is not None:
        if rows := _fitting(transaction, kind, batch, max_requests):
            return _leased(transaction, batch, rows, lease_seconds)
        passed_over.add(batch)
    return None


def _oldest(transaction: Transaction, kind: RequestKind, without: Collection[Batch]) -> Batch | None:
    """Return the batch of the oldest request that waits, which is locked."""
    oldest = select(*_BATCH).where(_waiting(transaction, kind)).order_by(REQUESTS.c.id).limit(1)
    if without:
        oldest = oldest.where(tuple_(*_BATCH).not_in(without))
    first = transaction.execute(oldest.with_for_update(skip_locked=True)).first()
    return Batch(*first) if first is not None else None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that waits, locked."""

    id: int
    tree_id: int
    attempt: int
    question: str
    payload: str
    num_prompt_chars: int
    max_tokens: int | None


def _fitting(transaction: Transaction, kind: RequestKind, batch: Batch, max_requests: int) -> list[_Waiting]:
    """Return, locked, the oldest waiting requests of a batch, as far as their run's budget goes."""
    left = _tokens_left(transaction, batch.checkpoint_id) if kind == RequestKind.PROPOSE else None
    if left is not None and left <= 0:
        return []
    statement = (
        select(REQUESTS.c.id, REQUESTS.c.tree_id, REQUESTS.c.attempt, PROBLEMS.c.question, REQUESTS.c.payload)
        .add_columns(REQUESTS.c.num_prompt_chars, REQUESTS.c.max_tokens)
        .join(PROBLEMS, PROBLEMS.c.id == REQUESTS.c.problem_id)
        .where(_waiting(transaction, kind), *(column == value for column, value in zip(_BATCH, batch, strict=True)))
        .order_by(REQUESTS.c.id)
        .limit(max_requests)
        .with_for_update(skip_locked=True, of=REQUESTS)
    )
    rows = transaction.rows(_Waiting, statement)
    if left is None:
        return rows
    before = accumulate((row.max_tokens or 0 for row in rows), initial=0)
    return [row for row, tokens in zip(rows, before, strict=False) if tokens < left]


def _tokens_left(transaction: Transaction, checkpoint_id: int) -> int | None:
    """Return how many tokens a checkpoint's run may still generate if all that is under way takes
    what it may; None: it has no budget. Nobody else finds that out until this transaction ends.
    """
    of_checkpoint = select(_RUNS.c.id, _RUNS.c.max_tokens).join(_CHECKPOINTS, _CHECKPOINTS.c.run_id == _RUNS.c.id)
    run = transaction.execute(of_checkpoint.where(_CHECKPOINTS.c.id == checkpoint_id)).one()
    if run.max_tokens is None:
        return None
    if transaction.connection.dialect.name == "postgresql":
        transaction.execute(select(func.pg_advisory_xact_lock(BUDGET_LOCK, run.id)))
    counted = select(func.sum(_COUNTS.c.tokens)).where(_COUNTS.c.run_id == run.id).scalar_subquery()
    under_way = (
        select(func.sum(REQUESTS.c.max_tokens))
        .join(_TREES, _TREES.c.id == REQUESTS.c.tree_id)
        .where(_TREES.c.run_id == run.id, _TREES.c.state == TreeState.SEARCHING.value)
        .where(literal_column("requests.state IN ('leased', 'answered')"))
        .scalar_subquery()
    )
    # One statement: what is answered becomes spent between two.
    spent, reserved = transaction.execute(select(counted, under_way)).one()
    return int(run.max_tokens - (spent or 0) - (reserved or 0))


def _leased(transaction: Transaction, batch: Batch, rows: Sequence[_Waiting], lease_seconds: float) -> ClaimedBatch:
    transaction.execute(
        update(REQUESTS)
        .where(REQUESTS.c.id.in_([row.id for row in rows]))
        .values(state=RequestState.LEASED.value, attempt=REQUESTS.c.attempt + 1, lease_until=moment(lease_seconds))
    )
    by_length = sorted(rows, key=lambda row: row.num_prompt_chars)
    return ClaimedBatch(
        batch,
        [ClaimedRequest(row.id, row.tree_id, row.attempt + 1, row.question, row.payload) for row in by_length],
    )


def _waiting(transaction: Transaction, kind: RequestKind) -> Condition:
    """Return the condition for requests that wait and are wanted: those of trees that search,
    in runs that are running, to models that are available as far as is known.
    """
    waiting = (REQUESTS.c.kind == kind.value) & WAITING
    return waiting & REQUESTS.c.checkpoint_id.not_in(blocks.not_due(Need.CHECKPOINT)) & _wanted(transaction)


def is_worked_on(transaction: Transaction) -> Condition:
    """Return the condition for runs that are running, and that this process works on."""
    running = _RUNS.c.state == RunState.RUNNING.value
    return running if transaction.only_run is None else running & (_RUNS.c.id == transaction.only_run)


def _wanted(transaction: Transaction) -> Condition:
    running = select(_RUNS.c.id).where(is_worked_on(transaction))
    wanted = select(_TREES.c.id).where(
        _TREES.c.id == REQUESTS.c.tree_id, _TREES.c.state == TreeState.SEARCHING.value, _TREES.c.run_id.in_(running)
    )
    return wanted.exists()


def answer(transaction: Transaction, answers: Sequence[tuple[ClaimedRequest, str]]) -> None:
    """Write answers of requests that are still leased by their attempt; others change nothing."""
    rows = [
        {"state": RequestState.ANSWERED.value, "answer": response, "lease_until": None, **_lease_key(request)}
        for request, response in answers
    ]
    transaction.alter(REQUESTS, rows, _LEASE_KEY, LEASED)


def renew(transaction: Transaction, requests: Sequence[ClaimedRequest], lease_seconds: float) -> bool:
    """Renew the leases of requests that this worker still serves and that are still wanted; return
    whether there are any.
    """
    leases = [(request.request_id, request.attempt) for request in requests]
    mine = tuple_(REQUESTS.c.id, REQUESTS.c.attempt).in_(leases) & LEASED & _wanted(transaction)
    renewed = transaction.execute(update(REQUESTS).where(mine).values(lease_until=moment(lease_seconds)))
    return bool(renewed.rowcount)


def _lease_key(request: ClaimedRequest) -> dict[str, int]:
    return {"id": request.request_id, "attempt": request.attempt}


def give_back(transaction: Transaction, requests: Sequence[ClaimedRequest]) -> None:
    """Let requests wait again that this worker cannot serve now; no attempt is counted."""
    transaction.execute(
        _GIVE_BACK.values(attempt=REQUESTS.c.attempt - 1),
        [{"key": request.request_id, "held": request.attempt} for request in requests],
    )


def fail_attempt(transaction: Transaction, failed: Mapping[ClaimedRequest, str]) -> None:
    """Let requests wait again whose attempt failed, each for its reason; the attempt counts."""
    transaction.execute(
        _GIVE_BACK.values(error=bindparam("reason")),
        [
            {"key": request.request_id, "held": request.attempt, "reason": escaped_text(text)}
            for request, text in failed.items()
        ],
    )


_GIVE_BACK = (
    update(REQUESTS)
    .where(REQUESTS.c.id == bindparam("key"), REQUESTS.c.attempt == bindparam("held"))
    .where(REQUESTS.c.state == RequestState.LEASED.value)
    .values(state=RequestState.WAITING.value, lease_until=None)
)


def release_overdue(transaction: Transaction, *, all_leases: bool = False) -> int:
    """Let requests wait again whose lease has ended (or all, where no other worker can be
    alive); return how many.
    """
    overdue = LEASED if all_leases else LEASED & (REQUESTS.c.lease_until < moment())
    # Passing over rows that their worker is answering just now.
    ids = list(transaction.execute(select(REQUESTS.c.id).where(overdue).with_for_update(skip_locked=True)).scalars())
    waiting = {"state": RequestState.WAITING.value, "lease_until": None}
    transaction.execute(update(REQUESTS).where(REQUESTS.c.id.in_(ids)).values(**waiting))
    return len(ids)


def withdraw(transaction: Transaction, tree_ids: Sequence[int]) -> None:
    """Delete the requests that still wait of trees that have ended: nobody needs their answers."""
    waiting = REQUESTS.c.state == RequestState.WAITING.value
    transaction.execute(delete(REQUESTS).where(REQUESTS.c.tree_id.in_(list(tree_ids)), waiting))


def end_unwanted(transaction: Transaction) -> None:
    """Delete requests that are not applied and that nobody wants any more: those of trees that
    search no longer, or in runs that have ended. An answer that a worker still brings changes
    nothing. Rows that others have locked are left for the next time.
    """
    ended = [RunState.DONE.value, RunState.FAILED.value, RunState.CANCELLED.value]
    going_on = select(_RUNS.c.id).where(_RUNS.c.state.not_in(ended))
    searching = (_TREES.c.id == REQUESTS.c.tree_id) & (_TREES.c.state == TreeState.SEARCHING.value)
    wanted = select(_TREES.c.id).where(searching, _TREES.c.run_id.in_(going_on)).exists()
    for open_ in (WAITING, _IS_OPEN):
        found = select(REQUESTS.c.id).where(open_, ~wanted)
        transaction.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(found.with_for_update(skip_locked=True))))


def any_waiting(transaction: Transaction, kind: RequestKind) -> bool:
    """Return whether a model worker has something to do."""
    return transaction.execute(select(REQUESTS.c.id).where(_waiting(transaction, kind)).limit(1)).first() is not None


def policies_waited_for(transaction: Transaction) -> list[str]:
    """Return the URIs of the policies that open requests name, that of the oldest first."""
    wanted = _wanted(transaction) & UNANSWERED & (REQUESTS.c.kind == RequestKind.PROPOSE.value)
    statement = (
        select(_CHECKPOINTS.c.uri)
        .join(REQUESTS, REQUESTS.c.checkpoint_id == _CHECKPOINTS.c.id)
        .where(wanted)
        .group_by(_CHECKPOINTS.c.uri)
        .order_by(func.min(REQUESTS.c.id))
    )
    return list(transaction.execute(statement).scalars())


def exhausted(transaction: Transaction, max_attempts: int) -> dict[int, str]:
    """Return trees with a request that waits after as many attempts, each with the reason to
    give it up.
    """
    statement = (
        select(REQUESTS.c.tree_id, REQUESTS.c.kind, REQUESTS.c.attempt, REQUESTS.c.error)
        .join(_TREES, _TREES.c.id == REQUESTS.c.tree_id)
        .where(WAITING, REQUESTS.c.attempt >= max_attempts)
        .where(_TREES.c.state == TreeState.SEARCHING.value)
        # A tree that a worker has locked is given up by a later round.
        .with_for_update(of=_TREES, skip_locked=True)
    )
    # Ordered here: to have them in order SQLite would read all requests.
    rows = sorted(transaction.execute(statement), key=lambda row: row.tree_id)
    return {
        row.tree_id: f"a request to {_ASKED[row.kind]} was started {row.attempt} times and never answered"
        + (f"; the last time: {row.error}" if row.error else "")
        for row in rows
    }
