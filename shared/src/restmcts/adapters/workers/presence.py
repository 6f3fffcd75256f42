"""A worker's row in the database, beside its heartbeat file: who it is, when it was last alive,
what it does.

A thread writes it. Nothing depends on it, so a database that is away is waited for, and the worker
goes on.
"""

import logging
import os
import socket
import threading
import time
import uuid
from datetime import datetime, timedelta
from typing import Any

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import workers
from restmcts.adapters.workers.heartbeat import Activity, Heartbeat
from restmcts.errors import StorageError
from restmcts.messages.base import Queue

log = logging.getLogger(__name__)

REPORT_SECONDS = 5.0
FORGET_SECONDS = 60.0
"""Of silence, after which a worker that begins takes another for killed; one that
only could not reach the database writes its row again."""

STOP_SECONDS = 5.0


class Presence:
    """Reports this process until `stop`."""

    def __init__(self, database: Database, queue: Queue, heartbeat: Heartbeat) -> None:
        self._database = database
        self._queue = queue
        self._heartbeat = heartbeat
        self._id = uuid.uuid4().hex
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Remove the row: the worker has ended as it should."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        try:
            with self._database.transaction() as transaction:
                workers.forget(transaction, self._id)
        except StorageError as error:
            log.warning("this worker stays in the list of workers for a while (%s)", error)

    def _run(self) -> None:
        try:
            with self._database.transaction() as transaction:
                workers.forget_silent(transaction, FORGET_SECONDS)
        except StorageError as error:
            log.warning("killed workers stay in the list of workers (%s)", error)
        while True:
            try:
                self._report()
            except StorageError as error:
                log.debug("not reported this time (%s)", error)
            if self._stopped.wait(REPORT_SECONDS):
                return

    def _report(self) -> None:
        activity = self._heartbeat.activity()
        with self._database.transaction() as transaction:
            workers.report(transaction, self._row(activity, transaction.now()))

    def _row(self, activity: Activity, now: datetime) -> dict[str, Any]:
        """Return the row at a time of the database's; what was before is as long ago as this
        process measured.
        """
        return {
            "id": self._id,
            "queue": self._queue.value,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": now - timedelta(seconds=time.monotonic() - self._began),
            "seen_at": now,
            "doing": activity.doing,
            "since": now - timedelta(seconds=time.time() - activity.since),
            "num_done": activity.num_done,
        }
