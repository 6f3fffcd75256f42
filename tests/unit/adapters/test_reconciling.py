"""What the reconciler rings for, and when it gives up."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from restmcts.adapters.sql import requests, runs
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.requests import REQUESTS
from restmcts.adapters.sql.tables import RequestKind
from restmcts.adapters.sql.trees import TREES
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, ProposeWaitingSteps
from restmcts.usecases.reconcile import Patience, ring_overdue
from restmcts_coordinator.handlers import CoordinatorHandlers, CoordinatorSettings
from restmcts_tree_search.handlers import TreeSearchHandlers
from sqlalchemy import select, update

PATIENCE = Patience(overdue_seconds=10.0, max_attempts=3)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """One run with one tree that is admitted and has not begun."""
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "run", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "set", [Problem(question="question", answer="1")])
        runs.add_checkpoint(transaction, run_id, "policy", "policy", "nowhere", "0")
        runs.add_phases(
            transaction, run_id, [SearchPhase("grade", 1, "evaluate", "set", "policy", None, CotSettings())]
        )
    CoordinatorHandlers(database, CoordinatorSettings()).advance_run(AdvanceRun(run_id=run_id))
    yield database
    database.close()


def ring(database: Database, *, taken: bool = True) -> list[Message]:
    """Run a round; return what it emits besides AdvanceRun."""
    with database.transaction() as transaction:
        ring_overdue(transaction, PATIENCE, lambda queue: taken)
        return [message for message in transaction.emitted if not isinstance(message, AdvanceRun)]


def grow_old(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute(update(TREES).values(updated_at=moment(-11)))


def state_of(database: Database) -> tuple[str, str | None]:
    with database.transaction() as transaction:
        row = transaction.execute(select(TREES.c.state, TREES.c.error)).one()
    return row.state, row.error


def test_a_tree_is_rung_for_when_it_stands_still_and_once_a_round(database: Database) -> None:
    assert ring(database) == []
    grow_old(database)
    assert ring(database) == [AdvanceTrees(tree_ids=(1,))]
    assert ring(database) == []


def test_a_tree_is_given_up_after_rings_that_were_taken(database: Database) -> None:
    for _ in range(PATIENCE.max_attempts):
        grow_old(database)
        assert ring(database) == [AdvanceTrees(tree_ids=(1,))]
    grow_old(database)
    assert ring(database) == []
    state, error = state_of(database)
    assert (state, "rung for 3 times" in str(error)) == ("failed", True)


def test_nothing_is_given_up_while_no_worker_takes_messages(database: Database) -> None:
    for _ in range(3 * PATIENCE.max_attempts):
        grow_old(database)
        assert ring(database, taken=False) == [AdvanceTrees(tree_ids=(1,))]
    assert state_of(database) == ("searching", None)


def test_a_request_that_no_worker_survives_fails_its_tree(database: Database) -> None:
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=(1,)))
    for _ in range(PATIENCE.max_attempts):
        assert ring(database) == [ProposeWaitingSteps()]
        with database.transaction() as transaction:
            assert requests.claim(transaction, RequestKind.PROPOSE, 10, lease_seconds=-1.0) is not None
    assert ring(database) == []
    state, error = state_of(database)
    assert (state, "begun 3 times" in str(error)) == ("failed", True)


def test_requests_that_are_given_back_for_want_of_a_server_cost_no_attempt(database: Database) -> None:
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=(1,)))
    for counted in (False, True):
        with database.transaction() as transaction:
            claim = requests.claim(transaction, RequestKind.PROPOSE, 10, 60.0)
            assert claim is not None
            requests.give_back(transaction, claim.requests, counted=counted)
            assert transaction.execute(select(REQUESTS.c.attempt)).scalar_one() == int(counted)
