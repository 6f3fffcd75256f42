"""Marks tests by their folder, so that no file can forget to; and work folders with runs in
them, searched at random.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import NODES
from restmcts.adapters.sql.tables import RunState
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.adapters.workers.service import ServiceSettings
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase
from restmcts.testing.services import HandledServices
from restmcts.testing.trees import RandomModels
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_local.services import start
from sqlalchemy import JSON, Boolean, Column, DateTime, MetaData, create_engine, func, select

MARKED_FOLDERS = ("integration", "e2e")
# of torch, here and in what tests start: tiny matrices gain nothing from more, and threads that
# wait for one another take the cores of the other tests
os.environ.setdefault("OMP_NUM_THREADS", "1")
num_frozen = 0  # modules
gc.disable()  # until all is imported, of which nothing is garbage
# The files of tests with the fixture `servers`. They are named, as who deals tests out to processes
# does not know fixtures, and groups by marks (`--dist loadgroup`) are lost with this pytest.
SHARING_SERVERS = frozenset(
    f"test_{name}"
    for name in (
        "api_artifacts",
        "archived_runs",
        "autoscale",
        "blocked_runs",
        "celery_bus",
        "celery_malformed",
        "clocks_and_locks",
        "dashboard_on_servers",
        "deleted_runs",
        "judged_runs",
        "migrations",
        "projects",
        "responses",
        "roles",
        "s3_store",
        "supervised_stack",
        "token_budget",
    )
)
Search = Callable[..., int]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares servers comes first, as it mostly waits, and the others have the cores beside it;
    of that, what wants no worker comes before what wants all, so that they start once.
    """
    sharing = {item.path.stem for item in items if "servers" in getattr(item, "fixturenames", ())}
    if unnamed := sharing - SHARING_SERVERS:
        raise pytest.UsageError(f"tests/conftest.py: SHARING_SERVERS must name {', '.join(sorted(unnamed))}")
    with_workers = {item.path.stem for item in items if "stack" in getattr(item, "fixturenames", ())} & SHARING_SERVERS
    for item in items:
        if tier_of(item) in MARKED_FOLDERS:
            item.add_marker(tier_of(item))
    items.sort(key=lambda item: place_of(item, with_workers))


def tier_of(item: pytest.Item) -> str:
    return Path(item.path).relative_to(Path(__file__).parent).parts[0]


def place_of(item: pytest.Item, with_workers: set[str]) -> int:
    if tier_of(item) not in MARKED_FOLDERS:
        return 0
    if item.path.stem not in SHARING_SERVERS:
        return 3
    return 2 if item.path.stem in with_workers else 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, let one of several processes take all files that share servers."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "sharing servers" if Path(file).stem in SHARING_SERVERS else file

    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_runtest_setup() -> None:
    """What was imported stays: every training ends by collecting garbage, and would look through
    all of torch for it.
    """
    global num_frozen
    if len(sys.modules) > num_frozen + 50:
        gc.collect()
        gc.freeze()
        num_frozen = len(sys.modules)


@pytest.fixture(scope="session")
def verifier() -> Iterator[AnswerVerifier]:
    """The verifier with its child process, which takes seconds to start."""
    with AnswerVerifier(time_limit_seconds=30.0) as shared:
        yield shared


@pytest.fixture(scope="session")
def search_folder() -> Search:
    """Store a run of search phases in a work folder and do it with the real handlers and models
    from a seed; return its id.
    """

    def search(
        folder: Path, name: str, problems: Sequence[Problem], phases: Sequence[Phase], models: RandomModels
    ) -> int:
        services = HandledServices(
            folder, start, lambda _: models, ServiceSettings(folder / "work", max_trees_in_flight=100)
        )
        with services.database.transaction() as transaction:
            checkpoints = {
                given: NewCheckpoint(kind, f"file://{given}", given * 8)
                for given, kind in (("base", "policy"), ("value-0", "value"))
            }
            new = NewRun(name, "rest-mcts", 1, phases, problems={"train": problems}, checkpoints=checkpoints)
            run_id = create_run(transaction, new).run_id
        services.resume()
        services.close()
        return run_id

    return search


@pytest.fixture(scope="session")
def write_old_run() -> Callable[[str], list[list[Any]]]:
    """Write a run that version 0002 of the tables left in the midst of its searches, row by row as
    the code of that time wrote them; return the nodes that it came to when that code ended it.
    """
    known = json.loads((Path(__file__).parent / "rows_of_version_0002.json").read_text(encoding="utf-8"))

    def write(url: str) -> list[list[Any]]:
        engine = create_engine(url)
        metadata = MetaData()
        metadata.reflect(engine)
        with engine.begin() as connection:
            for table in metadata.sorted_tables:
                rows = [
                    {name: _stored(table.c[name], value) for name, value in row.items()}
                    for row in known["tables"].get(table.name, ())
                ]
                if rows:
                    connection.execute(table.insert(), rows)
                if rows and "id" in table.c and engine.dialect.name == "postgresql":
                    sequence = func.pg_get_serial_sequence(table.name, "id")
                    connection.execute(select(func.setval(sequence, max(row["id"] for row in rows))))
        engine.dispose()
        ended: list[list[Any]] = known["nodes_of_the_ended_run"]
        return ended

    return write


@pytest.fixture(scope="session")
def end_old_run() -> Callable[[Database, Path], list[list[Any]]]:
    """Let the run that `write_old_run` wrote go on to its end, with the models that it was begun
    with; return its nodes.
    """

    def end(database: Database, folder: Path) -> list[list[Any]]:
        models = RandomModels(seed=3)
        settings = ServiceSettings(folder / "work", max_trees_in_flight=100)
        services = HandledServices(folder, start, lambda _: models, settings, database=database)
        services.resume()
        services.close()
        with database.transaction() as transaction:
            assert runs.state_of(transaction, 1) == RunState.DONE
            columns = [NODES.c[name] for name in ("tree_id", "node_id", "step", "visits", "search_value", "verdict")]
            found = transaction.execute(select(*columns).order_by(NODES.c.tree_id, NODES.c.node_id))
            return [[*row[:4], round(row[4], 9), row[5]] for row in found]

    return end


def _stored(column: Column[Any], value: Any) -> Any:
    """Return what SQLite keeps as text or number as the column's type has it."""
    if value is None or not isinstance(column.type, JSON | DateTime | Boolean):
        return value
    if isinstance(column.type, DateTime):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return json.loads(value) if isinstance(column.type, JSON) else bool(value)
