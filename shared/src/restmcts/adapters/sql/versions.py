"""Which version the tables of a database are of: that of the last script in `migrations/` which
was run on them. Knows nothing of Alembic, whose import takes longer than most commands.

A script that only adds what code without it can do without (a table, a column that may be null or
has a default of the database) has the number of the script before it and a letter: code of 0014
works with tables of 0014a and 0014b. A script with a number of its own asks for its code.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

import restmcts.adapters.sql.project_tables
import restmcts.adapters.sql.stack_tables  # noqa: F401  (fills SQLModel.metadata)

SCRIPTS = Path(__file__).parent / "migrations"
NUM_DIGITS = 4


def newest() -> str:
    """Return the version that this code works with."""
    return max(path.name.partition("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))


def bears(version: str) -> bool:
    """Return whether this code works with tables of a version: its own, or a later one that only
    adds to it.
    """
    return version >= newest() and version[:NUM_DIGITS] == newest()[:NUM_DIGITS]


def version_of(connection: Connection) -> str | None:
    """Return the version of a database's tables; None if it has none."""
    inspector = inspect(connection)
    if inspector.has_table("alembic_version"):
        stored: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return stored
    # Work folders said nothing of their version up to 0002.
    if inspector.has_table("token_counts"):
        return "0002"
    return "0001" if inspector.has_table("runs") else None


def create(connection: Connection) -> None:
    """Make all tables in an empty database."""
    SQLModel.metadata.create_all(connection)
    stamp(connection, newest())


def stamp(connection: Connection, version: str) -> None:
    """Write down the version of tables that nothing was written of, as Alembic does."""
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})
