"""What policy and PRM workers share: claims of requests in turn, one batch after another, so that
no run's model keeps another run waiting.

Models behind HTTP are called side by side, one claim of each batch; what is loaded in
this process is served one at a time. A model that is not available blocks its run, and is asked for
again after a pause; so is one that serves nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from sqlalchemy.exc import OperationalError

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks
from restmcts.adapters.sql.state import requests as queue
from restmcts.adapters.sql.state.requests import WAKE_UPS, Batch, ClaimedBatch
from restmcts.adapters.sql.tables import RequestKind
from restmcts.errors import RestMctsError, StorageError, reason_of
from restmcts.usecases.serve_claims import Serve, ServedClaim, WorkerSettings, serve_claim

log = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class Turns:
    """Which batches a worker claims next: each has its turn before one has a second, and one of
    which nothing was served is passed over, for longer each time.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._had_theirs: set[Batch] = set()
        self._pauses: dict[Batch, tuple[float, float]] = {}
        self._until_woken: set[Batch] = set()

    def wake(self) -> None:
        """Begin what a wake-up asks for: requests that failed alone may be tried again."""
        self._until_woken.clear()

    def passed_over(self) -> set[Batch]:
        """Return the batches that are not to be claimed now."""
        return self._until_woken | {batch for batch, (until, _) in self._pauses.items() if until > self._now()}

    def had_theirs(self) -> set[Batch]:
        """Return the batches that had their turn, while others may wait for theirs."""
        return set(self._had_theirs)

    def begin_round(self) -> None:
        """Let every batch have a turn again."""
        self._had_theirs.clear()

    def give(self, batch: Batch) -> None:
        """Note that a batch has its turn."""
        self._had_theirs.add(batch)

    def served(self, batch: Batch, *, failed_some: bool = False) -> None:
        """Note that a model serves; what failed alone meanwhile waits for the next wake-up."""
        self._pauses.pop(batch, None)
        if failed_some:
            self._until_woken.add(batch)

    def pause(self, batch: Batch) -> None:
        """Note that a model served nothing."""
        _, seconds = self._pauses.get(batch, (0.0, FIRST_PAUSE_SECONDS / 2))
        seconds = min(2 * seconds, LONGEST_PAUSE_SECONDS)
        self._pauses[batch] = (self._now() + seconds, seconds)


