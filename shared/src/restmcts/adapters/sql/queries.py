"""Reads for people: what the command line, and whatever else shows runs, asks the database.

Rows come back as plain mappings of what is shown, times in UTC. Nothing is changed or locked here,
and nothing is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row as FoundRow
from sqlalchemy import Table, func, select

from restmcts.adapters.sql import token_budget
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.promotions import PROMOTIONS
from restmcts.adapters.sql.requests import PROBLEMS
from restmcts.adapters.sql.rows import Condition, JsonObject, StoredPhase, StoredRun
from restmcts.adapters.sql.runs import CHECKPOINTS, DATASETS, phases_of
from restmcts.adapters.sql.tables import PhaseState, TreeState
from restmcts.adapters.sql.tree_counts import ENDED_TREES, TreeCounts, count_if, tree_counts
from restmcts.adapters.sql.trees import NODES, PHASES, RUNS, TREES
from restmcts.domain.stats.estimates import Estimate, share
from restmcts.errors import InputError

ENDED_PHASES = (PhaseState.DONE.value, PhaseState.SKIPPED.value, PhaseState.FAILED.value)
MAX_NAMES_TOLD = 8
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PhaseNumbers:
    """One phase of a run, and what its trees have come to so far (0 for training).

    Attributes:
        purpose: of a search ("bootstrap", "collect", "evaluate"); None for training.
        num_done: trees that are labelled or failed.
        num_solved: trees with at least one right leaf.
        num_right: trees whose chosen answer is right.
        tokens: generated so far.
        result: what the phase says of itself once it has ended.
    """

    name: str
    kind: str
    state: str
    iteration: int
    purpose: str | None
    num_trees: int
    num_done: int
    num_solved: int
    num_right: int
    num_failed: int
    tokens: int
    result: JsonObject

    @property
    def accuracy(self) -> Estimate | None:
        """The share of right chosen answers among the ended trees of a grading phase; a failed
        tree counts as not right.
        """
        if self.purpose != "evaluate" or not self.num_done:
            return None
        return share(self.num_right, self.num_done)


def run_named(transaction: Transaction, name: str) -> StoredRun:
    """Return the run's row.

    Raises:
        InputError: if no run has that name; it says which there are.
    """
    row = transaction.row(StoredRun, select(RUNS).where(RUNS.c.name == name))
    if row is not None:
        return row
    newest = select(RUNS.c.name).order_by(RUNS.c.id.desc()).limit(MAX_NAMES_TOLD)
    known = list(transaction.execute(newest).scalars())
    raise InputError(
        f"no run is named {name!r}" + (f"; there are {', '.join(known)}" if known else "; there is none yet")
    )


def list_runs(transaction: Transaction) -> list[Row]:
    """Return all runs, the newest first, each with how many of its phases and trees have ended,
    and "tokens_spent" where it has a token budget, "max_tokens".
    """
    spent = token_budget.spent_by_run(transaction)
    phases = _counts_by_run(transaction, PHASES, PHASES.c.state.in_(ENDED_PHASES))
    trees = _counts_by_run(transaction, TREES, TREES.c.state.in_(ENDED_TREES))
    columns = (
        RUNS.c.id,
        RUNS.c.name,
        RUNS.c.method,
        RUNS.c.state,
        RUNS.c.seed,
        RUNS.c.error,
        RUNS.c.max_tokens,
        RUNS.c.created_at,
        RUNS.c.finished_at,
    )
    rows = []
    for row in transaction.execute(select(*columns).order_by(RUNS.c.id.desc())):
        num_phases, num_phases_ended = phases.get(row.id, (0, 0))
        num_trees, num_trees_ended = trees.get(row.id, (0, 0))
        counts = {"num_phases": num_phases, "num_phases_ended": num_phases_ended, "tokens_spent": spent.get(row.id)}
        rows.append({**shown(row), **counts, "num_trees": num_trees, "num_trees_ended": num_trees_ended})
    return rows


def _counts_by_run(transaction: Transaction, table: Table, ended: Condition) -> dict[int, tuple[int, int]]:
    statement = select(table.c.run_id, func.count(), count_if(ended)).group_by(table.c.run_id)
    return {run_id: (int(total), int(num_ended)) for run_id, total, num_ended in transaction.execute(statement)}


def phase_numbers(transaction: Transaction, run_id: int) -> list[PhaseNumbers]:
    """Return the phases of a run in order, with their numbers."""
    counts = tree_counts(transaction, run_id)
    return [_phase_numbers(row, counts.get(row.id, TreeCounts())) for row in phases_of(transaction, run_id)]


def _phase_numbers(row: StoredPhase, counts: TreeCounts) -> PhaseNumbers:
    return PhaseNumbers(
        name=row.name,
        kind=row.kind,
        state=row.state,
        iteration=row.iteration,
        purpose=row.spec.get("purpose"),
        num_trees=counts.trees,
        num_done=counts.done,
        num_solved=counts.solved,
        num_right=counts.right,
        num_failed=counts.failed,
        tokens=counts.tokens,
        result=row.result,
    )


def list_trees(
    transaction: Transaction,
    run_id: int,
    *,
    phase: str | None = None,
    state: str | None = None,
    solved: bool | None = None,
    question: str = "",
    after: int = 0,
    limit: int = 20,
) -> list[Row]:
    """Return the first `limit` trees of a run that are as asked, in order of creation, without
    their nodes.

    Args:
        question: a part of their question, in any case.
        after: only trees with a higher number.
    """
    statement = (
        select(*_TREE_COLUMNS)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(TREES.c.run_id == run_id, TREES.c.id > after)
        .order_by(TREES.c.id)
        .limit(limit)
    )
    if question:
        statement = statement.where(PROBLEMS.c.question.icontains(question, autoescape=True))
    for column, value in ((PHASES.c.name, phase), (TREES.c.state, state), (TREES.c.solved, solved)):
        if value is not None:
            statement = statement.where(column == value)
    return [shown(row) for row in transaction.execute(statement)]


_TREE_COLUMNS = (
    TREES.c.id,
    PHASES.c.name.label("phase"),
    PROBLEMS.c.position.label("problem"),
    PROBLEMS.c.question,
    *(
        TREES.c[name]
        for name in ("state", "verdict", "solved", "answer", "nodes", "iterations", "tokens", "model_calls", "seconds")
    ),
    *(
        TREES.c[name]
        for name in ("prompt_tokens", "reused_tokens", "scored_tokens", "stop_reason", "chosen_node", "error", "seed")
    ),
    *(TREES.c[name] for name in ("num_attempts", "started_at", "ended_at")),
)


def failed_trees(transaction: Transaction, limit: int) -> list[Row]:
    """Return failed trees of all runs, the latest first, each with its run's name and id and
    its reason.
    """
    statement = (
        select(*_TREE_COLUMNS, RUNS.c.name.label("run"), RUNS.c.id.label("run_id"))
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(TREES.c.state == TreeState.FAILED.value)
        .order_by(TREES.c.id.desc())
        .limit(limit)
    )
    return [shown(row) for row in transaction.execute(statement)]


def tree_without_nodes(transaction: Transaction, tree_id: int) -> Row:
    """Return a tree: what `list_trees` says of it ("nodes" as "num_nodes"), its run's name and the
    problem's true answer.

    Raises:
        InputError: if there is no such tree.
    """
    statement = (
        select(*_TREE_COLUMNS, PROBLEMS.c.answer.label("true_answer"), RUNS.c.name.label("run"))
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(TREES.c.id == tree_id)
    )
    row = transaction.execute(statement).first()
    if row is None:
        raise InputError(f"there is no tree {tree_id}; `restmcts trees list RUN` names those of a run")
    tree = shown(row)
    tree["num_nodes"] = tree.pop("nodes")
    return tree


def tree_with_nodes(transaction: Transaction, tree_id: int) -> Row:
    """Return a tree: what `tree_without_nodes` says of it, and "nodes" in order of creation.

    Raises:
        InputError: if there is no such tree.
    """
    tree = tree_without_nodes(transaction, tree_id)
    nodes = transaction.execute(select(NODES).where(NODES.c.tree_id == tree_id).order_by(NODES.c.node_id))
    return {
        **tree,
        "nodes": [{name: value for name, value in shown(node).items() if name != "tree_id"} for node in nodes],
    }


def problem_of(transaction: Transaction, problem_id: int) -> Row:
    """Return a problem's set, place and question."""
    columns = (PROBLEMS.c.id, PROBLEMS.c.set_name.label("set"), PROBLEMS.c.position, PROBLEMS.c.question)
    return shown(transaction.execute(select(*columns).where(PROBLEMS.c.id == problem_id)).one())


