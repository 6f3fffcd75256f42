"""The bus over Celery on Redis: wake-ups are sent after their transaction, and those of the same
kind wait once.

Redis may lose all it holds: messages that were not sent are in the outbox, and whatever waits in
the database is woken again.
"""

import logging
import time
from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import outbox, runs
from restmcts.errors import InputError, StorageError
from restmcts.messages.base import Message, Queue, TreesMessage
from restmcts.messages.routes import MESSAGES, body_of, parse, queue_of

log = logging.getLogger(__name__)

WAITING_SECONDS = 10
"""After which a message that says the same is sent again, should the one that waits be lost."""

UNSENT = (OperationalError, RedisError, OSError)


def celery_app(redis_url: str, name: str = "restmcts") -> Celery:
    """Return an application that can send every message; workers configure theirs further."""
    app = Celery(name, broker=redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_routes={message: {"queue": queue_of(message).value} for message in MESSAGES},
        task_queues={queue.value: {"routing_key": queue.value} for queue in Queue},
        # Celery 5.6 looks the default up with every message that is sent, wherever that goes.
        task_default_queue=Queue.COORDINATOR.value,
        task_create_missing_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A worker killed while it restores messages must not keep the others from it for five
        # minutes. What is not acknowledged in time comes again; long tasks then run beside a second
        # one that finds nothing to do.
        broker_transport_options={
            "visibility_timeout": 300,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 30,
            "socket_keepalive": True,
            "socket_connect_timeout": 5,
        },
    )
    return app


class CeleryBus:
    """Sends messages to the queues of their services.

    Invariant: what is published is in Redis, in the outbox, or follows from rows that the
    reconciler looks at.
    """

    def __init__(self, app: Celery, redis_url: str, database: Database) -> None:
        self._app = app
        self._redis = Redis.from_url(redis_url, socket_connect_timeout=5, socket_timeout=5)
        self._database = database

    def publish(self, messages: Sequence[Message], outbox_ids: Sequence[int] = ()) -> None:
        """Send messages and strike them from the outbox; what cannot be sent now stays there
        for the relay.
        """
        num_sent = 0
        try:
            for message in messages:
                self._send(message)
                num_sent += 1
        except UNSENT as error:
            log.warning(
                "broker: %d messages not sent, the coordinator will send them later (%s)",
                len(messages) - num_sent,
                error,
            )
        try:
            if outbox_ids[:num_sent]:
                with self._database.transaction() as transaction:
                    outbox.remove(transaction, outbox_ids[:num_sent])
        except StorageError as error:
            log.warning("sent messages stay in the outbox and will be sent again (%s)", error)

    def relay(self, older_than_seconds: float) -> int:
        """Send what has been in the outbox for so long; return how many were sent.

        Raises:
            StorageError: if the database cannot be used.
        """
        num_sent = 0
        with self._database.transaction() as transaction:
            rows = outbox.overdue(transaction, older_than_seconds)
            try:
                for row in rows:
                    self._relay_one(transaction, row)
                    num_sent += 1
            except UNSENT as error:
                log.warning("broker: %d messages still not sent (%s)", len(rows) - num_sent, error)
            outbox.remove(transaction, [row.id for row in rows[:num_sent]])
        metrics.WAKE_UPS.labels("outbox").inc(num_sent)
        return num_sent

    def _relay_one(self, transaction: Transaction, row: outbox.OverdueMessage) -> None:
        try:
            message = parse(row.name, row.body)
        except InputError as error:
            runs.add_dead_letter(transaction, row.name.partition(".")[0], row.name, row.body, str(error))
        else:
            self._send(message)

    def _send(self, message: Message) -> None:
        key = _waiting_key(message)
        if key is not None and not self._redis.set(key, 1, nx=True, ex=WAITING_SECONDS):
            return
        try:
            self._app.send_task(message.name, kwargs=message.model_dump(mode="json"), retry=False, ignore_result=True)
        except UNSENT:
            self.hear(message)
            raise

    def hear(self, message: Message) -> None:
        """Note that a message is being handled: one that is published from now on must be sent.
        Call before anything is read.
        """
        key = _waiting_key(message)
        try:
            if key is not None:
                self._redis.delete(key)
        except RedisError as error:
            log.warning("broker: the mark of a waiting message stays for %d s (%s)", WAITING_SECONDS, error)

    def is_drained(self, queue: Queue) -> bool:
        """Return whether workers have received everything from a queue; False if that cannot be
        known.
        """
        try:
            return int(self._redis.llen(queue.value)) == 0
        except RedisError:
            return False

    def close(self) -> None:
        self._redis.close()
        self._app.close()


def dead_letter(database: Database, queue: str, name: str, body: str, reason: str) -> None:
    """Keep a message that cannot be handled, with its reason; in the log alone if the database
    stays away.
    """
    log.error("dead letter: queue %s, message %s: %s", queue, name, reason)
    for pause_seconds in (1.0, 2.0, 4.0, 8.0, 0.0):
        try:
            with database.transaction() as transaction:
                runs.add_dead_letter(transaction, queue, name, body, reason)
            return
        except StorageError as error:
            log.warning("the dead letter is not stored yet (%s)", error)
            time.sleep(pause_seconds)
    log.error("dead letter lost to the database: queue %s, message %s: %s", queue, name, body)


def _waiting_key(message: Message) -> str | None:
    """Return the key that says that an equal message waits; None for those about trees, which
    are seldom equal.
    """
    return None if isinstance(message, TreesMessage) else f"bell:{message.name}:{body_of(message)}"
