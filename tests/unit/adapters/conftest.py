"""A whole run over the real handlers with models that are given."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_shards import read_rows
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import promotions, runs
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase
from restmcts.messages import commands
from restmcts.testing.services import HandledServices, untrained
from restmcts.usecases import steer
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_local.services import start

from tests.unit.adapters.project_team import Team


class HandledRun(HandledServices):
    """A run named "run" over the real handlers, with models by their checkpoint's name ("value…" is
    a value model).

    Nothing trains: a training phase stops once its data are written.
    """

    def __init__(self, folder: Path, models: dict[str, Any], problems: dict[str, list[Problem]]) -> None:
        super().__init__(folder, start, models.__getitem__, around=untrained)
        with self.database.transaction() as transaction:
            checkpoints = {
                name: NewCheckpoint("value" if name.startswith("value") else "policy", name) for name in models
            }
            new = NewRun("run", "test", 1, (), problems=problems, checkpoints=checkpoints)
            self.run_id = create_run(transaction, new).run_id

    def do(self, phases: Sequence[Phase]) -> dict[str, Any]:
        """Run the phases; return the results of those that are gates, by name."""
        with self.database.transaction() as transaction:
            runs.add_phases(transaction, self.run_id, phases)
            transaction.emit(commands.AdvanceRun(run_id=self.run_id))
        self.bus.run()
        with self.database.transaction() as transaction:
            rows = runs.phases_of(transaction, self.run_id)
            assert {row.state for row in rows if not row.kind.startswith("train")} <= {"done"}
            return {row.name: row.result for row in rows if row.kind == "gate"}

    def promoted(self, kind: str) -> str:
        with self.database.transaction() as transaction:
            return str(promotions.promoted(transaction, self.run_id, kind).name)  # type: ignore[union-attr]

    def promote(self, name: str) -> None:
        with self.database.transaction() as transaction:
            steer.promote(transaction, "run", name)

    def dataset(self, phase: str) -> list[dict[str, Any]]:
        """Return the rows of a training phase's data."""
        with self.database.transaction() as transaction:
            row = next(row for row in runs.phases_of(transaction, self.run_id) if row.name == phase)
            return read_rows(self.artifacts.fetch(runs.dataset_of(transaction, row.id).uri))  # type: ignore[union-attr]


@pytest.fixture
def handled_run(tmp_path: Path) -> Iterator[Callable[..., HandledRun]]:
    """Begin a run from models and problem sets; it is closed at the end of the test."""
    started: list[HandledRun] = []

    def begin(models: dict[str, Any], problems: dict[str, list[Problem]]) -> HandledRun:
        started.append(HandledRun(tmp_path, models, problems))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """A project in a database of its own."""
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    yield Team(database)
    database.close()
