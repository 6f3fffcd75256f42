"""Brings a database to the version of the tables that this code knows, by Alembic.

The scripts are beside this module, in `migrations/`, so that whatever has the package can migrate.
As a command (`python -m restmcts.adapters.sql.migrate`) it migrates the database at
RESTMCTS_DATABASE_URL.
"""

import os
import sys
from collections.abc import Callable

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from restmcts.adapters.sql import versions
from restmcts.adapters.sql.database import Database
from restmcts.errors import InputError, RestMctsError, StorageError

# any number will do, if nothing else in the database uses it
LOCK_KEY = 2406_03816


def upgrade(url: str, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrate up; a database whose tables this code works with stays as it is. Two at once: one
    waits for the other. Return the version of its tables before and after; None: it had none.

    Raises:
        StorageError: if the database cannot be reached, or was made by a later version of this
            code.
    """

    found: str | None = None
    reached: str | None = None

    def task(config: Config) -> None:
        nonlocal found, reached
        connection = config.attributes["connection"]
        found = versions.version_of(connection)
        if found is not None and not inspect(connection).has_table("alembic_version"):
            versions.stamp(connection, found)
        if revision != "head" or found is None or not versions.bears(found):
            command.upgrade(config, revision)
        reached = versions.version_of(connection)

    _run(url, task)
    return found, reached


def downgrade(url: str, revision: str = "base") -> None:
    """Migrate down; "base" drops every table.

    Raises:
        StorageError: if the database cannot be reached, or knows no such version.
    """
    _run(url, lambda config: command.downgrade(config, revision))


def check(url: str) -> None:
    """Do nothing if the database has the tables of this code.

    Raises:
        StorageError: if it has not, or cannot be reached.
    """
    _run(url, command.check)


def _run(url: str, task: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", str(versions.SCRIPTS))
    config.set_main_option("path_separator", "os")
    database = Database(url)
    try:
        with database.engine.begin() as connection:
            if not database.is_sqlite:  # which lets one write at a time by itself
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            config.attributes["connection"] = connection
            task(config)
    except OperationalError as error:
        raise StorageError(f"database: {str(error.orig).strip()}") from error
    except CommandError as error:
        raise StorageError(f"database migrations: {error}; is this code older than the database?") from error
    finally:
        database.close()


def main() -> None:
    """Migrate up, wait for nothing; end with 1 or 2 and one line if it cannot be done."""
    try:
        url = os.environ.get("RESTMCTS_DATABASE_URL")
        if not url:
            raise InputError("RESTMCTS_DATABASE_URL is not set: it says which database to migrate")
        upgrade(url)
    except RestMctsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
