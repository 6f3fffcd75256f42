"""Marks tests by their folder, so that no file can forget to; and work folders with runs in
them, searched at random.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.buses.local_bus import LocalBus
from restmcts.adapters.sql import runs
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.adapters.workers.model_worker import WorkerSettings
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase
from restmcts.messages import commands, events
from restmcts.testing.trees import RandomModels
from restmcts_coordinator.handlers import CoordinatorHandlers, CoordinatorSettings
from restmcts_policy_generator.handlers import PolicyGeneratorHandlers
from restmcts_prm_scorer.handlers import PrmScorerHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from restmcts_value_labeler.handlers import ValueLabelerHandlers

MARKED_FOLDERS = ("integration", "e2e")
Search = Callable[..., int]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        if tier in MARKED_FOLDERS:
            item.add_marker(tier)


@pytest.fixture(scope="session")
def search_folder() -> Search:
    """Store a run of search phases in a work folder and do it with the real handlers and models
    from a seed; return its id.
    """

    def search(
        folder: Path, name: str, problems: Sequence[Problem], phases: Sequence[Phase], models: RandomModels
    ) -> int:
        database = Database(f"sqlite:///{folder / 'run.db'}")
        database.create_tables()
        with database.transaction() as transaction:
            run_id = runs.create_run(transaction, name, "rest-mcts", 1, {})
            runs.add_problems(transaction, run_id, "train", problems)
            for checkpoint, kind in (("base", "policy"), ("value-0", "value")):
                runs.add_checkpoint(transaction, run_id, checkpoint, kind, f"file://{checkpoint}", checkpoint * 8)
            runs.add_phases(transaction, run_id, phases)
        verifier = AnswerVerifier()
        worker = WorkerSettings()
        coordinator = CoordinatorHandlers(database, CoordinatorSettings(100))
        search = TreeSearchHandlers(database)
        labeler = ValueLabelerHandlers(database, FolderArtifactStore(folder / "artifacts"), verifier)
        handlers = {
            commands.ProposeWaitingSteps.name: PolicyGeneratorHandlers(
                database, lambda _: models, worker
            ).propose_steps,
            commands.ScoreWaitingSteps.name: PrmScorerHandlers(database, lambda _: models, worker).score_steps,
            commands.AdvanceTrees.name: search.advance_trees,
            events.RequestsAnswered.name: search.take_answers,
            commands.LabelTrees.name: labeler.label_trees,
            commands.AdvanceRun.name: coordinator.advance_run,
            events.TreesLabelled.name: coordinator.advance_run,
        }
        bus = LocalBus(handlers, lambda *letter: pytest.fail(f"dead letter {letter}"))
        database.publish = lambda messages, _: bus.publish(messages)
        coordinator.ring_all()
        bus.run()
        bus.close()
        verifier.close()
        database.close()
        return run_id

    return search
