"""All services in this process over a work folder, with models that are given: the composition of
every test that needs a run and no server.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from restmcts.adapters.buses.local_bus import LocalBus
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import Handler, OpenModels, ServiceContext, ServiceSettings, Start
from restmcts.messages.base import Message, Queue
from restmcts.messages.routes import queue_of
from restmcts.usecases import reconcile

Around = Callable[[str, Handler], Handler]
"""Returns what a message's handler is replaced by, from its wire name and the handler."""


class HandledServices:
    """The real handlers over a new or known work folder; close it at the end.

    Args:
        start: makes the handlers: `restmcts_local.services.start`.
        models: opens a policy or a value model, from a checkpoint's URI.
        around: put around every handler.
        database: in place of the folder's own, and left open.
    """

    def __init__(
        self,
        folder: Path,
        start: Start,
        models: Callable[[str], Any],
        settings: ServiceSettings | None = None,
        around: Around = lambda _, handler: handler,
        database: Database | None = None,
    ) -> None:
        self._closes = database is None
        self.database = database or _new_database(folder)
        self.artifacts = FolderArtifactStore(folder / "artifacts")
        opened = OpenModels(models, models)
        self._context = ServiceContext(
            self.database, self.artifacts, settings or ServiceSettings(folder / "work"), opened
        )
        self.handlers = {name: around(name, handler) for name, handler in start(self._context).items()}
        self.bus = LocalBus(self.handlers, _refuse)
        self.database.publish = lambda messages, _: self.bus.publish(messages)

    def handle(self, message: Message) -> None:
        """Give one message to its handler."""
        self.handlers[message.name](message)

    def resume(self) -> None:
        """Go on with all runs until nothing waits, as a process does that has just started."""
        with self.database.transaction() as transaction:
            reconcile.wake_all(transaction)
        self.bus.run()

    def close(self) -> None:
        """Close all but the folder."""
        self._context.stop()
        self.bus.close()
        self._context.close()
        if self._closes:
            self.database.close()


def untrained(name: str, handler: Handler) -> Handler:
    """Put around handlers, leave training out: its phases stop once their data are written."""
    return (lambda _: None) if queue_of(name) == Queue.TRAINER else handler


def _new_database(folder: Path) -> Database:
    path = folder / "run.db"
    if not path.exists():
        path.write_bytes(_empty_database())
    database = Database(f"sqlite:///{path}")
    database.create_tables()
    return database


@functools.cache
def _empty_database() -> bytes:
    """Return the file of a database with all tables, which takes longer to make than to copy."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/run.db")
        database.create_tables()
        database.close()
        return Path(folder, "run.db").read_bytes()


def _refuse(*letter: str) -> None:
    raise AssertionError(f"dead letter: {letter}")
