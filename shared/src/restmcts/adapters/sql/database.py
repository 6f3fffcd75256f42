"""Connections and transactions: one engine a process, and what a transaction emits is published
after its commit.
"""

import json
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DataError, OperationalError, SQLAlchemyError, StatementError
from sqlmodel import SQLModel

from restmcts.adapters.sql import bulk, versions
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.stack_tables import OutboxRow
from restmcts.errors import InputError, NotFoundError, StorageError, UnstorableError
from restmcts.messages.base import Message
from restmcts.messages.routes import body_of

RowT = TypeVar("RowT")
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Publish = Callable[[Sequence[Message], Sequence[int]], None]


def table_of(model: type[SQLModel]) -> Table:
    """Return the Core table of a table model."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


WORK_FILE = "run.db"
LOCK_SECONDS = 10.0
LOCKED = "55P03"  # lock_not_available
OUTBOX = table_of(OutboxRow)
_strict_json = partial(json.dumps, allow_nan=False)
_WAYS_OUT = (
    ("disk is full", "free some space and give the same command again"),
    ("not a database", "restore run.db from a copy, or give another folder"),
    ("image is malformed", "restore run.db from a copy, or give another folder"),
    ("readonly", "make run.db and its folder writable, or give another folder"),
)


class Transaction:
    """An open transaction of a database: a connection, and the messages it emits."""

    def __init__(self, connection: Connection, database: "Database") -> None:
        self.connection = connection
        self.only_run = database.only_run
        self.folder, self.place = database.folder, database.place
        self.emitted: list[Message] = []

    def emit(self, *messages: Message) -> None:
        """Publish messages after, and only if, this transaction commits."""
        self.emitted.extend(message for message in messages if message not in self.emitted)

    def rows(self, kind: type[RowT], statement: Executable, parameters: Parameters | None = None) -> list[RowT]:
        """Return the rows of a query, each as a dataclass whose fields its columns name."""
        with _readable():
            found = self.connection.execute(statement, parameters)
            return [kind(**row) for row in found.mappings()]

    def row(self, kind: type[RowT], statement: Executable) -> RowT | None:
        """Return the first row of a query, None if there is none."""
        with _readable():
            found = self.connection.execute(statement).mappings().first()
            return kind(**found) if found is not None else None

    # What comes back has as many types as there are statements.
    def execute(self, statement: Executable, parameters: Parameters | None = None) -> Any:
        """Run a statement; a sequence of parameter sets is one round trip. An empty sequence
        runs nothing.
        """
        with _unstorable():
            if parameters is None:
                return self.connection.execute(statement)
            return self.connection.execute(statement, parameters) if parameters else None

    def now(self) -> datetime:
        """Return the database's time."""
        return self.connection.execute(select(moment())).scalar_one()

    def insert(self, table: Table, rows: bulk.Rows) -> None:
        """Insert rows, all with the same columns."""
        if rows:
            self._write(bulk.insertion(table, tuple(rows[0]), self._as_arrays), rows)

    def upsert(self, table: Table, rows: bulk.Rows, keys: tuple[str, ...]) -> None:
        """Insert rows, or overwrite the other columns of rows whose keys are there already."""
        if rows:
            self._write(bulk.upsertion(table, tuple(rows[0]), keys, self._as_arrays), rows)

    def alter(self, table: Table, rows: bulk.Rows, keys: tuple[str, ...], *conditions: ColumnElement[bool]) -> None:
        """Overwrite columns of the rows that have the given rows' keys; the conditions must be
        constants of their module.
        """
        if rows:
            self._write(bulk.alteration(table, tuple(rows[0]), keys, conditions, self._as_arrays), rows)

    @property
    def _as_arrays(self) -> bool:
        return self.connection.dialect.name == "postgresql"

    def _write(self, statement: Executable, rows: bulk.Rows) -> None:
        with _unstorable():
            self.connection.execute(statement, bulk.parameters(rows, self._as_arrays))


