"""What the dashboard shows, and what it may change: a database it only reads and, with a token,
one it writes to.
"""

from dataclasses import dataclass

from restmcts.adapters.buses.broker import queue_lengths
from restmcts.adapters.sql.database import Database
from restmcts.errors import StorageError
from restmcts.ports import ArtifactStore


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
        artifacts: the store with the training data; None where this dashboard has no account of it.
    """

    database: Database
    title: str
    redis_url: str = ""
    token: str = ""
    writable: Database | None = None
    names: tuple[str, ...] = ("127.0.0.1", "localhost")
    artifacts: ArtifactStore | None = None

    @property
    def may_change(self) -> bool:
        return bool(self.token) and self.writable is not None

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
