"""A small self-training run for tests, and what must be true of any run once it has ended,
whatever happened on the way.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import select

from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads import progress
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.requests import PROBLEMS, REQUESTS
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import RunState, TreeState
from restmcts.domain.labels.rollouts import label_steps
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.phase_search import search_of
from restmcts.domain.runs.phases import PHASE, Phase, PromotionPhase, SearchPhase
from restmcts.domain.runs.plans import self_training_plan
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget, Search
from restmcts.messages.wire import load_response
from restmcts.ports import ArtifactStore
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run

TRAINING = TrainingSettings(num_steps=4, batch_size=16, learning_rate=1e-3)


def small_plan(num_iterations: int = 2, num_rounds: int = 1, max_staleness: int = 0) -> list[Phase]:
    """Return the phases of a run over the problem sets "train" and "test" that begins with a
    policy that solves some of them.
    """
    loop = SelfTraining(
        num_iterations=num_iterations,
        train_sets=("train",) * num_iterations,
        bootstrap_set="train",
        search=MctsStarSettings(
            mode="collect", branch=2, roll_forward_steps=9, stop_threshold=2.0, max_depth=9, keep_rollouts=True
        ),
        budget=Budget(iterations=3),
        generation=GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=64),
        num_bootstrap_samples=2,
        merge_solutions=False,
        policy_training=TRAINING,
        value_training=TRAINING,
        held_out_set="test",
        test_set="test",
        num_rounds=num_rounds,
        max_staleness=max_staleness,
    )
    return self_training_plan(loop)


def policy_gate(number: int, candidate: str) -> list[Phase]:
    """Return the phases that evaluate a policy on the held-out problems and promote it if it is not
    worse than the one before.
    """
    previous = f"gate-{number - 1}" if number else None
    return [
        SearchPhase(f"grade-{number}", number, "evaluate", "held-out", candidate, None, CotSettings()),
        PromotionPhase(f"gate-{number}", number, "policy", candidate, f"grade-{number}", previous),
    ]


def begin_run(
    database: Database, artifacts: ArtifactStore, policy: Path, problems: Sequence[Problem], phases: Sequence[Phase]
) -> int:
    """Store a run with the policy as its base and all problems in both sets; return its id. The
    coordinator finds it by itself.
    """
    artifact = artifacts.put(policy, "checkpoints", {})
    with database.transaction() as transaction:
        new = NewRun(
            name=f"test-{time.monotonic_ns()}",
            method="rest-mcts",
            seed=0,
            phases=phases,
            problems={"train": problems, "test": problems},
            checkpoints={"base": NewCheckpoint("policy", artifact.uri, artifact.digest)},
        )
        return create_run(transaction, new).run_id


SEARCH = SearchPhase(
    "collect",
    1,
    "collect",
    "train",
    "policy",
    "value",
    MctsStarSettings(mode="collect", branch=2),
    Budget(iterations=4),
    GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=32),
)


def begin_search(database: Database, policy: str, value: str, num_problems: int) -> int:
    """Store a run of one search by models at these URIs; return its id."""
    problems = [Problem(f"question {number}", "1") for number in range(num_problems)]
    checkpoints = {"policy": NewCheckpoint("policy", policy), "value": NewCheckpoint("value", value)}
    name = f"search-{time.monotonic_ns()}"
    with database.transaction() as transaction:
        new = NewRun(name, "test", 0, [SEARCH], problems={"train": problems}, checkpoints=checkpoints)
        return create_run(transaction, new).run_id


def await_end(database: Database, run_id: int, seconds: float) -> str:
    """Return the state in which a run ended.

    Raises:
        TimeoutError: with the states of its phases, if it does not end in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        with database.transaction() as transaction:
            row = runs.lock_run(transaction, run_id)
            phases = progress.read(transaction, run_id).phases
        if row is not None and row.state != RunState.RUNNING:
            return f"{row.state}: {row.error}" if row.error else str(row.state)
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"run {run_id}: {[(phase.name, phase.state, phase.num_done, phase.num_trees) for phase in phases]}"
            )
        time.sleep(0.5)


def faults(database: Database, run_id: int) -> list[str]:
    """Return what is wrong with the trees of a run that has ended; empty if all is well.

    Every tree is labelled; played again from its applied responses it is what is stored; the root
    of an MCTS* tree was visited once an iteration; labels are those that its verdicts imply.
    """
    with database.transaction() as transaction:
        statement = (
            select(TREES, PHASES.c.spec, PROBLEMS.c.begins_with, PROBLEMS.c.kind)
            .join(PHASES, PHASES.c.id == TREES.c.phase_id)
            .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
            .where(TREES.c.run_id == run_id)
        )
        rows = transaction.execute(statement.order_by(TREES.c.id)).all()
        return [f"tree {row.id}: {fault}" for row in rows for fault in _faults_of_tree(transaction, row)]


def _faults_of_tree(transaction: Transaction, row: Any) -> list[str]:
    phase = PHASE.validate_python(row.spec)
    assert phase.kind == "search"
    if row.state != TreeState.LABELLED:
        return [f"is {row.state} ({row.error})"]
    stored = trees.load_trees(transaction, [row.id])[row.id]
    verdicts, labels = trees.load_labels(transaction, [row.id]).get(row.id, ({}, {}))
    scores = trees.load_scores(transaction, [row.id])[row.id]
    search = _replayed(transaction, row, phase)
    checks = {
        "is not what its responses make it": _nodes(stored.nodes) == _nodes(search.tree.nodes),
        "has spent something else than its responses did": row.iterations == search.spent.iterations
        and row.model_calls == search.spent.model_calls,
        "is not the tree of a finished search": search.finished,
        "has labels that its verdicts do not imply": phase.purpose == "evaluate"
        or labels == label_steps(stored, verdicts, phase.labels, scores),
        "was not visited once an iteration": not isinstance(phase.search, MctsStarSettings)
        or stored.root.visits == row.iterations,
    }
    return [fault for fault, is_well in checks.items() if not is_well]


def _replayed(transaction: Transaction, row: Any, phase: Any) -> Search:
    search = search_of(phase, row.kind, row.seed, row.begins_with)
    search.begin()
    for request in trees.applied(transaction, row.id):
        search.receive(load_response(request.kind, request.answer), request.elapsed_seconds)
    return search


def _nodes(nodes: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [
        (node.node_id, node.parent_id, node.step, node.visits, round(node.search_value, 9), node.multiplicity)
        for node in nodes
    ]


def num_requests(database: Database, run_id: int) -> int:
    """Return how many requests the trees of a run issued."""
    of_run = select(TREES.c.id).where(TREES.c.run_id == run_id)
    with database.transaction() as transaction:
        return len(transaction.execute(select(REQUESTS.c.id).where(REQUESTS.c.tree_id.in_(of_run))).all())


def stored_rows(workdir: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a query of a work folder's database finds; nothing while there is no table."""
    try:
        with closing(sqlite3.connect(f"file:{workdir / 'run.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []
