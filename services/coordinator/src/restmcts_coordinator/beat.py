"""The clock of the stack: what was not sent is sent, what is overdue is rung for. Two beats at
once do no harm.
"""

import logging
import threading
import time

from restmcts.adapters.buses.celery_bus import CeleryBus
from restmcts.errors import StorageError

from restmcts_coordinator.handlers import CoordinatorHandlers

log = logging.getLogger(__name__)

RELAY_SECONDS = 1.0
"""Between two looks at the outbox, and the age from which a message there is taken as not sent."""


class Beat:
    """A thread that ends with its process, or once `stopping` is set."""

    def __init__(
        self, handlers: CoordinatorHandlers, bus: CeleryBus, reconcile_seconds: float, stopping: threading.Event
    ) -> None:
        self._handlers = handlers
        self._bus = bus
        self._reconcile_seconds = reconcile_seconds
        self._stopping = stopping

    def start(self) -> None:
        threading.Thread(target=self._run, name="beat", daemon=True).start()

    def _run(self) -> None:
        next_round = 0.0
        while not self._stopping.wait(RELAY_SECONDS):
            try:
                self._bus.relay(older_than_seconds=RELAY_SECONDS)
                self._handlers.wake_passed_over()
                if time.monotonic() >= next_round:
                    self._handlers.reconcile(self._bus.taken)
                    next_round = time.monotonic() + self._reconcile_seconds
            except StorageError as error:
                log.warning("the beat waits for the database (%s)", error)
            except Exception:
                # The beat is what mends everything else: it goes on, and the log says what is
                # wrong.
                log.exception("a beat failed")
