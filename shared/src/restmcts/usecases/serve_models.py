"""What policy and PRM workers share: claim a batch of requests, call the model, write the answers,
wake the search, again.

How a model is loaded and called is the caller's. A request that the model cannot serve at all fails
its tree, with the reason; every other error gives the requests back.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

from restmcts.adapters.observability import logs, metrics, tracing
from restmcts.adapters.sql import requests as queue
from restmcts.adapters.sql import runs, trees
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.requests import Claim, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.adapters.workers.service import ServiceContext
from restmcts.errors import CheckpointError, ModelError, RestMctsError
from restmcts.messages.base import Message
from restmcts.messages.commands import ProposeWaitingSteps, ScoreWaitingSteps
from restmcts.messages.events import RequestsAnswered, TreesLabelled
from restmcts.usecases.leases import renewed

log = logging.getLogger(__name__)
Model = TypeVar("Model")
MAX_ERRORS = 3
"""Unexpected errors within one claim after which it is not the requests that are at fault."""

WAKE_UPS: dict[RequestKind, Message] = {
    RequestKind.PROPOSE: ProposeWaitingSteps(),
    RequestKind.SCORE: ScoreWaitingSteps(),
}

SECONDS_BETWEEN_WRITES = 5.0
"""After which answers that have come are written, while others of their claim are under way."""

Serve = Callable[[Claim, Sequence[ClaimedRequest]], Iterable[tuple[int, str]]]
"""Gives the place of each request and its answer, each as it comes."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a model worker takes its work.

    Attributes:
        max_requests: of one claim; the model makes its own batches within it.
        lease_seconds: after which another worker may take the requests of a claim.
        max_models: checkpoints kept in memory.
        max_seconds: of one wake-up; then another is sent, so that no message is held for ever, and
            what is not answered of a claim waits again.
        stopping: set once the worker was asked to end.
        on_batch: called after every claim.
    """

    max_requests: int = 512
    lease_seconds: float = 120.0
    max_models: int = 2
    max_seconds: float = 60.0
    stopping: threading.Event = field(default_factory=threading.Event)
    on_batch: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, context: ServiceContext) -> Self:
        """Return how a service takes its work."""
        settings = context.settings
        return cls(
            max_requests=settings.max_requests,
            lease_seconds=settings.request_lease_seconds,
            stopping=context.stopping,
            on_batch=context.on_batch,
        )


@dataclass(slots=True)
class _Outcome:
    """What became of a claim: answered, failed for good (reasons by tree), left for a later
    attempt because of an error, or waiting because there was no time.
    """

    answers: list[tuple[ClaimedRequest, str]] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    left: list[ClaimedRequest] = field(default_factory=list)
    waiting: list[ClaimedRequest] = field(default_factory=list)
    error: Exception | None = None


class ModelCache(Generic[Model]):
    """The models most lately used, by checkpoint id."""

    def __init__(self, database: Database, load: Callable[[str], Model], max_models: int) -> None:
        self._database = database
        self._load = load
        self._max_models = max_models
        self._models: OrderedDict[int, Model] = OrderedDict()

    def get(self, checkpoint_id: int) -> Model:
        """Return the checkpoint's model, loading it if need be.

        Raises:
            CheckpointError: if there is no such checkpoint or it cannot be loaded.
        """
        if checkpoint_id not in self._models:
            with self._database.transaction() as transaction:
                row = runs.checkpoint_by_id(transaction, checkpoint_id)
            if row is None:
                raise CheckpointError(f"checkpoint {checkpoint_id} does not exist")
            while len(self._models) >= self._max_models:
                _release(self._models.popitem(last=False)[1])
            try:
                with metrics.CHECKPOINT_LOAD_SECONDS.time():
                    self._models[checkpoint_id] = self._load(row.uri)
                metrics.CHECKPOINT_LOADS.inc()
            except ModelError as error:
                raise CheckpointError(f"checkpoint {row.name}: {error}") from error
        self._models.move_to_end(checkpoint_id)
        return self._models[checkpoint_id]

    def close(self) -> None:
        """Give up all models."""
        while self._models:
            _release(self._models.popitem()[1])


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


def _release(model: object) -> None:
    """Let go of a model: one behind HTTP holds connections."""
    if isinstance(model, _Closable):
        model.close()


def serve_waiting(database: Database, kind: RequestKind, serve: Serve, settings: WorkerSettings) -> int:
    """Serve requests of a kind until none waits, or it is time to end; return how many were served.

    Raises:
        RestMctsError: why some cannot be served now, once all others are served.
    """
    num_served = 0
    unavailable: dict[queue.Batch, RestMctsError] = {}
    deadline = time.monotonic() + settings.max_seconds

    def is_over() -> bool:
        return settings.stopping.is_set() or time.monotonic() > deadline

    while True:
        leave = is_over()
        with database.transaction() as transaction:
            claim = (
                None
                if leave
                else queue.claim(transaction, kind, settings.max_requests, settings.lease_seconds, unavailable)
            )
            if leave or (claim is not None and len(claim.requests) == settings.max_requests):
                transaction.emit(WAKE_UPS[kind])
        if claim is None:
            for error in unavailable.values():
                raise error
            return num_served
        try:
            with _observed(kind, claim, settings.max_requests), _renewed(database, claim, settings.lease_seconds):
                num_served += _serve_claim(database, kind, claim, serve, is_over)
        except RestMctsError as error:
            if not error.retryable:
                raise
            unavailable[claim.batch] = error
        settings.on_batch()


@contextmanager
def _observed(kind: RequestKind, claim: Claim, max_requests: int) -> Iterator[None]:
    """Count a claim that is served, and let log lines and traces name its trees."""
    tree_ids = list(dict.fromkeys(request.tree_id for request in claim.requests))
    metrics.BATCH_REQUESTS.labels(kind.value).observe(len(claim.requests))
    metrics.BATCH_FILL.labels(kind.value).observe(len(claim.requests) / max_requests)
    with (
        logs.about(trees=tree_ids, requests=[request.request_id for request in claim.requests]),
        tracing.step(f"model.{kind.value}", tree_ids, **{"restmcts.batch": len(claim.requests)}),
    ):
        yield


def _renewed(database: Database, claim: Claim, lease_seconds: float) -> AbstractContextManager[None]:
    """Renew the lease of a claim while it is served."""

    def renew() -> None:
        with database.transaction() as transaction:
            queue.renew(transaction, claim.requests, lease_seconds)

    return renewed(f"{len(claim.requests)} requests", lease_seconds, renew)


def _serve_claim(database: Database, kind: RequestKind, claim: Claim, serve: Serve, is_over: Callable[[], bool]) -> int:
    """Serve a claim and write its answers as they come; return how many. Once it is over, what is
    not answered waits again.

    Raises:
        Exception: what kept requests from being served; they wait again, and whatever was answered
            is written.
    """
    answering = _Answering(database, claim)
    try:
        with metrics.FORWARD_SECONDS.labels(kind.value).time():
            for place, answer in serve(claim, claim.requests):
                answering.add(place, answer)
                if is_over():
                    break
        outcome = answering.outcome()
    except Exception as error:
        rest = list(answering.open.values())
        if isinstance(error, RestMctsError) and not isinstance(error, ModelError):
            outcome = _Outcome(left=rest, error=error)
        else:
            reason = f"{type(error).__name__}: {error}"
            log.warning("a batch of %d requests failed (%s); serving them one by one", len(rest), reason)
            outcome = _serve_singly(claim, rest, serve)
        outcome.answers += answering.fresh
    except BaseException:
        _write(database, answering.outcome())
        raise
    metrics.GIVEN_BACK.labels(kind.value).inc(len(outcome.left))
    _write(database, outcome)
    if outcome.error is not None:
        raise outcome.error
    return answering.num_written + len(outcome.answers)


class _Answering:
    """The answers of a claim, written some at a time.

    Attributes:
        open: the requests without an answer, by place.
        fresh: answers that are not written.
        num_written: answers that are.
    """

    def __init__(self, database: Database, claim: Claim) -> None:
        self._database = database
        self._written_at = time.monotonic()
        self.open = dict(enumerate(claim.requests))
        self.fresh: list[tuple[ClaimedRequest, str]] = []
        self.num_written = 0

    def add(self, place: int, answer: str) -> None:
        """Take an answer; write all that have come when it is time."""
        self.fresh.append((self.open.pop(place), answer))
        if self.open and time.monotonic() - self._written_at > SECONDS_BETWEEN_WRITES:
            _write(self._database, _Outcome(self.fresh))
            self.num_written += len(self.fresh)
            self.fresh, self._written_at = [], time.monotonic()

    def outcome(self) -> _Outcome:
        """Return what is still to be written; the requests without an answer are to wait."""
        return _Outcome(self.fresh, waiting=list(self.open.values()))


def _write(database: Database, outcome: _Outcome) -> None:
    with database.transaction() as transaction:
        queue.answer(transaction, outcome.answers)
        counted = not (isinstance(outcome.error, RestMctsError) and outcome.error.retryable)
        queue.give_back(transaction, outcome.left, counted=counted)
        queue.give_back(transaction, outcome.waiting, counted=False)
        if outcome.answers:
            transaction.emit(RequestsAnswered())
        if outcome.failures:
            run_ids = trees.runs_of(transaction, list(outcome.failures))
            trees.fail(transaction, outcome.failures)
            transaction.emit(*(TreesLabelled(run_id=run_id) for run_id in run_ids))


def _serve_singly(claim: Claim, requests: Sequence[ClaimedRequest], serve: Serve) -> _Outcome:
    """Serve each request alone; after some errors that are no fault of a request, the others
    are left.
    """
    outcome = _Outcome()
    num_errors = 0
    for request in requests:
        if num_errors >= MAX_ERRORS:
            outcome.left.append(request)
            continue
        try:
            outcome.answers += [(request, answer) for _, answer in serve(claim, [request])]
        except ModelError as error:
            outcome.failures[request.tree_id] = str(error)
        except Exception as error:
            outcome.left.append(request)
            outcome.error = error
            num_errors += 1
    return outcome
