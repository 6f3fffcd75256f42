"""What every worker is: a Celery application for one queue, whose tasks parse a message and call
its handler.

Handlers are made when the worker starts, in its own process. A worker runs one task at a time (solo
pool) and is scaled by replicas: `celery -A restmcts_tree_search.app worker --pool=solo`.
"""

import json
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery, signals
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from restmcts.adapters.buses.celery_bus import CeleryBus, celery_app, dead_letter
from restmcts.adapters.buses.celery_intake import consumer_for, transport_for
from restmcts.adapters.observability import logs, metrics, tracing
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.adapters.workers.heartbeat import Heartbeat
from restmcts.adapters.workers.presence import Presence
from restmcts.adapters.workers.service import Handlers, ServiceContext, Start, settings_of_stack
from restmcts.errors import LEAVING, RestMctsError
from restmcts.messages.base import Queue
from restmcts.messages.routes import MESSAGES, parse, queue_of
from restmcts.settings import Settings, load_policy_server_settings, load_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """One worker process: its service, and what surrounds it on the stack."""

    service: ServiceContext
    settings: Settings
    bus: CeleryBus
    heartbeat: Heartbeat
    presence: Presence

    def start(self) -> None:
        self.heartbeat.start()
        self.presence.start()

    def close(self) -> None:
        self.service.close()
        self.presence.stop()
        self.service.database.close()
        self.bus.close()
        self.heartbeat.stop()


Beside = Callable[[WorkerContext], None]
"""Begins what a worker does beside its queue."""


def worker_app(queue: Queue, start: Start, beside: Beside = lambda _: None) -> Celery:
    """Return the application of a queue's workers; `start` makes the handlers when the worker
    begins, and `beside` begins what else it does.

    Raises:
        InputError: if a setting is missing or wrong.
    """
    settings = load_settings()
    worker = _Worker(queue, settings, start, beside)
    app = celery_app(settings.redis_url.get_secret_value(), f"restmcts-{queue}")
    app.conf.update(
        broker_transport=transport_for(worker.refuse),
        worker_consumer=consumer_for(queue, worker.refuse),
        worker_pool="solo",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=settings.worker_events,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    app.amqp.queues.select([queue.value])
    for name in MESSAGES:
        if queue_of(name) == queue:
            app.task(worker.task(name), name=name, bind=True, **_acknowledgement(queue))
    worker.connect_signals(app)
    return app


def _acknowledgement(queue: Queue) -> dict[str, Any]:
    """Training holds a lease and may take longer than any redelivery would wait; all else is
    short and idempotent.
    """
    late = queue != Queue.TRAINER
    return {"acks_late": late, "reject_on_worker_lost": late, "ignore_result": True}


class _Worker:
    """One process's handlers, from its first signal to its last."""

    def __init__(self, queue: Queue, settings: Settings, start: Start, beside: Beside) -> None:
        self._queue = queue
        self._settings = settings
        self._start = start
        self._beside = beside
        self._context: WorkerContext | None = None
        self._handlers: Handlers = {}

    def connect_signals(self, app: Celery) -> None:
        signals.setup_logging.connect(lambda loglevel, **_: self.log(loglevel), weak=False)
        signals.worker_init.connect(lambda **_: self.begin(app), weak=False)
        signals.worker_ready.connect(lambda **_: self.context.start(), weak=False)
        signals.worker_shutting_down.connect(lambda **_: self.context.service.stop(), weak=False)
        signals.worker_shutdown.connect(lambda **_: self.context.close(), weak=False)

    def log(self, level: int | str | None) -> None:
        """Log in this project's way; Celery then leaves the log alone."""
        logs.configure(self._queue.value, self._settings.log_format, level or logging.INFO)

    @property
    def context(self) -> WorkerContext:
        assert self._context is not None, "the worker has not started"
        return self._context

    def begin(self, app: Celery) -> None:
        """Connect, make the handlers, and give signs of life."""
        settings = self._settings
        database = Database(settings.database_url.get_secret_value())
        bus = CeleryBus(app, settings.redis_url.get_secret_value(), database)
        database.publish = bus.publish
        # Each service has a role of its own in the one database that distinguishes stacks.
        url = make_url(settings.database_url.get_secret_value())
        scope = f"{url.host}:{url.port}/{url.database}"
        tracing.configure(self._queue.value, settings.otel_endpoint, scope)
        heartbeat = Heartbeat(settings.run_dir)
        presence = Presence(database, self._queue, heartbeat)
        service = ServiceContext(
            database,
            open_bucket(settings),
            settings_of_stack(settings, load_policy_server_settings()),
            on_batch=heartbeat.progress,
            at_work=heartbeat.beside,
            on_training_step=lambda *_: heartbeat.progress(),
        )
        self._context = WorkerContext(service, settings, bus, heartbeat, presence)
        self._handlers = self._start(service)
        self._beside(self._context)
        served = metrics.begin(settings.metrics_host, settings.metrics_port, settings.run_dir)
        if served is not None:
            service.closers.append(lambda: metrics.end(*served))
        service.closers.append(tracing.close)

    def task(self, name: str) -> Callable[..., None]:
        """Return the body of a task: it takes the task itself and the message's fields, and
        never raises.
        """

        def handle(task: Any, **fields: Any) -> None:
            self.context.heartbeat.begin(name)
            body = json.dumps(fields)
            if (task.request.delivery_info or {}).get("redelivered"):
                metrics.REDELIVERIES.labels(self._queue.value).inc()
            started, outcome = time.monotonic(), "refused"
            try:
                message = parse(name, body)
                self.context.bus.hear(message)
                with logs.about(**logs.ids_of(message)):
                    self._handlers[name](message)
                outcome = "done"
            except (RestMctsError, OperationalError) as error:
                if isinstance(error, OperationalError) or error.retryable:
                    outcome = "retry"
                    log.warning("%s: %s; the coordinator will wake it again", name, error)
                else:
                    self.refuse(name, body, str(error))
            except LEAVING:
                raise
            except BaseException as error:
                log.exception("%s failed", name)
                self.refuse(name, body, traceback.format_exception_only(error)[-1].strip())
            finally:
                metrics.MESSAGES.labels(name, outcome).inc()
                metrics.MESSAGE_SECONDS.labels(name).observe(time.monotonic() - started)
                self.context.heartbeat.end()

        return handle

    def refuse(self, name: str, body: str, reason: str) -> None:
        metrics.DEAD_LETTERS.labels(self._queue.value).inc()
        dead_letter(self.context.service.database, self._queue.value, name, body, reason)
