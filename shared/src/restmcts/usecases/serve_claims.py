"""A claim of requests that one model call can serve: the model is called, answers are written as
they come, and the search is woken.

A request that the model cannot serve at all fails its tree, with the reason. What fails as a batch
is tried in parts, down to single requests: those that fail alone pay an attempt, their neighbours
none.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Self

from restmcts.adapters.models.interruption import InterruptedCallError, check_interruption, interrupted_by
from restmcts.adapters.observability import logs, metrics, tracing
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks, trees
from restmcts.adapters.sql.state import requests as queue
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import Need, RequestKind
from restmcts.adapters.workers.service import ServiceContext
from restmcts.errors import LEAVING, ModelError, RestMctsError, UnstorableError, reason_of
from restmcts.messages.events import RequestsAnswered, TreesLabelled
from restmcts.ports import MayBegin
from restmcts.usecases.leases import renewed

log = logging.getLogger(__name__)
MAX_ERRORS = 8
"""Requests that failed alone, where none was served, after which the model is considered broken."""

SECONDS_BETWEEN_WRITES = 5.0
"""After which answers that have come are written, while others of their claim are under way."""

Serve = Callable[[ClaimedBatch, Sequence[ClaimedRequest], MayBegin], Iterable[tuple[int, str]]]
"""Gives the place of each request and its answer, each as it comes; of those alone that are started
while more may be.
"""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a model worker takes its work.

    Attributes:
        max_requests: of one claim; the model makes its own batches within it.
        lease_seconds: after which another worker may take the requests of a claim.
        max_models: checkpoints kept in memory.
        max_seconds: of one wake-up, or of one claim of a model that is served beside others; then
            what the model has started is ended, and what it has not waits again, so that others
            have their turn.
        max_at_once: models that are served side by side, of which at most one is loaded in this
            process; 0: one after the other, by the thread that was woken.
        stopping: set once the worker was asked to end.
        on_batch: called after every claim.
        at_work: around what is done beside the thread that was woken.
    """

    max_requests: int = 512
    lease_seconds: float = 120.0
    max_models: int = 2
    max_seconds: float = 60.0
    max_at_once: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    on_batch: Callable[[], None] = lambda: None
    at_work: Callable[[], AbstractContextManager[None]] = nullcontext

    @classmethod
    def of(cls, context: ServiceContext) -> Self:
        """Return how a service takes its work."""
        settings = context.settings
        return cls(
            max_requests=settings.max_requests,
            lease_seconds=settings.request_lease_seconds,
            max_at_once=settings.max_models_at_once,
            stopping=context.stopping,
            on_batch=context.on_batch,
            at_work=context.at_work,
        )


def serve_claim(
    database: Database,
    kind: RequestKind,
    claim: ClaimedBatch,
    serve: Serve,
    settings: WorkerSettings,
    is_over: Callable[[], bool],
) -> "ServedClaim":
    """Serve a claim and write its answers as they come; once it is over, what the model has not
    started waits again.

    Raises:
        RestMctsError: what kept requests from being served; they wait again, and whatever was
            answered is written.
    """
    with _observed(kind, claim, settings.max_requests), _under_lease(database, claim, settings):
        claimed = ServedClaim(database, claim, serve, is_over)
        try:
            with metrics.FORWARD_SECONDS.labels(kind.value).time():
                claimed.serve(claim.requests)
        finally:
            metrics.GIVEN_BACK.labels(kind.value).inc(len(claimed.left) + len(claimed.failed_attempts))
            claimed.write()
    if claimed.error is not None:
        raise claimed.error
    return claimed


@contextmanager
def _observed(kind: RequestKind, claim: ClaimedBatch, max_requests: int) -> Iterator[None]:
    """Count a claim that is served, and let log lines and traces name its trees."""
    tree_ids = list(dict.fromkeys(request.tree_id for request in claim.requests))
    metrics.BATCH_REQUESTS.labels(kind.value).observe(len(claim.requests))
    metrics.BATCH_FILL.labels(kind.value).observe(len(claim.requests) / max_requests)
    with (
        logs.about(trees=tree_ids, requests=[request.request_id for request in claim.requests]),
        tracing.step(f"model.{kind.value}", tree_ids, **{"restmcts.batch": len(claim.requests)}),
    ):
        yield