class Database:
    """A PostgreSQL or SQLite database by URL; a `read_only` one waits for no writer, and lets
    nothing be written.

    On PostgreSQL a statement waits `LOCK_SECONDS` for a lock at most, and a transaction that does
    nothing for `idle_seconds` (its process is frozen, say) is ended, and its locks with it.

    Attributes:
        only_run: the id of the one run that this process works on; None: it works on all.
        folder: the work folder that it is in; None: it is a stack's.
        place: the option of commands that names the work folder, behind a space; empty: none does.
    """

    def __init__(
        self, url: str, publish: Publish | None = None, *, read_only: bool = False, idle_seconds: float = 60.0
    ) -> None:
        """Connect to nothing yet.

        Raises:
            InputError: if the URL is none, or of another kind of database, or names no file to be
                read.
        """
        try:
            self.engine = _engine(url, read_only, idle_seconds)
        except (ArgumentError, ImportError, ValueError) as error:  # SQLAlchemy reads a port by int()
            raise InputError(
                f"the URL of the database cannot be used ({error}); "
                "write it as postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME"
            ) from error
        self.publish = publish
        self.only_run: int | None = None
        file = Path(make_url(url).database or "") if self.is_sqlite else Path()
        self.folder = file.parent if file.name == WORK_FILE else None
        self.place = f" --workdir {shlex.quote(str(self.folder))}" if self.folder is not None else ""

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def create_tables(self) -> None:
        """Make all tables in an empty database.

        Raises:
            InputError: if it has tables, of another version than this code's.
        """
        with _storage_errors(), self.engine.begin() as connection:
            if versions.version_of(connection) is None:
                versions.create(connection)
        self.check_version()

    def check_version(self) -> None:
        """Do nothing if the tables are those that this code works with.

        Raises:
            InputError: if they are not; it says what to do.
        """
        with _storage_errors(), self.engine.begin() as connection:
            found = versions.version_of(connection)
        if found is not None and versions.bears(found):
            return
        path = Path(self.engine.url.database or "")
        name = str(path) if self.is_sqlite else "the database"
        option = f" --workdir {shlex.quote(str(path.parent))}" if self.is_sqlite else ""
        if found is not None and found > versions.newest():
            raise InputError(
                f"{name} is of a later version of restmcts (tables {found}, here {versions.newest()}): install that one"
            )
        state = "has no tables yet" if found is None else f"was made by an older version of restmcts (tables {found})"
        raise InputError(
            f"{name} {state}: `restmcts db upgrade{option}` brings it to this version, and keeps what is in it"
        )

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a transaction; commit it, then publish what it emitted. An exception rolls
        everything back.

        Raises:
            StorageError: if the database cannot be reached or does not take the change (disk full,
                say).
        """
        with _storage_errors(), self.engine.begin() as connection:
            transaction = Transaction(connection, self)
            yield transaction
            outbox_ids = self._post(transaction)
        if self.publish is not None and transaction.emitted:
            self.publish(transaction.emitted, outbox_ids)

    def _post(self, transaction: Transaction) -> list[int]:
        """Write the outbox; the embedded bus lives and dies with its process, and reconciles at
        start instead.
        """
        if self.is_sqlite or not transaction.emitted:
            return []
        rows = [{"name": message.name, "body": body_of(message)} for message in transaction.emitted]
        statement = insert(OUTBOX).returning(OUTBOX.c.id, sort_by_parameter_order=True)
        return list(transaction.connection.execute(statement, rows).scalars())

    def compact(self) -> None:
        """Give the space of deleted rows back to the disk on SQLite; PostgreSQL's autovacuum makes
        it free for other rows.

        Raises:
            StorageError: if the disk has no room for a copy of what is left.
        """
        if not self.is_sqlite:
            return
        # by the driver: SQLAlchemy begins a transaction, in which no VACUUM can be
        with closing(self.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            try:
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    cursor.execute(statement)
            except sqlite3.Error as error:
                raise StorageError(f"database: the space of deleted rows is not given back ({error})") from error

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _unstorable() -> Iterator[None]:
    """Distinguish values that no database takes (NUL, lone surrogates, integers beyond its range,
    numbers that JSON has not) from a database that is away: sending them again does not help.
    """
    try:
        yield
    except (StatementError, UnicodeError, OverflowError) as error:
        if (
            isinstance(error, StatementError)
            and not isinstance(error.orig, ValueError)
            and not isinstance(error, DataError)
        ):
            raise
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise UnstorableError(f"database: a value cannot be stored: {reason}") from error


@contextmanager
def _readable() -> Iterator[None]:
    """Distinguish what no row can be asked by (NUL, lone surrogates, integers beyond the database's
    range) and values that are not of their column's type from errors of whoever reads.
    """
    try:
        yield
    except (DataError, UnicodeEncodeError, OverflowError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise NotFoundError(f"no row of a database can be what is asked for: {reason}") from error
    except ValueError as error:
        raise StorageError(f"database: a stored value is damaged ({error}); restore it from a copy") from error


def _with_way_out(reason: str) -> str:
    """Return an error of the database, with what to do about it where its text says which."""
    return f"database: {reason}" + next((f"; {way}" for sign, way in _WAYS_OUT if sign in reason), "")


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == LOCKED:
            raise StorageError(
                f"database: another process holds what is to be changed, since {LOCK_SECONDS:.0f} s"
            ) from error
        raise StorageError(_with_way_out(" ".join(str(error.orig).split()))) from error
    except SQLAlchemyError as error:
        raise StorageError(_with_way_out(str(error).splitlines()[0])) from error
    except UnicodeDecodeError as error:
        # SQLite gives the text of its errors out of the file.
        raise StorageError(f"database: the file is damaged ({error}); restore it from a copy") from error


def _engine(url: str, read_only: bool, idle_seconds: float) -> Engine:
    if not url.startswith("sqlite"):
        options = {"execution_options": {"postgresql_readonly": True}} if read_only else {}
        limits = {"lock_timeout": LOCK_SECONDS, "idle_in_transaction_session_timeout": idle_seconds}
        connecting = {"options": " ".join(f"-c {name}={seconds * 1000:.0f}" for name, seconds in limits.items())}
        pool = {"pool_pre_ping": True, "pool_size": 4, "max_overflow": 4}
        return create_engine(url, connect_args=connecting, json_serializer=_strict_json, **pool, **options)
    path = Path(make_url(url).database or "")
    if read_only and not path.exists():
        raise InputError(f"{path} does not exist; give the file of a database")
    may_write = os.access(path.parent, os.W_OK) and (os.access(path, os.W_OK) or not path.exists())
    read_only = read_only or not may_write
    engine = create_engine(
        url if may_write else _reading_alone(path),
        connect_args={"timeout": 30, "check_same_thread": False},
        json_serializer=_strict_json,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: DBAPIConnection, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        writing = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
        for pragma in (*(("query_only=ON",) if read_only else writing), "cache_size=-65536"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.execute(text("BEGIN" if read_only else "BEGIN IMMEDIATE"))

    return engine


def _reading_alone(path: Path) -> str:
    """Return the URL of a database file that cannot be written, nor the files beside it that
    SQLite shares among processes: they are not needed where nobody writes.
    """
    nobody_writes = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    return f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&uri=true{nobody_writes}"
