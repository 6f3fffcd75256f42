"""Answers that come twice, out of order, late after a retry, or for a run that was cancelled,
on real PostgreSQL.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import requests as queue
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.requests import PROBLEMS, ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.state.trees import RUNS, TREES
from restmcts.adapters.sql.tables import RequestKind, RunState, TreeState
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, StepsProposed, StepsScored, derive_seed
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun, AdvanceTrees
from restmcts.messages.events import RequestsAnswered
from restmcts.messages.wire import dump_response, load_proposal, load_scoring
from restmcts.usecases.label import label_trees
from restmcts_cli.processes.stack_processes import Stack
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from sqlalchemy import select, update

NUM_TREES = 6
PHASE = SearchPhase(
    "collect", 1, "collect", "set", "policy", "value", MctsStarSettings(mode="collect"), Budget(iterations=5)
)


@pytest.fixture
def new_run(idle_servers: Stack, database: Database) -> Iterator[Callable[..., int]]:
    """Return a function that makes a run whose trees search; no worker runs, so that the test
    alone moves them.
    """
    run_ids: list[int] = []

    def make(phase: SearchPhase = PHASE) -> int:
        problems = [Problem(question=f"question {number}", answer="1") for number in range(NUM_TREES)]
        with database.transaction() as transaction:
            run_id = runs.create_run(transaction, f"responses-{time.monotonic_ns()}", "rest-mcts", 0, {})
            runs.add_problems(transaction, run_id, "set", problems)
            for name in ("policy", "value"):
                runs.add_checkpoint(transaction, run_id, name, name, "nowhere", "0")
            runs.add_phases(transaction, run_id, [phase])
        CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
        run_ids.append(run_id)
        return run_id

    yield make
    with database.transaction() as transaction:
        for run_id in run_ids:
            runs.finish_run(transaction, run_id, RunState.CANCELLED)


def answer_of(request: ClaimedRequest, kind: RequestKind) -> str:
    """Return what the models always answer to this request."""
    if kind == RequestKind.PROPOSE:
        proposal: ProposeSteps = load_proposal(request.payload)
        key = derive_seed(0, request.question, *proposal.steps)
        steps = [ProposedStep(f"step {(key + place) % 7}\n", 3, -1.0) for place in range(proposal.num_samples)]
        samples = tuple(Sample((step,), 3, ended=False) for step in steps)
        return dump_response(StepsProposed(proposal.number, samples, 1))
    scoring = load_scoring(request.payload)
    values = tuple(tuple((derive_seed(0, step) % 100) / 200 for step in branch) for branch in scoring.branches)
    return dump_response(StepsScored(scoring.number, values, 1))


def claim_all(database: Database, lease_seconds: float = 60.0) -> list[tuple[ClaimedBatch, RequestKind]]:
    claims = []
    for kind in RequestKind:
        with database.transaction() as transaction:
            claim = queue.claim(transaction, kind, 1000, lease_seconds)
        if claim is not None:
            claims.append((claim, kind))
    return claims


def write(database: Database, claims: list[tuple[ClaimedBatch, RequestKind]]) -> None:
    for claim, kind in claims:
        with database.transaction() as transaction:
            queue.answer(transaction, [(request, answer_of(request, kind)) for request in claim.requests])


def finish(
    database: Database, run_id: int, disturb: Callable[[list[tuple[ClaimedBatch, RequestKind]]], None]
) -> dict[int, object]:
    """Search to the end; return the trees by position."""
    with database.transaction() as transaction:
        statement = select(TREES.c.id).where(TREES.c.run_id == run_id).order_by(TREES.c.id)
        tree_ids = tuple(transaction.execute(statement).scalars())
    workers = [TreeSearchHandlers(database), TreeSearchHandlers(database, max_cached_trees=1)]
    message: Message = AdvanceTrees(tree_ids=tree_ids)
    for number in range(1000):
        workers[number % 2].advance_trees(message)  # type: ignore[arg-type]
        workers[number % 2].advance_trees(message)  # type: ignore[arg-type]
        claims = claim_all(database)
        if not claims:
            break
        write(database, claims)
        disturb(claims)
    with database.transaction() as transaction:
        states = transaction.execute(select(TREES.c.state).where(TREES.c.run_id == run_id)).scalars()
        assert set(states) == {TreeState.ENDED}
        loaded = trees.load_trees(transaction, tree_ids)
        assert all(loaded[tree_id].root.visits == PHASE.budget.iterations for tree_id in tree_ids)
    return {
        place: [(n.parent_id, n.step, n.visits, n.search_value) for n in loaded[key].nodes]
        for place, key in enumerate(tree_ids)
    }


def test_answers_that_come_twice_or_late_change_nothing(database: Database, new_run: Callable[[], int]) -> None:
    undisturbed = finish(database, new_run(), lambda claims: None)
    earlier: list[tuple[ClaimedBatch, RequestKind]] = []

    def disturb(claims: list[tuple[ClaimedBatch, RequestKind]]) -> None:
        earlier.extend(claims)
        shuffled = random.Random(0).sample(earlier, len(earlier))
        write(database, shuffled)

    assert finish(database, new_run(), disturb) == undisturbed


def test_an_answer_of_an_earlier_attempt_changes_nothing(database: Database, new_run: Callable[[], int]) -> None:
    run_id = new_run()
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=tuple(_tree_ids(database, run_id))))
    first = claim_all(database, lease_seconds=-1.0)
    with database.transaction() as transaction:
        assert queue.release_overdue(transaction) == NUM_TREES
    second = claim_all(database)
    write(database, first)
    with database.transaction() as transaction:
        assert trees.answered(transaction, _tree_ids(database, run_id)) == {}
    write(database, second)
    with database.transaction() as transaction:
        assert len(trees.answered(transaction, _tree_ids(database, run_id))) == NUM_TREES


def test_an_answer_for_a_cancelled_run_changes_nothing(database: Database, new_run: Callable[[], int]) -> None:
    run_id = new_run()
    handlers = TreeSearchHandlers(database)
    message = AdvanceTrees(tree_ids=tuple(_tree_ids(database, run_id)))
    handlers.advance_trees(message)
    claims = claim_all(database)
    with database.transaction() as transaction:
        transaction.execute(update(RUNS).where(RUNS.c.id == run_id).values(state=RunState.CANCELLED.value))
    write(database, claims)
    handlers.advance_trees(message)
    with database.transaction() as transaction:
        rows = transaction.execute(select(TREES.c.version, TREES.c.state).where(TREES.c.run_id == run_id)).all()
    assert {tuple(row) for row in rows} == {(1, TreeState.SEARCHING.value)}
    assert claim_all(database) == []


def test_one_message_takes_the_answers_of_all_trees_but_those_that_another_worker_holds(
    database: Database, new_run: Callable[[], int]
) -> None:
    run_id = new_run()
    locked, *free = _tree_ids(database, run_id)
    handlers = TreeSearchHandlers(database)
    handlers.advance_trees(AdvanceTrees(tree_ids=(locked, *free)))
    write(database, claim_all(database))
    with database.transaction() as other:
        assert [row.id for row in trees.lock_searching(other, [locked])] == [locked]
        handlers.take_answers(RequestsAnswered())
    assert _versions(database, run_id) == {locked: 1, **dict.fromkeys(free, 2)}
    handlers.take_answers(RequestsAnswered())
    assert _versions(database, run_id) == dict.fromkeys((locked, *free), 2)


def test_whoever_was_woken_for_trees_that_others_passed_over_sends_a_wake_up_for_what_came_meanwhile(
    database: Database, new_run: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(database, "publish", lambda messages, _: sent.extend(messages))
    message = AdvanceTrees(tree_ids=tuple(_tree_ids(database, new_run())))
    handlers = TreeSearchHandlers(database)
    for wakes in (False, True):
        sent.clear()
        handlers.advance_trees(message)
        assert (RequestsAnswered() in sent) == wakes


def test_a_tree_that_cannot_be_stored_fails_alone(database: Database, new_run: Callable[[], int]) -> None:
    run_id = new_run()
    tree_ids = _tree_ids(database, run_id)
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=tuple(tree_ids)))
    (claim, _), *_ = claim_all(database)
    with database.transaction() as transaction:
        for request in claim.requests:
            tokens = 2**40 if request.tree_id == tree_ids[2] else 3
            number = load_proposal(request.payload).number
            sample = Sample((ProposedStep("a step\n", tokens, -1.0),), tokens, ended=False)
            queue.answer(transaction, [(request, dump_response(StepsProposed(number, (sample,), 1)))])
    TreeSearchHandlers(database).take_answers(RequestsAnswered())
    with database.transaction() as transaction:
        rows = transaction.execute(
            select(TREES.c.id, TREES.c.state, TREES.c.error).where(TREES.c.run_id == run_id)
        ).all()
    failed = {row.id: row.error for row in rows if row.state == TreeState.FAILED}
    assert list(failed) == [tree_ids[2]] and "out of range" in failed[tree_ids[2]]
    assert {version for tree_id, version in _versions(database, run_id).items() if tree_id not in failed} == {2}


def test_a_given_solution_that_cannot_be_stored_fails_its_tree_alone(
    database: Database, new_run: Callable[..., int], verifier: AnswerVerifier
) -> None:
    run_id = new_run(replace(PHASE, merge_solutions=True))
    finish(database, run_id, lambda claims: None)
    tree_ids = _tree_ids(database, run_id)
    with database.transaction() as transaction:
        poisoned = select(TREES.c.problem_id).where(TREES.c.id == tree_ids[1]).scalar_subquery()
        of_run = update(PROBLEMS).where(PROBLEMS.c.run_id == run_id)
        transaction.execute(of_run.values(solution=["a step\n", "The answer is 1\n"]))
        transaction.execute(of_run.where(PROBLEMS.c.id == poisoned).values(solution=["a\0step\n", "The answer is 1\n"]))
    label_trees(database, verifier, tree_ids)
    with database.transaction() as transaction:
        found = {
            row.id: (row.state, row.error) for row in transaction.execute(select(TREES).where(TREES.c.run_id == run_id))
        }
        loaded = trees.load_trees(transaction, tree_ids)
    state, error = found.pop(tree_ids[1])
    assert state == TreeState.FAILED and "cannot be stored" in str(error) and "NUL" in str(error)
    assert set(found.values()) == {(TreeState.LABELLED, None)}
    assert all("a step\n" in {node.step for node in loaded[tree_id].nodes} for tree_id in found)


def _versions(database: Database, run_id: int) -> dict[int, int]:
    with database.transaction() as transaction:
        return {row.id: row.version for row in transaction.execute(select(TREES).where(TREES.c.run_id == run_id))}


def _tree_ids(database: Database, run_id: int) -> list[int]:
    with database.transaction() as transaction:
        statement = select(TREES.c.id).where(TREES.c.run_id == run_id).order_by(TREES.c.id)
        return list(transaction.execute(statement).scalars())
