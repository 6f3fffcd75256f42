"""Which trees of a run search first, where not all may at the same time."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import TreeState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.messages.commands import AdvanceRun
from restmcts_coordinator.handlers import CoordinatorHandlers
from sqlalchemy import select

GRADE = SearchPhase("grade", 1, "evaluate", "set", "policy", None, CotSettings())
COLLECT = SearchPhase("collect", 1, "collect", "set", "policy", None, CotSettings())
TRAIN = TrainPolicyPhase("policy-1", 1, "policy", TrainingSettings(), ("collect",))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    yield database
    database.close()


def admitted(database: Database, phases: Sequence[Phase], max_trees: int) -> Counter[str]:
    """Return how many trees of each phase search, of a run with four problems."""
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "run", "test", 0, {})
        runs.add_problems(transaction, run_id, "set", [Problem(f"question {number}", "1") for number in range(4)])
        runs.add_checkpoint(transaction, run_id, "policy", "policy", "policy", "0")
        runs.add_phases(transaction, run_id, phases)
    CoordinatorHandlers(database, max_trees).advance_run(AdvanceRun(run_id=run_id))
    with database.transaction() as transaction:
        searching = select(PHASES.c.name).join(TREES, TREES.c.phase_id == PHASES.c.id)
        found = transaction.execute(searching.where(TREES.c.state == TreeState.SEARCHING.value)).scalars()
        return Counter(found)


@pytest.mark.parametrize(
    ("phases", "max_trees", "expected"),
    [
        ((GRADE, COLLECT, TRAIN), 3, {"collect": 3}),
        ((GRADE, COLLECT, TRAIN), 6, {"collect": 4}),
        ((GRADE, COLLECT), 3, {"grade": 3}),
    ],
)
def test_what_a_training_waits_for_searches_alone(
    database: Database, phases: Sequence[Phase], max_trees: int, expected: dict[str, int]
) -> None:
    assert admitted(database, phases, max_trees) == expected


def test_what_a_promotion_waits_for_searches_alone(database: Database) -> None:
    candidate = TrainPolicyPhase("policy-1", 1, "policy", TrainingSettings(), (), solutions_of="set")
    waits = PromotionPhase("gate", 1, "policy", "policy-1", "grade")
    assert admitted(database, (COLLECT, GRADE, candidate, waits), 3) == {"grade": 3}
