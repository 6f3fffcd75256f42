"""Pages where there is nothing to show yet: no run, or a run without trees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.usecases import steer
from restmcts_dashboard.serving import folder_source
from restmcts_dashboard.source import Source

from tests.unit.dashboard.conftest import collect

OF_A_RUN = ("", "/trees", "/problems", "/quality", "?x=tokens")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    return database


def test_a_folder_without_runs_shows_how_to_make_one(
    database: Database, tmp_path: Path, served: Callable[[Source], Any]
) -> None:
    client = served(folder_source(tmp_path / "run.db"))
    assert f"restmcts runs create NAME --workdir {tmp_path}" in client.text("/")
    assert "No run matches" in client.text("/?text=none") and "No run matches" in client.text("/?state=running")
    assert "No tree has failed" in client.text("/failures")


@pytest.mark.parametrize("phases", [[], [collect(1)]], ids=["no phase", "no tree"])
def test_a_run_in_which_nothing_happened_has_all_its_pages(
    phases: list[Any], database: Database, tmp_path: Path, served: Callable[[Source], Any]
) -> None:
    with database.transaction() as transaction:
        for name in ("first", "second"):
            run_id = runs.create_run(transaction, name, "rest-mcts", 0, {})
            runs.add_phases(transaction, run_id, phases)
    client = served(folder_source(tmp_path / "run.db"))
    pages = ["/", *(f"/runs/1{part}" for part in OF_A_RUN), "/runs/compare?run=1&run=2", "/failures"]
    assert {path: client.get(path)[0] for path in pages} == dict.fromkeys(pages, 200)


def test_archived_runs_alone_are_named(database: Database, tmp_path: Path, served: Callable[[Source], Any]) -> None:
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "old", "rest-mcts", 0, {})
        runs.finish_run(transaction, run_id, RunState.CANCELLED)
        steer.archive(transaction, "old", archived=True)
    assert "All runs are archived" in served(folder_source(tmp_path / "run.db")).text("/")
