"""Several search workers over one database: whoever takes an answer, with or without the tree in
memory, the tree is the one that a single worker makes of the same answers in the same order.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import requests, runs, trees
from restmcts.adapters.sql.state.requests import REQUESTS, ClaimedRequest
from restmcts.adapters.sql.state.trees import NODES, TREES
from restmcts.adapters.sql.tables import RequestKind, TreeState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.messages.commands import AdvanceRun, AdvanceTrees
from restmcts.messages.events import RequestsAnswered
from restmcts.messages.wire import dump_response, load_proposal, load_scoring
from restmcts.testing.trees import RandomModels
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from sqlalchemy import func, select

NUM_TREES = 3
MODELS = RandomModels(answer_rate=0.1)
COLLECT = MctsStarSettings(mode="collect", stop_threshold=2.0, roll_forward_steps=1, max_depth=5, leaves_in_flight=4)
SOLVE = MctsStarSettings(stop_threshold=0.9, roll_forward_steps=0, alpha=0.0, leaves_in_flight=4)
NewDatabase = Callable[[MctsStarSettings], Database]


@pytest.fixture
def new_database(tmp_path: Path) -> Iterator[NewDatabase]:
    """Make a database with trees that are admitted and have not begun."""
    made: list[Database] = []

    def make(settings: MctsStarSettings) -> Database:
        made.append(Database(f"sqlite:///{tmp_path / f'run-{len(made)}.db'}"))
        made[-1].create_tables()
        phase = SearchPhase("collect", 1, "collect", "set", "policy", "value", settings, Budget(iterations=8))
        with made[-1].transaction() as transaction:
            run_id = runs.create_run(transaction, "run", "rest-mcts", 0, {})
            runs.add_problems(transaction, run_id, "set", [Problem(f"question {n}", "1") for n in range(NUM_TREES)])
            for name in ("policy", "value"):
                runs.add_checkpoint(transaction, run_id, name, name, "nowhere", "0")
            runs.add_phases(transaction, run_id, [phase])
        CoordinatorHandlers(made[-1]).advance_run(AdvanceRun(run_id=run_id))
        return made[-1]

    yield make
    for database in made:
        database.close()


def claim(database: Database, kind: RequestKind) -> list[tuple[ClaimedRequest, RequestKind]]:
    with database.transaction() as transaction:
        found = requests.claim(transaction, kind, 100, 60.0)
    return [(request, kind) for request in found.requests] if found is not None else []


def answer(database: Database, request: ClaimedRequest, kind: RequestKind) -> None:
    load = load_proposal if kind == RequestKind.PROPOSE else load_scoring
    with database.transaction() as transaction:
        requests.answer(transaction, [(request, dump_response(MODELS.answer(load(request.payload))))])


def search(database: Database, workers: list[TreeSearchHandlers], seed: int) -> list[tuple[object, ...]]:
    """Answer the requests one by one in an order that the seed decides, each answer taken by a
    worker drawn at random; return the nodes.
    """
    order, who = random.Random(seed), random.Random(-seed)
    workers[0].advance_trees(AdvanceTrees(tree_ids=tuple(range(1, NUM_TREES + 1))))
    waiting: list[tuple[ClaimedRequest, RequestKind]] = []
    most = 0
    while waiting := waiting + [found for kind in RequestKind for found in claim(database, kind)]:
        most = max(most, len(waiting))
        answer(database, *waiting.pop(order.randrange(len(waiting))))
        who.choice(workers).take_answers(RequestsAnswered())
    assert most > 2 * NUM_TREES, "answers have something to overtake"
    with database.transaction() as transaction:
        assert set(transaction.execute(select(TREES.c.state)).scalars()) == {TreeState.ENDED.value}
        columns = (NODES.c[name] for name in ("tree_id", "node_id", "parent_id", "step", "visits", "search_value"))
        nodes = transaction.execute(select(*columns).order_by(NODES.c.tree_id, NODES.c.node_id)).all()
    return [tuple(node) for node in nodes]


def test_several_workers_make_the_trees_that_one_would(new_database: NewDatabase) -> None:
    database = new_database(COLLECT)
    alone = search(database, [TreeSearchHandlers(database)], seed=1)
    database = new_database(COLLECT)
    workers = [TreeSearchHandlers(database, max_cached_trees) for max_cached_trees in (0, 1, 100)]
    assert search(database, workers, seed=1) == alone


def num_waiting(database: Database) -> int:
    with database.transaction() as transaction:
        waiting = select(func.count()).select_from(REQUESTS).where(REQUESTS.c.state == "waiting")
        return int(transaction.execute(waiting).scalar_one())


def test_what_an_ended_tree_asked_for_is_withdrawn(new_database: NewDatabase) -> None:
    database = new_database(SOLVE)
    worker = TreeSearchHandlers(database)
    worker.advance_trees(AdvanceTrees(tree_ids=(1,)))
    num_before = 0
    while ending(database) == (TreeState.SEARCHING.value, None):
        num_before = num_waiting(database)
        # The policy is behind: its requests pile up while values come.
        for request, kind in claim(database, RequestKind.SCORE) or claim_one(database):
            answer(database, request, kind)
        worker.take_answers(RequestsAnswered())
    assert ending(database) == (TreeState.ENDED.value, "gate")
    assert num_before > 1, "at the end there was something to withdraw"
    assert num_waiting(database) == 0


def ending(database: Database) -> tuple[str, str | None]:
    with database.transaction() as transaction:
        row = transaction.execute(select(TREES.c.state, TREES.c.stop_reason).where(TREES.c.id == 1)).one()
    return row.state, row.stop_reason


def claim_one(database: Database) -> list[tuple[ClaimedRequest, RequestKind]]:
    with database.transaction() as transaction:
        found = requests.claim(transaction, RequestKind.PROPOSE, 1, 60.0)
    return [(request, RequestKind.PROPOSE) for request in found.requests] if found is not None else []


def test_what_a_failed_tree_asked_for_is_withdrawn_and_its_neighbours_wait_on(new_database: NewDatabase) -> None:
    database = new_database(COLLECT)
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=(1, 2, 3)))
    assert num_waiting(database) == NUM_TREES
    with database.transaction() as transaction:
        trees.fail(transaction, {2: "its prompt does not fit"})
    assert num_waiting(database) == NUM_TREES - 1
