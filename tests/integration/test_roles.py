"""Each service's role of PostgreSQL may do what its handlers do, and no more."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from restmcts.adapters.sql import roles
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.migrate import upgrade
from restmcts.adapters.sql.state import runs
from restmcts.domain.problems import Problem
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

SECRET_ANSWER = "the true answer"
Ask = Callable[[str, str], list[object]]


@pytest.fixture(scope="module")
def owner(servers: Stack) -> Iterator[str]:
    """The URL of a database of its own, with a run in it."""
    url = make_url(servers.settings["RESTMCTS_DATABASE_URL"])
    server = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE roles_test"))
    own = url.set(database="roles_test").render_as_string(hide_password=False)
    upgrade(own)
    database = Database(own)
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "a run", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "train", [Problem("a question", SECRET_ANSWER)])
    database.close()
    yield own
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE roles_test WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def ask(owner: str, tmp_path: Path) -> Iterator[Ask]:
    """Run a statement as a service; return its rows."""
    urls = roles.set_up(owner, tmp_path)
    engines = {service: create_engine(url) for service, url in urls.items()}

    def run(service: str, statement: str) -> list[object]:
        with engines[service].begin() as connection:
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []

    yield run
    for engine in engines.values():
        engine.dispose()


@pytest.mark.parametrize("service", sorted(roles.WITHOUT_ANSWERS))
def test_whoever_searches_or_proposes_cannot_read_true_answers(ask: Ask, service: str) -> None:
    assert ask(service, "SELECT question FROM problems")
    for column in ("answer", "solution", "*"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            ask(service, f"SELECT {column} FROM problems")


def test_the_labeler_reads_them(ask: Ask) -> None:
    assert SECRET_ANSWER in str(ask("value-labeler", "SELECT answer FROM problems"))


@pytest.mark.parametrize("service", sorted(roles.RIGHTS))
def test_no_service_changes_tables_or_other_roles(ask: Ask, service: str) -> None:
    for statement in (
        "CREATE TABLE mine (id int)",
        "DROP TABLE nodes",
        "ALTER ROLE restmcts PASSWORD 'known'",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY runs TO PROGRAM 'cat'",
    ):
        with pytest.raises(ProgrammingError):
            ask(service, statement)


@pytest.mark.parametrize("table", ["runs", "trees", "nodes", "problems", "outbox", "dead_letters", "workers"])
def test_the_dashboard_reads(ask: Ask, table: str) -> None:
    ask("dashboard", f"SELECT * FROM {table}")
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            ask("dashboard", statement)


def test_the_dashboard_may_retry_where_a_token_lets_people(owner: str, tmp_path: Path, ask: Ask) -> None:
    roles.set_up(owner, tmp_path, dashboard_retries=True)
    ask("dashboard", "DELETE FROM dead_letters")
    with pytest.raises(ProgrammingError, match="permission denied"):
        ask("dashboard", "DELETE FROM runs")
    roles.set_up(owner, tmp_path)
    with pytest.raises(ProgrammingError, match="permission denied"):
        ask("dashboard", "DELETE FROM dead_letters")


def test_the_command_line_writes_every_table(ask: Ask) -> None:
    for table in ("runs", "problems", "trees", "dead_letters"):
        ask("cli", f"DELETE FROM {table} WHERE false")


def test_passwords_that_were_given_out_stay_and_files_are_not_for_everybody(owner: str, tmp_path: Path) -> None:
    assert roles.set_up(owner, tmp_path) == roles.set_up(owner, tmp_path)
    for service in roles.RIGHTS:
        assert (tmp_path / service / roles.FILE).stat().st_mode & 0o007 == 0
