"""Work folders of earlier versions: named, upgraded by one command, and their runs go on to the
trees that the earlier version would have made. tests/integration/test_migrations.py has PostgreSQL.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from restmcts.adapters.sql import migrate, versions
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.project_rows import Usage
from restmcts.adapters.sql.state import projects, runs
from restmcts.errors import InputError, RestMctsError
from restmcts_cli.main import app
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

WriteOldRun = Callable[[str], list[list[Any]]]
EndOldRun = Callable[[Database, Path], list[list[Any]]]


@pytest.fixture
def old_folder(tmp_path: Path, write_old_run: WriteOldRun) -> Path:
    """Return a work folder of version 0002 with a run that searches; such folders did not say of
    which version they were.
    """
    url = f"sqlite:///{tmp_path / 'run.db'}"
    migrate.upgrade(url, "0002")
    write_old_run(url)
    execute(tmp_path, "DROP TABLE alembic_version")
    return tmp_path


def execute(folder: Path, statement: str) -> None:
    engine = create_engine(f"sqlite:///{folder / 'run.db'}")
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def schema(folder: Path) -> set[tuple[str, ...]]:
    """Return columns, indexes and checks of a database file, but for the order of columns."""
    engine = create_engine(f"sqlite:///{folder / 'run.db'}")
    with engine.connect() as connection:
        tables = set(connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())
        columns = {
            (table, *map(str, row[1:]))
            for table in tables
            for row in connection.execute(text(f"PRAGMA table_info({table})"))
        }
        indexes = connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        )
        checks = {
            (table, name)
            for table, sql in connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
            for name in sql.replace('"', "").split()
            if name.startswith("ck_")
        }
        found = columns | {(name, " ".join(sql.replace('"', "").split())) for name, sql in indexes} | checks
    engine.dispose()
    return found


def run(*arguments: str) -> tuple[int, str]:
    """Return a command's exit code and what it says to people."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, RestMctsError):
        return result.exception.exit_code, f"{result.exception}\n"
    return result.exit_code, result.stderr


def test_the_newest_version_is_that_of_the_last_script() -> None:
    assert versions.newest() == ScriptDirectory(str(versions.SCRIPTS)).get_current_head()


