"""Migrations on real PostgreSQL: up, down and up again; and that they make exactly the tables
of the code.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql import migrate
from restmcts.adapters.sql.database import Database
from restmcts.errors import InputError, StorageError
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import create_engine, make_url, text

pytestmark = pytest.mark.integration

SCHEMA = """
SELECT 'column', table_name, column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
UNION ALL
SELECT 'index', tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
"""


@pytest.fixture
def postgres_url(servers: Stack) -> str:
    """Return the administrator's URL."""
    return servers.settings["RESTMCTS_DATABASE_URL"]


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    """Return the URL of an empty database."""
    yield from new_database(postgres_url, "migrations_under_test")


@pytest.fixture
def other_url(postgres_url: str) -> Iterator[str]:
    yield from new_database(postgres_url, "migrations_to_compare")


def new_database(server: str, name: str) -> Iterator[str]:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def schema(url: str) -> set[tuple[str, ...]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = {tuple(row) for row in connection.execute(text(SCHEMA))}
    engine.dispose()
    return rows


def test_up_down_and_up_again(url: str) -> None:
    migrate.upgrade(url)
    first = schema(url)
    assert {"runs", "trees", "requests", "outbox"} <= {row[1] for row in first}
    migrate.upgrade(url)
    migrate.downgrade(url)
    assert schema(url) == set()
    migrate.upgrade(url)
    assert schema(url) == first


def test_migrations_make_the_tables_of_the_code(url: str, other_url: str) -> None:
    """Compared by the server's own definitions: autogeneration passes over partial indexes and
    checks.
    """
    migrate.upgrade(url)
    migrate.check(url)
    database = Database(other_url)
    database.create_tables()
    database.close()
    assert schema(url) == schema(other_url)


def test_a_run_of_an_older_version_goes_on(
    url: str,
    tmp_path: Path,
    write_old_run: Callable[[str], list[list[Any]]],
    end_old_run: Callable[[Database, Path], list[list[Any]]],
) -> None:
    migrate.upgrade(url, "0002")
    expected = write_old_run(url)
    database = Database(url)
    with pytest.raises(InputError, match=r"older version.*`restmcts db upgrade`"):
        database.check_version()
    migrate.upgrade(url)
    database.check_version()
    assert end_old_run(database, tmp_path) == expected
    database.close()


def test_what_a_downgrade_writes_can_be_upgraded(url: str, write_old_run: Callable[[str], list[list[Any]]]) -> None:
    migrate.upgrade(url, "0002")
    write_old_run(url)
    engine = create_engine(url)

    def read() -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            columns = "id, batch_key, state, payload, answer"
            return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM requests ORDER BY id"))]

    before = read()
    migrate.upgrade(url)
    migrate.downgrade(url, "0002")
    assert read() == before
    engine.dispose()


def test_two_at_once_do_no_harm(url: str) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            migrate.upgrade(url)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    migrate.check(url)


def test_check_refuses_an_empty_database(url: str) -> None:
    with pytest.raises(StorageError, match="migrations"):
        migrate.check(url)


def test_the_command_migrates_and_reports_in_one_line(url: str) -> None:
    command = [sys.executable, "-m", "restmcts.adapters.sql.migrate"]
    done = subprocess.run(command, env={"RESTMCTS_DATABASE_URL": url}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    migrate.check(url)
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_scripts_lie_in_the_package() -> None:
    folder = Path(migrate.__file__).parent / "migrations"
    assert (folder / "script.py.mako").is_file()
    assert len(list((folder / "versions").glob("[0-9]*.py"))) >= 1
