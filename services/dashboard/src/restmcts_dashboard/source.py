"""What the dashboard shows, and what it may change: a database it only reads and, with a token,
one it writes to.
"""

from dataclasses import dataclass
from pathlib import Path

from restmcts.adapters.buses.broker import queue_lengths
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.folder_lock import FolderUse, folder_use
from restmcts.adapters.storage.readable import ReadableStore
from restmcts.errors import StorageError
from restmcts.reporting.run_states import work_command

LOCAL_NAMES = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pages come from.

    Attributes:
        database: read only.
        title: of the stack or the work folder, for people.
        redis_url: of the broker; empty for a work folder, which has none.
        token: which must come with every change; empty: nothing can be changed.
        writable: the database with its bus; None: nothing can be changed.
        names: host names under which browsers may ask.
        artifacts: the store with training data and checkpoints; None where this dashboard has no
            account of it.
        folder: the work folder; None: of a stack, whose workers report themselves.
        serves_api: whether projects reach their runs over HTTP (restmcts_dashboard.api), by tokens
            of their own; `writable` is needed for that, and no `token`.
    """

    database: Database
    title: str
    redis_url: str = ""
    token: str = ""
    writable: Database | None = None
    names: tuple[str, ...] = LOCAL_NAMES
    artifacts: ReadableStore | None = None
    folder: Path | None = None
    serves_api: bool = False

    @property
    def may_change(self) -> bool:
        return bool(self.token) and self.writable is not None

    @property
    def use(self) -> FolderUse | None:
        """What the work folder is used for; None: runs have workers of a stack."""
        return folder_use(self.folder) if self.folder is not None else None

    def work_command(self, name: str) -> str:
        """Return the command that lets a waiting run go on."""
        return work_command(name, self.folder or Path())

    def queue_lengths(self) -> dict[str, int | None]:
        """Return how many messages wait in each queue; None: the broker does not answer; empty
        where there is no broker.
        """
        if not self.redis_url:
            return {}
        try:
            return dict(queue_lengths(self.redis_url))
        except StorageError:
            return {"broker": None}