def tree_origin(transaction: Transaction, tree_id: int, node_ids: Sequence[int]) -> Row:
    """Return what a tree came from: its "run", the "tree" with phase, seed and settings, the named
    "nodes" with their labels, and the checkpoints "policy" and "value" that it was searched with
    (None where it asked none).

    Raises:
        InputError: if there is no such tree.
    """
    statement = (
        select(
            TREES,
            RUNS.c.name.label("run"),
            PHASES.c.name.label("phase"),
            PHASES.c.spec,
            PHASES.c.policy_id,
            PHASES.c.value_id,
        )
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(TREES.c.id == tree_id)
    )
    row = transaction.execute(statement).first()
    if row is None:
        raise InputError(f"there is no tree {tree_id}; `restmcts trees list RUN` names those of a run")
    nodes = transaction.execute(select(NODES).where(NODES.c.tree_id == tree_id, NODES.c.node_id.in_(list(node_ids))))
    models = transaction.execute(select(CHECKPOINTS).where(CHECKPOINTS.c.id.in_([row.policy_id, row.value_id])))
    checkpoints = {
        model.id: {name: getattr(model, name) for name in ("name", "digest", "uri", "parent")} for model in models
    }
    told = ("id", "phase", "problem_id", "seed", "tokens", "iterations", "verdict", "solved")
    settings = {name: row.spec[name] for name in ("search", "budget", "generation", "merge_solutions")}
    return {
        "run": row.run,
        "tree": {**{name: getattr(row, name) for name in told}, **settings},
        "nodes": [shown(node) for node in nodes],
        "policy": checkpoints[row.policy_id],
        "value": checkpoints.get(row.value_id),
    }


