"""What the reconciler sends again, and when it gives up."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import requests, runs
from restmcts.adapters.sql.state.requests import REQUESTS
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import RequestKind
from restmcts.domain.problems import Problem
from restmcts.domain.requests import StepsProposed
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.errors import ServerUnavailableError, StorageError
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, LabelTrees, ProposeWaitingSteps
from restmcts.messages.wire import dump_response, load_proposal
from restmcts.testing.trees import RandomModels
from restmcts.usecases.reconcile import RetryPolicy, wake_overdue
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_policy_generator.handlers import PolicyGeneratorHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from sqlalchemy import select, update

RETRIES = RetryPolicy(overdue_seconds=10.0, max_attempts=3)


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
    CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
    yield database
    database.close()


def woken(database: Database, *, drained: bool = True) -> list[Message]:
    """Run a round; return what it emits besides AdvanceRun."""
    with database.transaction() as transaction:
        wake_overdue(transaction, RETRIES, lambda queue: drained)
        return [message for message in transaction.emitted if not isinstance(message, AdvanceRun)]


def grow_old(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute(update(TREES).values(updated_at=moment(-11)))


def state_of(database: Database) -> tuple[str, str | None]:
    with database.transaction() as transaction:
        row = transaction.execute(select(TREES.c.state, TREES.c.error)).one()
    return row.state, row.error


def attempts_of(database: Database) -> int:
    with database.transaction() as transaction:
        return int(transaction.execute(select(TREES.c.num_attempts)).scalar_one())


def test_a_tree_is_rung_for_when_it_stands_still_and_once_a_round(database: Database) -> None:
    assert woken(database) == []
    grow_old(database)
    assert woken(database) == [AdvanceTrees(tree_ids=(1,))]
    assert woken(database) == []


def test_a_tree_is_given_up_after_wake_ups_that_workers_took(database: Database) -> None:
    for _ in range(RETRIES.max_attempts):
        grow_old(database)
        assert woken(database) == [AdvanceTrees(tree_ids=(1,))]
    grow_old(database)
    assert woken(database) == []
    state, error = state_of(database)
    assert (state, "woken 3 times" in str(error)) == ("failed", True)


def test_nothing_is_given_up_while_no_worker_takes_messages(database: Database) -> None:
    for _ in range(3 * RETRIES.max_attempts):
        grow_old(database)
        assert woken(database, drained=False) == [AdvanceTrees(tree_ids=(1,))]
    assert state_of(database) == ("searching", None)


# A round over a tree that nothing has happened to for long: what is emitted, and what it is then.
@pytest.mark.parametrize(
    ("state", "attempts", "drained", "emitted", "after"),
    [
        ("waiting", 0, True, [], ("waiting", 0)),
        ("searching", 0, True, [AdvanceTrees(tree_ids=(1,))], ("searching", 1)),
        ("searching", 2, True, [AdvanceTrees(tree_ids=(1,))], ("searching", 3)),
        ("searching", 2, False, [AdvanceTrees(tree_ids=(1,))], ("searching", 2)),
        ("searching", 3, True, [], ("failed", 3)),
        ("ended", 0, True, [LabelTrees(tree_ids=(1,))], ("ended", 1)),
        ("ended", 2, True, [LabelTrees(tree_ids=(1,))], ("ended", 3)),
        ("ended", 2, False, [LabelTrees(tree_ids=(1,))], ("ended", 2)),
        ("ended", 3, True, [], ("failed", 3)),
        ("labelled", 3, True, [], ("labelled", 3)),
        ("failed", 3, True, [], ("failed", 3)),
    ],
)
def test_what_a_round_does_with_a_tree(
    database: Database, state: str, attempts: int, drained: bool, emitted: list[Message], after: tuple[str, int]
) -> None:
    with database.transaction() as transaction:
        transaction.execute(update(TREES).values(state=state, num_attempts=attempts))
    assert woken(database, drained=drained) == []
    assert (state_of(database)[0], attempts_of(database)) == (state, attempts), "it is not old yet"
    grow_old(database)
    assert woken(database, drained=drained) == emitted
    assert (state_of(database)[0], attempts_of(database)) == after
    if state != "failed" and after[0] == "failed":
        assert f"3 times while {state}" in str(state_of(database)[1])


def test_a_tree_that_gets_on_begins_anew_with_its_attempts(database: Database) -> None:
    for _ in range(RETRIES.max_attempts):
        grow_old(database)
        woken(database)
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=(1,)))
    assert (state_of(database)[0], attempts_of(database)) == ("searching", 0)
    with database.transaction() as transaction:
        claim = requests.claim(transaction, RequestKind.PROPOSE, 10, 60.0)
        assert claim is not None
        (request,) = claim.requests
        response = RandomModels(answer_rate=1.0).answer(load_proposal(request.payload))
        requests.answer(transaction, [(request, dump_response(response))])
        transaction.execute(update(TREES).values(num_attempts=2))
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=(1,)))
    assert (state_of(database)[0], attempts_of(database)) == ("ended", 0)


def test_a_request_that_no_worker_survives_fails_its_tree(database: Database) -> None:
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=(1,)))
    for _ in range(RETRIES.max_attempts):
        assert woken(database) == [ProposeWaitingSteps()]
        with database.transaction() as transaction:
            assert requests.claim(transaction, RequestKind.PROPOSE, 10, lease_seconds=-1.0) is not None
    assert woken(database) == []
    state, error = state_of(database)
    assert (state, "started 3 times" in str(error)) == ("failed", True)


class Away:
    """A policy behind a server that is away, or a policy with a fault."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def propose(self, *_: object) -> list[StepsProposed]:
        raise self._error


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(ServerUnavailableError("connection refused"), 0), (StorageError("disk full"), 0), (ZeroDivisionError(), 1)],
    ids=["server", "storage", "fault"],
)
def test_only_what_is_no_want_of_a_server_counts_as_an_attempt(
    database: Database, error: Exception, attempts: int
) -> None:
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=(1,)))
    policy = PolicyGeneratorHandlers(database, lambda _: Away(error), WorkerSettings())
    with nullcontext() if attempts else pytest.raises(type(error)):
        policy.propose_steps(ProposeWaitingSteps())
    with database.transaction() as transaction:
        row = transaction.execute(select(REQUESTS.c.state, REQUESTS.c.attempt)).one()
    assert tuple(row) == ("waiting", attempts)