class Serving:
    """Serves the requests of a kind that wait.

    Args:
        is_remote: whether the model of a checkpoint is behind HTTP.
    """

    def __init__(
        self,
        database: Database,
        kind: RequestKind,
        serve: Serve,
        settings: WorkerSettings,
        is_remote: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._database, self._kind, self._serve, self._settings = database, kind, serve, settings
        self._is_remote = is_remote
        self._lock = threading.RLock()
        self._turns = Turns()
        self._busy: set[Batch] = set()
        self._local: set[Batch] = set()
        self._errors: dict[Batch, BaseException] = {}
        self._threads = ThreadPoolExecutor(max(settings.max_at_once, 1), thread_name_prefix=f"model-{kind.value}")

    def wake(self) -> None:
        """Serve what waits: to its end, or, where models are served side by side, by threads that
        go on by themselves.

        Raises:
            RestMctsError: why some could not be served; others are served, or started.
        """
        if not self._settings.max_at_once:
            serve_waiting(self._database, self._kind, self._serve, self._settings)
            return
        with self._lock:
            self._turns.wake()
            self._begin_all()
            error = self._errors.popitem()[1] if self._errors else None
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait for what is under way, and leave it to other workers; this one must be stopping."""
        with self._lock:
            was_busy = bool(self._busy)
        self._threads.shutdown()
        if was_busy:
            with self._database.transaction() as transaction:
                transaction.emit(WAKE_UPS[self._kind])

    def _begin_all(self) -> None:
        """Begin to serve every batch that waits and can be served now."""
        while not self._settings.stopping.is_set() and len(self._busy) < self._settings.max_at_once:
            local_is_busy = bool(self._busy & self._local)
            without = self._turns.passed_over() | self._busy | (self._local if local_is_busy else set())
            claim = _next_claim(self._database, self._kind, self._settings, self._turns, without)
            if claim is None:
                return
            if not self._is_remote(claim.batch.checkpoint_id):
                self._local.add(claim.batch)
                if local_is_busy:
                    with self._database.transaction() as transaction:
                        queue.give_back(transaction, claim.requests)
                    continue
            self._busy.add(claim.batch)
            self._threads.submit(self._serve_beside, claim)

    def _serve_beside(self, claim: ClaimedBatch) -> None:
        """Serve a claim in a thread of its own, then begin whatever waits."""
        is_over = partial(_is_over, self._settings.stopping, time.monotonic() + self._settings.max_seconds)
        claimed: ServedClaim | None = None
        error: BaseException | None = None
        try:
            with self._settings.at_work():
                claimed = serve_claim(self._database, self._kind, claim, self._serve, self._settings, is_over)
        except BaseException as raised:
            # Reported by the next wake-up, in the thread that knows what to do with it.
            error = raised
            if isinstance(raised, RestMctsError):
                with suppress(StorageError):
                    _block(self._database, claim.batch, raised)
        self._settings.on_batch()
        with self._lock:
            self._busy.discard(claim.batch)
            self._note(claim.batch, claimed, error)
            try:
                self._begin_all()
            except (RestMctsError, OperationalError) as away:
                log.warning("%s; the next wake-up goes on", away)

    def _note(self, batch: Batch, claimed: ServedClaim | None, error: BaseException | None) -> None:
        if error is not None:
            self._errors[batch] = error
        if claimed is None or (claimed.failed_attempts and not claimed.num_answered):
            self._turns.pause(batch)
        else:
            self._turns.served(batch, failed_some=bool(claimed.failed_attempts))


def serve_waiting(database: Database, kind: RequestKind, serve: Serve, settings: WorkerSettings) -> int:
    """Serve requests of a kind, one claim after the other, until none waits, or it is time to end;
    return how many were served.

    Raises:
        RestMctsError: why some cannot be served now, once all others are served.
    """
    turns, num_served = Turns(), 0
    unavailable: dict[Batch, RestMctsError] = {}
    failed: set[Batch] = set()
    is_over = partial(_is_over, settings.stopping, time.monotonic() + settings.max_seconds)
    while not is_over():
        claim = _next_claim(database, kind, settings, turns, {*unavailable, *failed})
        if claim is None:
            _raise_first(unavailable)
            return num_served
        try:
            claimed = serve_claim(database, kind, claim, serve, settings, is_over)
            num_served += claimed.num_answered
            if claimed.failed_attempts:
                # They wait again; the next wake-up is their next attempt.
                failed.add(claim.batch)
        except RestMctsError as error:
            unavailable[claim.batch] = error
            _block(database, claim.batch, error)
        settings.on_batch()
    with database.transaction() as transaction:
        transaction.emit(WAKE_UPS[kind])
    _raise_first(unavailable)
    return num_served


def _block(database: Database, batch: Batch, error: RestMctsError) -> None:
    with database.transaction() as transaction:
        blocks.block_checkpoint(transaction, batch.checkpoint_id, reason_of(error))


def _raise_first(errors: Mapping[Batch, RestMctsError]) -> None:
    for error in errors.values():
        raise error


def _is_over(stopping: threading.Event, deadline: float) -> bool:
    return stopping.is_set() or time.monotonic() > deadline


def _next_claim(
    database: Database, kind: RequestKind, settings: WorkerSettings, turns: Turns, without: set[Batch]
) -> ClaimedBatch | None:
    """Claim requests of a batch that has not had its turn, or, where all have, of any but
    `without`; where more may wait, wake other workers.
    """
    limits = (settings.max_requests, settings.lease_seconds)
    with database.transaction() as transaction:
        had_theirs = turns.had_theirs()
        claim = queue.claim(transaction, kind, *limits, without | had_theirs)
        if claim is None and had_theirs - without:
            turns.begin_round()
            claim = queue.claim(transaction, kind, *limits, without)
        if claim is not None:
            turns.give(claim.batch)
            if len(claim.requests) == settings.max_requests:
                transaction.emit(WAKE_UPS[kind])
    return claim