def test_an_upgraded_folder_has_the_tables_of_a_new_one(
    old_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    new_folder = tmp_path_factory.mktemp("new")
    assert run("db", "upgrade", "--workdir", str(new_folder))[0] == 0
    assert run("db", "upgrade", "--workdir", str(old_folder))[0] == 0
    database = Database(f"sqlite:///{new_folder / 'created.db'}")
    database.create_tables()
    database.close()
    (new_folder / "created.db").replace(new_folder / "run.db")
    assert schema(old_folder) == schema(new_folder)


def test_a_run_of_an_older_version_goes_on_once_its_folder_is_upgraded(
    old_folder: Path, write_old_run: WriteOldRun, tmp_path: Path, end_old_run: EndOldRun
) -> None:
    newest = versions.newest()
    for said in (f"upgraded from 0002 to {newest}", f"up to date: version {newest}"):
        assert run("db", "upgrade", "--workdir", str(old_folder)) == (0, f"the database is {said}\n")
    database = Database(f"sqlite:///{old_folder / 'run.db'}")
    database.create_tables()
    empty = f"sqlite:///{tmp_path / 'other.db'}"
    migrate.upgrade(empty, "0002")
    assert end_old_run(database, tmp_path) == write_old_run(empty)
    database.close()


def test_runs_that_recorded_nothing_of_where_they_come_from_are_shown_once_upgraded(
    old_folder: Path,
) -> None:
    assert run("db", "upgrade", "--workdir", str(old_folder))[0] == 0
    shown = CliRunner().invoke(app, ["runs", "show", "old", "--workdir", str(old_folder)]).stdout
    assert shown.count("not recorded") == 3 and "created (UTC)" in shown


def test_code_of_before_stores_runs_beside_code_of_now(tmp_path: Path) -> None:
    assert run("db", "upgrade", "--workdir", str(tmp_path))[0] == 0
    columns = "name, method, seed, config, state, created_at, tags"
    execute(
        tmp_path,
        f"INSERT INTO runs ({columns}) VALUES ('before', 'rest-mcts', 0, '{{}}', 'done', '2026-01-01 00:00:00', '[]')",
    )
    found = CliRunner().invoke(app, ["runs", "show", "before", "--json", "--workdir", str(tmp_path)])
    assert json.loads(found.stdout)["provenance"] is None


def test_a_folder_of_an_older_version_is_named_with_the_command_that_upgrades_it(old_folder: Path) -> None:
    way_out = f"`restmcts db upgrade --workdir {old_folder}`"
    for command in (("runs", "list"), ("runs", "work", "old"), ("runs", "pause", "old"), ("ui",)):
        code, error = run(*command, "--workdir", str(old_folder))
        assert (code, error.count("\n")) == (2, 1)
        assert way_out in error and "older version" in error
    with pytest.raises(InputError, match="older version"):
        Database(f"sqlite:///{old_folder / 'run.db'}").create_tables()


def test_the_folder_of_an_evaluation_is_upgraded_where_its_run_is(old_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "work").mkdir(parents=True)
    (old_folder / "run.db").rename(out / "work" / "run.db")
    assert run("db", "upgrade", "--workdir", str(out)) == (
        0,
        f"the database is upgraded from 0002 to {versions.newest()}\n",
    )
    assert run("runs", "list", "--workdir", str(out / "work"))[0] == 0
    assert not (out / "run.db").exists(), "no second database is made beside it"


def test_a_folder_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    assert run("db", "upgrade", "--workdir", str(tmp_path))[0] == 0
    execute(tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    code, error = run("runs", "list", "--workdir", str(tmp_path))
    assert (code, error.count("\n")) == (2, 1)
    assert "later version" in error
    code, error = run("db", "upgrade", "--workdir", str(tmp_path))
    assert code != 0 and "is this code older than the database?" in error


def test_tables_of_a_later_version_that_only_adds_to_them_are_used(tmp_path: Path) -> None:
    assert run("db", "upgrade", "--workdir", str(tmp_path))[0] == 0
    later = f"{versions.newest()}a"
    execute(tmp_path, f"UPDATE alembic_version SET version_num = '{later}'")
    assert run("runs", "list", "--workdir", str(tmp_path))[0] == 0
    assert run("db", "upgrade", "--workdir", str(tmp_path)) == (0, f"the database is up to date: version {later}\n")
    engine = create_engine(f"sqlite:///{tmp_path / 'run.db'}")
    with engine.connect() as connection:
        assert versions.version_of(connection) == later
    engine.dispose()


def test_code_bears_what_only_adds_to_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("0013b", "0014", "0014a", "0014b", "0015", "0015a")
    for newest, borne in (("0014", ["0014", "0014a", "0014b"]), ("0014a", ["0014a", "0014b"]), ("0013", ["0013b"])):
        monkeypatch.setattr(versions, "newest", lambda newest=newest: newest)
        assert [version for version in asked if versions.bears(version)] == borne


def test_tables_of_projects_come_and_go_beside_the_rows_that_are_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'run.db'}"
    migrate.upgrade(url, "0013")
    columns = "name, method, seed, config, state, created_at, tags"
    execute(
        tmp_path,
        f"INSERT INTO runs ({columns}) VALUES ('run', 'rest-em', 0, '{{}}', 'done', '2026-01-01 00:00:00', '[]')",
    )
    named = "run_id, name, kind, uri, digest, lineage, created_at"
    execute(
        tmp_path,
        f"INSERT INTO checkpoints ({named}) VALUES (1, 'base', 'policy', 'here', '0', '{{}}', '2026-01-01 00:00:00')",
    )
    migrate.upgrade(url)
    database = Database(url)
    with database.transaction() as transaction:
        projects.assign_run(transaction, 1, projects.create_project(transaction, "team"))
        assert projects.project_of_run(transaction, "run") == 1
        assert projects.usage(transaction, 1) == Usage(0, 0, 0, 1)
    database.close()
    migrate.downgrade(url, "0013")
    assert {"projects", "api_tokens", "audit"} & {row[0] for row in schema(tmp_path)} == set()
    migrate.upgrade(url)
    database = Database(url)
    with database.transaction() as transaction:
        assert runs.checkpoints_of(transaction, 1)["base"].num_bytes is None, "no row was lost"
        assert projects.project_of_run(transaction, "run") is None
    database.close()


def test_a_copy_that_cannot_be_written_can_be_looked_at(old_folder: Path) -> None:
    folder = old_folder
    assert run("db", "upgrade", "--workdir", str(folder))[0] == 0
    folder.chmod(0o555)
    (folder / "run.db").chmod(0o444)
    # Rights are nothing to root, unless it gives that up.
    bound = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    both = (
        "import sys\nfrom restmcts_cli.main import run\n"
        f"for words in (['list', '--json'], ['pause', 'old']):\n    sys.argv[1:] = ['runs', *words, '--workdir', {str(folder)!r}]\n"
        "    try:\n        run()\n    except SystemExit as end:\n        print(end.code or 0)"
    )
    done = subprocess.run([*bound, sys.executable, "-c", both], capture_output=True, text=True, check=False)
    listed, *codes = done.stdout.rpartition("]")[::2]
    assert [found["name"] for found in json.loads(f"{listed}]")] == ["old"]
    advice = "make run.db and its folder writable, or give another folder"
    assert codes == ["\n0\n1\n"]
    assert done.stderr == f"error: database: attempt to write a readonly database; {advice}\n"
    folder.chmod(0o755)
