"""The clock of the stack: what was not sent is sent, and what is overdue is woken again. Two beats
at once do no harm.
"""

import logging
import threading
import time

from prometheus_client import REGISTRY
from restmcts.adapters.buses.celery_bus import CeleryBus
from restmcts.adapters.observability.notifying import notify
from restmcts.adapters.observability.stack_metrics import StackCollector
from restmcts.adapters.workers.celery_worker import WorkerContext
from restmcts.adapters.workers.service import ServiceContext
from restmcts.errors import StorageError
from restmcts.settings import NotificationSettings, load_notification_settings
from restmcts.usecases.reconcile import RetryPolicy, wake_overdue

log = logging.getLogger(__name__)

NOTIFY_SECONDS = 2.0
"""Between two looks at what people are to be notified of."""

RELAY_SECONDS = 1.0
"""Between two looks at the outbox, and the age from which a message there counts as not sent."""


def begin_beat(worker: WorkerContext) -> None:
    """Begin the beat of a coordinator, and its figures of the whole stack if they are served."""
    settings, service = worker.settings, worker.service
    if settings.metrics_port is not None:
        collector = StackCollector(service.database, settings.redis_url.get_secret_value())
        REGISTRY.register(collector)
        service.closers.append(lambda: REGISTRY.unregister(collector))
    retries = RetryPolicy(settings.reconcile_seconds, settings.max_attempts)
    Beat(service, worker.bus, retries).start()
    threading.Thread(
        target=_notify, args=(service, load_notification_settings()), name="notifications", daemon=True
    ).start()


def _notify(service: ServiceContext, settings: NotificationSettings) -> None:
    """Look for news until the service stops; a thread of its own, as sending may take its time."""
    while not service.stopping.wait(NOTIFY_SECONDS):
        try:
            notify(service.database, settings, service.stopping)
        except StorageError as error:
            log.warning("notifications wait for the database (%s)", error)
        except Exception:
            log.exception("notifying failed")


class Beat:
    """A thread that ends with its process, or once the service is stopping; a round of the
    reconciler every `retries.overdue_seconds`.
    """

    def __init__(self, service: ServiceContext, bus: CeleryBus, retries: RetryPolicy) -> None:
        self._service = service
        self._bus = bus
        self._retries = retries

    def start(self) -> None:
        threading.Thread(target=self._run, name="beat", daemon=True).start()

    def _run(self) -> None:
        next_round = 0.0
        while not self._service.stopping.wait(RELAY_SECONDS):
            try:
                self._bus.relay(older_than_seconds=RELAY_SECONDS)
                for tick in self._service.ticks:
                    tick()
                if time.monotonic() >= next_round:
                    self._reconcile()
                    next_round = time.monotonic() + self._retries.overdue_seconds
            except StorageError as error:
                log.warning("the beat waits for the database (%s)", error)
            except Exception:
                # The beat is what repairs everything else: it goes on, and the log says what is
                # wrong.
                log.exception("a beat failed")

    def _reconcile(self) -> None:
        with self._service.database.transaction() as transaction:
            wake_overdue(transaction, self._retries, self._bus.is_drained)