def list_problem_sets(transaction: Transaction, run_id: int) -> list[Row]:
    """Return the problem sets of a run by name, each with how many problems it has, and one of
    its questions.
    """
    statement = (
        select(
            PROBLEMS.c.set_name.label("set"),
            func.count().label("num_problems"),
            func.min(PROBLEMS.c.question).label("example"),
        )
        .where(PROBLEMS.c.run_id == run_id)
        .group_by(PROBLEMS.c.set_name)
        .order_by(PROBLEMS.c.set_name)
    )
    return [shown(row) for row in transaction.execute(statement)]


def list_problems(transaction: Transaction, run_id: int, set_name: str, limit: int) -> list[Row]:
    """Return the first problems of a set, with true answers and given solutions."""
    columns = (PROBLEMS.c.position, PROBLEMS.c.question, PROBLEMS.c.answer, PROBLEMS.c.solution, PROBLEMS.c.kind)
    statement = select(*columns).where(PROBLEMS.c.run_id == run_id, PROBLEMS.c.set_name == set_name)
    return [shown(row) for row in transaction.execute(statement.order_by(PROBLEMS.c.position).limit(limit))]


def list_checkpoints(transaction: Transaction, run_id: int | None = None) -> list[Row]:
    """Return the checkpoints of a run, or of all runs, in order of making, and whether each is
    the promoted one of its kind.
    """
    newest = select(func.max(PROMOTIONS.c.id)).group_by(PROMOTIONS.c.run_id, PROMOTIONS.c.kind)
    is_promoted = CHECKPOINTS.c.id.in_(select(PROMOTIONS.c.checkpoint_id).where(PROMOTIONS.c.id.in_(newest)))
    columns = (RUNS.c.name.label("run"), CHECKPOINTS, is_promoted.label("promoted"))
    statement = select(*columns).join(RUNS, RUNS.c.id == CHECKPOINTS.c.run_id)
    if run_id is not None:
        statement = statement.where(CHECKPOINTS.c.run_id == run_id)
    return [shown(row) for row in transaction.execute(statement.order_by(CHECKPOINTS.c.id))]


def list_datasets(transaction: Transaction, run_id: int | None = None) -> list[Row]:
    """Return the datasets of a run, or of all runs, each with the phase that it is the training
    data of.
    """
    statement = (
        select(RUNS.c.name.label("run"), PHASES.c.name.label("phase"), DATASETS)
        .join(PHASES, PHASES.c.id == DATASETS.c.phase_id)
        .join(RUNS, RUNS.c.id == PHASES.c.run_id)
    )
    if run_id is not None:
        statement = statement.where(PHASES.c.run_id == run_id)
    return [shown(row) for row in transaction.execute(statement.order_by(DATASETS.c.id))]


def shown(row: FoundRow[Any]) -> Row:
    return dict(row._mapping)
