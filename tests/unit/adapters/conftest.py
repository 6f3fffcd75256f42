"""A whole run over the real handlers with models that are given."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.buses.local_bus import LocalBus
from restmcts.adapters.files.dataset_shards import read_rows
from restmcts.adapters.sql import promotions, runs
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.adapters.workers.model_worker import WorkerSettings
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase
from restmcts.messages import commands, events
from restmcts.usecases import steer
from restmcts_coordinator.handlers import CoordinatorHandlers, CoordinatorSettings
from restmcts_policy_generator.handlers import PolicyGeneratorHandlers
from restmcts_prm_scorer.handlers import PrmScorerHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from restmcts_value_labeler.handlers import ValueLabelerHandlers


class HandledRun:
    """A run named "run" over the real handlers, with models by their checkpoint's name ("value…" is
    a value model).

    Nothing trains: a training phase stops once its data are written.
    """

    def __init__(self, folder: Path, models: dict[str, Any], problems: dict[str, list[Problem]]) -> None:
        self.database = Database(f"sqlite:///{folder / 'run.db'}")
        self.database.create_tables()
        self.verifier = AnswerVerifier()
        worker = WorkerSettings()
        coordinator = CoordinatorHandlers(self.database, CoordinatorSettings())
        search = TreeSearchHandlers(self.database)
        self.artifacts = FolderArtifactStore(folder / "artifacts")
        labels = ValueLabelerHandlers(self.database, self.artifacts, self.verifier)
        load: Callable[[str], Any] = models.__getitem__
        prm = PrmScorerHandlers(self.database, load, worker)
        handlers: dict[str, Callable[[Any], None]] = {
            commands.ProposeWaitingSteps.name: PolicyGeneratorHandlers(self.database, load, worker).propose_steps,
            commands.ScoreWaitingSteps.name: prm.score_steps,
            commands.JudgeValues.name: prm.judge_values,
            commands.AdvanceTrees.name: search.advance_trees,
            events.RequestsAnswered.name: search.take_answers,
            commands.LabelTrees.name: labels.label_trees,
            commands.WriteDataset.name: labels.write_dataset,
            commands.TrainPolicy.name: lambda _: None,
            commands.TrainValue.name: lambda _: None,
            commands.AdvanceRun.name: coordinator.advance_run,
            events.TreesLabelled.name: coordinator.advance_run,
            events.ValuesJudged.name: coordinator.advance_run,
            events.DatasetWritten.name: coordinator.advance_run,
        }
        self.bus = LocalBus(handlers, lambda *letter: pytest.fail(f"dead letter: {letter}"))
        self.database.publish = lambda messages, _: self.bus.publish(messages)
        with self.database.transaction() as transaction:
            self.run_id = runs.create_run(transaction, "run", "test", 1, {})
            for set_name, members in problems.items():
                runs.add_problems(transaction, self.run_id, set_name, members)
            for name in models:
                kind = "value" if name.startswith("value") else "policy"
                runs.add_checkpoint(transaction, self.run_id, name, kind, name, name)

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

    def close(self) -> None:
        self.bus.close()
        self.verifier.close()
        self.database.close()


@pytest.fixture
def handled_run(tmp_path: Path) -> Iterator[Callable[..., HandledRun]]:
    """Begin a run from models and problem sets; it is closed at the end of the test."""
    begun: list[HandledRun] = []

    def begin(models: dict[str, Any], problems: dict[str, list[Problem]]) -> HandledRun:
        begun.append(HandledRun(tmp_path, models, problems))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()
