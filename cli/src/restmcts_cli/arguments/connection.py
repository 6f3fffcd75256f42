"""Where a command finds its runs: the stack that the settings name, or a local work folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Database
    from restmcts.messages.base import Message
    from restmcts.ports import ArtifactStore
    from restmcts.settings import ApiSettings, Settings

DATABASE_FILE = "run.db"
ARTIFACTS_FOLDER = "artifacts"
SECONDS_TO_READ_PROBLEMS = 600.0

MAX_NAMED = 10
OVER_HTTP = {
    "runs": "create, clone, extend, list, show, watch, pause, resume, cancel, spec, tag",
    "problems": "enqueue",
    "trees": "list, show, export",
    "checkpoints": "list, show, pull",
    "datasets": "list, show, pull",
    "projects": "show, audit, token add, token list, token revoke",
}
"""The commands that speak to the API of a stack where they have no database, by group."""

NEEDS_DATABASE = (
    "this command is not available over HTTP, which RESTMCTS_API_URL asks for: set RESTMCTS_DATABASE_URL, or name a work "
    f"folder (--workdir); over HTTP there are {'; '.join(f'{group} {names}' for group, names in OVER_HTTP.items())}"
)

OnlyName = Annotated[
    str | None, typer.Argument(help="The run's name; without: the only run that there is.", show_default=False)
]
Workdir = Annotated[
    Path | None,
    typer.Option(
        help="A local work folder; if not given, the stack that RESTMCTS_… in the environment or .env name.",
        file_okay=False,
    ),
]


@dataclass
class Connection:
    """A database and an artifact store; `settings` are those of the stack, `workdir` is the
    local folder, one of them is None.
    """

    database: "Database"
    open_artifacts: "Callable[[], ArtifactStore]"
    settings: "Settings | None" = None
    workdir: Path | None = None

    @cached_property
    def artifacts(self) -> "ArtifactStore":
        """The artifact store, opened when it is first asked for: most commands read rows alone."""
        return self.open_artifacts()


@contextmanager
def connect(workdir: Path | None, *, create: bool = False, any_version: bool = False) -> Iterator[Connection]:
    """Yield a connection to the work folder or, without one, to the stack.

    Args:
        create: make the work folder and its tables if they are missing.
        any_version: take tables of any version, to look at that alone.

    Raises:
        InputError: if the folder contains no run, the settings of the stack are not complete, or
            the tables are of another version.
    """
    connection = _stack() if workdir is None else _folder(workdir, create)
    try:
        if not any_version:
            connection.database.check_version()
        yield connection
    finally:
        connection.database.close()


def only_run(connection: Connection) -> str:
    """Return the name of the only run.

    Raises:
        InputError: if there are several, naming them, or none.
    """
    from restmcts.adapters.sql.reads import queries

    with connection.database.transaction() as transaction:
        names = [row.name for row in queries.list_runs(transaction)]
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"there are no runs yet: restmcts runs create NAME{connection.database.place}")
    others = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    raise InputError(f"name one of the {len(names)} runs: {', '.join(names[:MAX_NAMED])}{others}")


def _folder(workdir: Path, create: bool) -> Connection:
    from restmcts.adapters.sql.database import Database
    from restmcts.adapters.storage.folder_store import FolderArtifactStore
    from restmcts.errors import StorageError

    path = workdir / DATABASE_FILE
    if not create and not path.is_file():
        raise InputError(
            f"{workdir} contains no {DATABASE_FILE}: it is not a work folder; `restmcts runs create --workdir` makes one"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{workdir}: cannot be used as work folder ({error.strerror})") from error
    database = Database(f"sqlite:///{path}")
    if create:
        database.create_tables()
    return Connection(database, lambda: FolderArtifactStore(workdir / ARTIFACTS_FOLDER), workdir=workdir)


def _stack() -> Connection:
    from restmcts.adapters.sql.database import Database

    settings = stack_settings()
    # Problems are read from files and the hub within the transaction that adds them.
    database = Database(settings.database_url.get_secret_value(), idle_seconds=SECONDS_TO_READ_PROBLEMS)

    def publish(messages: "Sequence[Message]", outbox_ids: Sequence[int]) -> None:
        # Only commands that change something wait for the import of Celery.
        from restmcts.adapters.buses.celery_bus import CeleryBus, celery_app

        redis_url = settings.redis_url.get_secret_value()
        bus = CeleryBus(celery_app(redis_url), redis_url, database)
        bus.publish(messages, outbox_ids)
        bus.close()

    database.publish = publish
    return Connection(database, lambda: _bucket(settings), settings=settings)


def api_settings(workdir: Path | None) -> "ApiSettings | None":
    """Return how the API is reached that a command asks; None where it has a work folder or a
    database.

    Raises:
        InputError: if a setting is wrong.
    """
    from restmcts.settings import load_api_settings

    if workdir is not None:
        return None
    settings = load_api_settings()
    return settings if settings.api_url and not settings.database_url.get_secret_value() else None


def stack_settings() -> "Settings":
    """Return the settings of the stack.

    Raises:
        InputError: naming the first that is missing, and the way to work without a stack.
    """
    from restmcts.settings import load_settings

    try:
        return load_settings()
    except InputError as error:
        if api_settings(None) is not None:
            raise InputError(NEEDS_DATABASE) from error
        raise InputError(f"no work folder is named (--workdir), and the stack cannot be reached: {error}") from error


def _bucket(settings: "Settings") -> "ArtifactStore":
    from restmcts.adapters.storage.s3_store import open_bucket

    return open_bucket(settings)