@contextmanager
def _under_lease(database: Database, claim: ClaimedBatch, settings: WorkerSettings) -> Iterator[None]:
    """Renew the lease of a claim while it is served; interrupt its calls once nobody waits for any
    of its answers (the run was paused or cancelled, say), or the worker ends.
    """
    lost = threading.Event()

    def renew() -> None:
        with database.transaction() as transaction:
            wanted = queue.renew(transaction, claim.requests, settings.lease_seconds)
        if not wanted:
            lost.set()

    def is_over() -> bool:
        return lost.is_set() or settings.stopping.is_set()

    with renewed(f"{len(claim.requests)} requests", settings.lease_seconds, renew), interrupted_by(is_over):
        yield


class ServedClaim:
    """A claim that is served: its answers are written as they come, and what fails as a batch is
    tried in halves, so that what fails alone is found.

    A model that has failed several requests alone and served none is broken: the others fail with
    it.

    Attributes:
        num_answered: requests that were answered.
        fresh: answers that are not written yet.
        failures: reasons by tree, for good.
        failed_attempts: reasons by request, of this attempt.
        left: requests that wait again as if they had not been claimed.
        error: what keeps the rest from being served now.
    """

    def __init__(self, database: Database, claim: ClaimedBatch, serve: Serve, is_over: Callable[[], bool]) -> None:
        self._database, self._claim, self._serve, self._is_over = database, claim, serve, is_over
        self._written_at = time.monotonic()
        self.num_answered = 0
        self.fresh: list[tuple[ClaimedRequest, str]] = []
        self.failures: dict[int, str] = {}
        self.failed_attempts: dict[ClaimedRequest, str] = {}
        self.left: list[ClaimedRequest] = []
        self.error: RestMctsError | None = None

    def serve(self, requests: Sequence[ClaimedRequest]) -> None:
        """Serve requests together, and those that were not answered apart."""
        if self.error is not None or self._is_over():
            self.left += requests
            return
        unanswered = dict(enumerate(requests))
        try:
            for place, answer in self._serve(self._claim, requests, lambda: not self._is_over()):
                self._take(unanswered.pop(place), answer)
                check_interruption()
        except InterruptedCallError:
            self.left += unanswered.values()
        except LEAVING:
            self.left += unanswered.values()
            raise
        except BaseException as error:
            self._serve_apart(list(unanswered.values()), error, alone=len(requests) == 1)
        else:
            self.left += unanswered.values()

    def write(self) -> None:
        """Write what became of the requests.

        Raises:
            StorageError: if the database is away.
        """
        self._write_answers()
        with self._database.transaction() as transaction:
            queue.give_back(transaction, self.left)
            queue.fail_attempt(transaction, self.failed_attempts)
            if self.num_answered and self.error is None:
                blocks.unblock(transaction, Need.CHECKPOINT, self._claim.batch.checkpoint_id)
            if self.failures:
                run_ids = trees.runs_of(transaction, list(self.failures))
                trees.fail(transaction, self.failures)
                transaction.emit(*(TreesLabelled(run_id=run_id) for run_id in run_ids))

    def _serve_apart(self, requests: Sequence[ClaimedRequest], error: BaseException, *, alone: bool) -> None:
        if isinstance(error, RestMctsError) and not isinstance(error, ModelError):
            self.left += requests
            self.error = error
        elif alone and isinstance(error, ModelError):
            self.failures[requests[0].tree_id] = str(error)
        elif alone or (not self.num_answered and len(self.failed_attempts) >= MAX_ERRORS):
            self.failed_attempts |= dict.fromkeys(requests, reason_of(error))
        else:
            log.warning("a batch of %d requests failed: %s", len(requests), reason_of(error))
            middle = (len(requests) + 1) // 2
            for half in (requests[:middle], requests[middle:]):
                if half:
                    self.serve(half)

    def _take(self, request: ClaimedRequest, answer: str) -> None:
        """Take an answer; write all that have come when it is time."""
        self.fresh.append((request, answer))
        self.num_answered += 1
        if time.monotonic() - self._written_at > SECONDS_BETWEEN_WRITES:
            self._write_answers()

    def _write_answers(self) -> None:
        """Write the fresh answers; one that the database does not take fails its tree, and no
        other.
        """
        answers, self.fresh, self._written_at = self.fresh, [], time.monotonic()
        try:
            _write(self._database, answers)
        except UnstorableError:
            for pair in answers:
                try:
                    _write(self._database, [pair])
                except UnstorableError as error:
                    self.failures[pair[0].tree_id] = f"the model's answer cannot be stored ({error})"


def _write(database: Database, answers: Sequence[tuple[ClaimedRequest, str]]) -> None:
    if answers:
        with database.transaction() as transaction:
            queue.answer(transaction, answers)
            transaction.emit(RequestsAnswered())
