"""Marks tests by their folder, so that no file can forget to; and work folders with runs in
them, searched at random.
"""

import gc
import json
import os
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
gc.disable()  # until all is imported, of which nothing is garbage
Search = Callable[..., int]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares the servers of the integration tests is one group, which one process of several
    takes, so that they start once; tests that want no worker come before those that want all.
    """
    for item in items:
        tier = tier_of(item)
        if tier in MARKED_FOLDERS:
            item.add_marker(tier)
            item.add_marker(pytest.mark.xdist_group("servers" if shares_servers(item) else item.path.stem))
    items.sort(key=place_of)


def tier_of(item: pytest.Item) -> str:
    return Path(item.path).relative_to(Path(__file__).parent).parts[0]


def shares_servers(item: pytest.Item) -> bool:
    return "servers" in getattr(item, "fixturenames", ())


def place_of(item: pytest.Item) -> int:
    """Return the place of a test's kind: the quick ones, then those that share servers, which
    mostly wait, and beside which the others have the cores.
    """
    if tier_of(item) not in MARKED_FOLDERS:
        return 0
    if not shares_servers(item):
        return 3
    return 2 if "stack" in getattr(item, "fixturenames", ()) else 1


def pytest_collection_finish() -> None:
    """What was imported stays: every training ends by collecting garbage, and would look through
    all of torch for it.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


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
