"""Connections and transactions: one engine a process, and what a transaction emits is published
after its commit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlmodel import SQLModel

from restmcts.adapters.sql import bulk
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.tables import OutboxRow
from restmcts.errors import StorageError
from restmcts.messages.base import Message
from restmcts.messages.routes import body_of

Publish = Callable[[Sequence[Message], Sequence[int]], None]


def table_of(model: type[SQLModel]) -> Any:
    """Return the Core table of a table model."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


OUTBOX = table_of(OutboxRow)


class Transaction:
    """An open transaction: a connection, and the messages it emits."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.emitted: list[Message] = []

    def emit(self, *messages: Message) -> None:
        """Publish messages after, and only if, this transaction commits."""
        self.emitted.extend(message for message in messages if message not in self.emitted)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement; a sequence of parameter sets is one round trip. An empty sequence
        runs nothing.
        """
        if parameters is None:
            return self.connection.execute(statement)
        return self.connection.execute(statement, parameters) if parameters else None

    def now(self) -> datetime:
        """Return the database's time."""
        return self.connection.execute(select(moment())).scalar_one()

    def insert(self, table: Any, rows: bulk.Rows) -> None:
        """Insert rows, all with the same columns."""
        if rows:
            self._write(bulk.insertion(table, tuple(rows[0]), self._as_arrays), rows)

    def upsert(self, table: Any, rows: bulk.Rows, keys: tuple[str, ...]) -> None:
        """Insert rows, or overwrite the other columns of rows whose keys are there already."""
        if rows:
            self._write(bulk.upsertion(table, tuple(rows[0]), keys, self._as_arrays), rows)

    def alter(self, table: Any, rows: bulk.Rows, keys: tuple[str, ...], *conditions: Any) -> None:
        """Overwrite columns of the rows that have the given rows' keys; the conditions must be
        constants of their module.
        """
        if rows:
            self._write(bulk.alteration(table, tuple(rows[0]), keys, conditions, self._as_arrays), rows)

    @property
    def _as_arrays(self) -> bool:
        return self.connection.dialect.name == "postgresql"

    def _write(self, statement: Any, rows: bulk.Rows) -> None:
        self.connection.execute(statement, bulk.parameters(rows, self._as_arrays))


class Database:
    """A PostgreSQL or SQLite database by URL; a `read_only` one waits for no writer, and lets
    nothing be written.
    """

    def __init__(self, url: str, publish: Publish | None = None, *, read_only: bool = False) -> None:
        self.engine = _engine(url, read_only)
        self.publish = publish

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def create_tables(self) -> None:
        """Create what is missing, columns too: work folders outlive versions (servers are
        migrated by Alembic).
        """
        with _storage_errors():
            SQLModel.metadata.create_all(self.engine)
            if self.is_sqlite:
                with self.engine.begin() as connection:
                    _add_columns(connection)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a transaction; commit it, then publish what it emitted. An exception rolls
        everything back.

        Raises:
            StorageError: if the database cannot be reached or does not take the change (disk full,
                say).
        """
        with _storage_errors(), self.engine.begin() as connection:
            transaction = Transaction(connection)
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

    def close(self) -> None:
        self.engine.dispose()


def _add_columns(connection: Connection) -> None:
    """Add the columns that tables made by an earlier version lack; all that came later may be
    NULL.
    """
    inspector = inspect(connection)
    for table in SQLModel.metadata.sorted_tables:
        known = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise StorageError(f"database: {str(error.orig).strip()}") from error
    except SQLAlchemyError as error:
        raise StorageError(f"database: {str(error).splitlines()[0]}") from error


def _engine(url: str, read_only: bool) -> Engine:
    if not url.startswith("sqlite"):
        options = {"execution_options": {"postgresql_readonly": True}} if read_only else {}
        return create_engine(url, pool_pre_ping=True, pool_size=4, max_overflow=4, **options)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
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
