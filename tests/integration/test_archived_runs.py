"""A run's trees archived to a real bucket from real PostgreSQL, and restored."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import archived_trees
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.domain.problems import Problem
from restmcts.settings import load_settings
from restmcts.testing.runs import SEARCH, faults
from restmcts.testing.services import HandledServices, untrained
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_local.services import start
from sqlalchemy import text

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archived_trees, "NODES_AT_ONCE", 10)


@pytest.fixture
def run_names(call: Call, database: Database, tmp_path: Path) -> Iterator[list[str]]:
    """Two runs of one search that have ended."""
    services = HandledServices(tmp_path, start, lambda _: RandomModels(), around=untrained, database=database)
    names = [f"archived-{number}-{time.monotonic_ns()}" for number in range(2)]
    checkpoints = {name: NewCheckpoint(name, "somewhere") for name in ("policy", "value")}
    for name in names:
        problems = {"train": [Problem(f"{number} of {name}", RIGHT_ANSWER) for number in range(4)]}
        with database.transaction() as transaction:
            create_run(transaction, NewRun(name, "test", 0, [SEARCH], problems=problems, checkpoints=checkpoints))
        services.bus.run()
    yield names
    services.close()
    database.publish = None


def rows(database: Database) -> dict[str, list[Any]]:
    with database.transaction() as transaction:
        return {
            table: sorted(transaction.execute(text(f"SELECT * FROM {table}")), key=str)
            for table in ("trees", "nodes", "requests")
        }


def shown(call: Call, name: str) -> Any:
    found = call("runs", "show", name)
    return {**found, "trees_in_store": None}


def test_a_run_goes_to_the_bucket_and_comes_back_equal(
    call: Call, run_names: list[str], database: Database, tmp_path: Path
) -> None:
    first, second = run_names
    before, numbers = rows(database), shown(call, first)
    (dry,) = call("runs", "archive", first, "--to-store")
    assert (rows(database), dry["done"]) == (before, False)
    (done,) = call("runs", "archive", first, "--to-store", "--yes")
    after = rows(database)
    for table, moved in dry["rows"].items():
        assert len(before[table]) - len(after[table]) == moved > 4
    assert after["trees"] == before["trees"]
    assert shown(call, first) == numbers
    assert done["uri"] in {each.uri for each in open_bucket(load_settings()).stored("trees")}
    assert done["uri"] not in {each["uri"] for each in call("storage", "prune", "--min-age", "0")["artifacts"]}

    shutil.rmtree(tmp_path / "cache")
    call("runs", "restore", first)
    assert rows(database) == before
    assert not list(open_bucket(load_settings()).stored("trees"))
    with database.transaction() as transaction:
        ids = [
            transaction.execute(text("SELECT id FROM runs WHERE name = :name"), {"name": name}).scalar_one()
            for name in run_names
        ]
    assert [faults(database, run_id) for run_id in ids] == [[], []]

    (again,) = call("runs", "archive", second, "--to-store", "--yes")
    assert call("runs", "delete", second, "--yes")["artifacts"] == [again["uri"]]
    assert not list(open_bucket(load_settings()).stored("trees"))
    call("runs", "delete", first, "--yes")
