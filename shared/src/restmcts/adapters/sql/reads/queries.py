"""Reads for people: what the command line, and whatever else shows runs, asks the database.

Rows come back as dataclasses, times in UTC. Nothing is changed or locked here, and nothing is
drawn.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Table, Text, case, cast, func, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.tree_counts import ENDED_TREES, TreeCounts, count_if, tree_counts
from restmcts.adapters.sql.rows import (
    Condition,
    FailedTree,
    JsonObject,
    ListedCheckpoint,
    ListedDataset,
    ListedProblem,
    ListedRun,
    ListedTree,
    ProblemSet,
    ShownNode,
    ShownTree,
    StoredPhase,
    StoredRun,
    TreeFacts,
    TreeWithNodes,
    columns,
)
from restmcts.adapters.sql.state import archived_trees, blocks, token_budget
from restmcts.adapters.sql.state.promotions import PROMOTIONS
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.runs import CHECKPOINTS, DATASETS, phases_of
from restmcts.adapters.sql.state.trees import NODES, PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, TreeState
from restmcts.domain.runs.splits import Round
from restmcts.domain.stats.estimates import Estimate, share
from restmcts.errors import NotFoundError

POLICY_PHASES = ("grade-base", "grade-policy-")
"""What the phases are called, or how their names begin, that evaluate a run's policy."""
ENDED_PHASES = (PhaseState.DONE.value, PhaseState.SKIPPED.value, PhaseState.FAILED.value)
MAX_NAMES_LISTED = 8


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
        round: of its iteration; None where that is not divided.
        staleness: of its trees, in trainings of the policy; 0 for training.
        token_limit: of a tree of a search; None: it has none.
        most_tokens: that a tree spent.
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
    round: Round | None = None
    staleness: int = 0
    token_limit: int | None = None
    most_tokens: int = 0

    @property
    def mean_tokens(self) -> float | None:
        """Tokens a tree, once all have ended."""
        return self.tokens / self.num_trees if self.num_trees and self.num_done == self.num_trees else None

    @property
    def place(self) -> float:
        """The iterations that are done after it, with the rounds of the last one as parts."""
        return self.iteration if self.round is None else self.iteration - 1 + self.round.share_done

    @property
    def accuracy(self) -> Estimate | None:
        """The share of right chosen answers among the ended trees of an evaluation phase; a failed
        tree counts as not right. None where every tree failed: then nothing is known.
        """
        if self.purpose != "evaluate" or self.num_done == self.num_failed:
            return None
        return share(self.num_right, self.num_done)


def evaluates_policy(phase: str) -> bool:
    """Return whether a phase of that name evaluates the policy with which a run goes on."""
    return phase.startswith(POLICY_PHASES)


def tokens_after(phases: Sequence[PhaseNumbers]) -> dict[str, int]:
    """Return, by phase, the tokens generated for training data up to the end of its iteration."""
    searched = [phase for phase in phases if phase.purpose in ("bootstrap", "collect")]
    return {phase.name: sum(one.tokens for one in searched if one.iteration <= phase.iteration) for phase in phases}


SHOWN_RUN = select(
    *columns(StoredRun, RUNS, besides=("state", "error")), blocks.SHOWN_STATE, blocks.SHOWN_ERROR
).select_from(RUNS)
"""Rows of runs as people are shown them: one that cannot have what it needs is blocked."""


def run_named(transaction: Transaction, name: str) -> StoredRun:
    """Return the run's row, with the state that people are shown.

    Raises:
        InputError: if no run has that name; it says which there are.
    """
    row = transaction.row(StoredRun, SHOWN_RUN.where(RUNS.c.name == name))
    if row is not None:
        return row
    newest = select(RUNS.c.name).order_by(RUNS.c.id.desc()).limit(MAX_NAMES_LISTED)
    known = list(transaction.execute(newest).scalars())
    raise NotFoundError(
        f"no run is named {name!r}" + (f"; there are {', '.join(known)}" if known else "; there is none yet")
    )


def run_by_id(transaction: Transaction, run_id: int) -> StoredRun:
    """Return the run's row, with the state that people are shown.

    Raises:
        InputError: if there is none.
    """
    row = transaction.row(StoredRun, SHOWN_RUN.where(RUNS.c.id == run_id))
    if row is None:
        raise NotFoundError(f"there is no run {run_id}")
    return row


def list_runs(transaction: Transaction) -> list[ListedRun]:
    """Return all runs, the newest first."""
    spent = token_budget.spent_by_run(transaction)
    phases = _counts_by_run(transaction, PHASES, PHASES.c.state.in_(ENDED_PHASES))
    trees = _counts_by_run(transaction, TREES, TREES.c.state.in_(ENDED_TREES))
    stored = columns(ListedRun, RUNS, besides=("state", "error", *_COUNTED))
    rows = []
    shown = select(*stored, blocks.SHOWN_STATE, blocks.SHOWN_ERROR).select_from(RUNS)
    for row in transaction.execute(shown.order_by(RUNS.c.id.desc())).mappings():
        num_phases, num_phases_ended = phases.get(row["id"], (0, 0))
        num_trees, num_trees_ended = trees.get(row["id"], (0, 0))
        rows.append(
            ListedRun(
                **row,
                num_phases=num_phases,
                num_phases_ended=num_phases_ended,
                tokens_spent=spent.get(row["id"]),
                num_trees=num_trees,
                num_trees_ended=num_trees_ended,
            )
        )
    return rows


_COUNTED = ("num_phases", "num_phases_ended", "tokens_spent", "num_trees", "num_trees_ended")


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
        round=Round(**row.spec["round"]) if row.spec.get("round") else None,
        staleness=row.spec.get("staleness", 0),
        token_limit=row.spec.get("budget", {}).get("tokens"),
        most_tokens=counts.most_tokens,
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
) -> list[ListedTree]:
    """Return the first `limit` trees of a run that are as asked, in order of creation, without
    their nodes.

    Args:
        question: a part of their question, in any case.
        after: only trees with a higher number.
    """
    statement = (
        select(*_TREE_COLUMNS, TREES.c.nodes)
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
    return transaction.rows(ListedTree, statement)


_TREE_COLUMNS = (
    PHASES.c.name.label("phase"),
    func.coalesce(PHASES.c.spec["staleness"].as_integer(), 0).label("staleness"),
    PROBLEMS.c.position.label("problem"),
    PROBLEMS.c.question,
    *columns(TreeFacts, TREES, besides=("phase", "staleness", "problem", "question")),
)


def failed_trees(transaction: Transaction, limit: int) -> list[FailedTree]:
    """Return failed trees of all runs, the latest first, each with its run's name and id and
    its reason.
    """
    statement = (
        select(*_TREE_COLUMNS, TREES.c.nodes, RUNS.c.name.label("run"), RUNS.c.id.label("run_id"))
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(TREES.c.state == TreeState.FAILED.value)
        .order_by(TREES.c.id.desc())
        .limit(limit)
    )
    return transaction.rows(FailedTree, statement)


def tree_without_nodes(transaction: Transaction, tree_id: int) -> ShownTree:
    """Return a tree.

    Raises:
        InputError: if there is no such tree.
    """
    others = (PROBLEMS.c.answer.label("true_answer"), RUNS.c.name.label("run"), TREES.c.nodes.label("num_nodes"))
    statement = (
        select(*_TREE_COLUMNS, *others)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(TREES.c.id == tree_id)
    )
    tree = transaction.row(ShownTree, statement)
    if tree is None:
        raise NotFoundError(f"there is no tree {tree_id}; `restmcts trees list RUN` names those of a run")
    return tree


def tree_with_nodes(transaction: Transaction, tree_id: int) -> TreeWithNodes:
    """Return a tree with its nodes.

    Raises:
        InputError: if there is no such tree, or those of its run are archived.
    """
    tree = tree_without_nodes(transaction, tree_id)
    shown = select(*columns(ShownNode, NODES, besides=("search_value",)), KNOWN_VALUE)
    nodes = transaction.rows(ShownNode, shown.where(NODES.c.tree_id == tree_id).order_by(NODES.c.node_id))
    if not nodes:
        archived_trees.check_trees_are_here(transaction, [tree_id])
    return TreeWithNodes(**asdict(tree), nodes=nodes)


KNOWN_VALUE = case(
    (NODES.c.model_value.is_not(None) | (NODES.c.search_value != 0.0), NODES.c.search_value), else_=None
).label("search_value")
"""What restmcts.domain.tree.known_value returns of a node."""


def list_problem_sets(transaction: Transaction, run_id: int) -> list[ProblemSet]:
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
    return transaction.rows(ProblemSet, statement)


def num_characters(transaction: Transaction, run_id: int) -> int:
    """Return how many characters the questions and given solutions of a run have."""
    solution = func.coalesce(func.length(cast(PROBLEMS.c.solution, Text)), 0)
    statement = select(func.sum(func.length(PROBLEMS.c.question) + solution)).where(PROBLEMS.c.run_id == run_id)
    return int(transaction.execute(statement).scalar() or 0)


def list_problems(transaction: Transaction, run_id: int, set_name: str, limit: int) -> list[ListedProblem]:
    """Return the first problems of a set, with true answers and given solutions."""
    found = select(*columns(ListedProblem, PROBLEMS))
    found = found.where(PROBLEMS.c.run_id == run_id, PROBLEMS.c.set_name == set_name)
    return transaction.rows(ListedProblem, found.order_by(PROBLEMS.c.position).limit(limit))


def list_checkpoints(transaction: Transaction, run_id: int | None = None) -> list[ListedCheckpoint]:
    """Return the checkpoints of a run, or of all runs, in order of making, and whether each is, or
    was, the promoted one of its kind.
    """
    newest = select(func.max(PROMOTIONS.c.id)).group_by(PROMOTIONS.c.run_id, PROMOTIONS.c.kind)
    is_promoted = CHECKPOINTS.c.id.in_(select(PROMOTIONS.c.checkpoint_id).where(PROMOTIONS.c.id.in_(newest)))
    was_promoted = CHECKPOINTS.c.id.in_(select(PROMOTIONS.c.checkpoint_id))
    promotions = (is_promoted.label("promoted"), was_promoted.label("was_promoted"))
    statement = select(CHECKPOINTS, RUNS.c.name.label("run"), *promotions).join(RUNS, RUNS.c.id == CHECKPOINTS.c.run_id)
    if run_id is not None:
        statement = statement.where(CHECKPOINTS.c.run_id == run_id)
    return transaction.rows(ListedCheckpoint, statement.order_by(CHECKPOINTS.c.id))


def checkpoint_named(transaction: Transaction, run: StoredRun, name: str) -> ListedCheckpoint:
    """Return a checkpoint of a run.

    Raises:
        NotFoundError: if the run has none of that name; it says which there are.
    """
    rows = list_checkpoints(transaction, run.id)
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        known = ", ".join(row.name for row in rows) or "none"
        raise NotFoundError(f"run {run.name} has no checkpoint {name!r}; it has {known}")
    return found


def dataset_of(transaction: Transaction, run: StoredRun, phase: str) -> ListedDataset:
    """Return the training data of a phase of a run.

    Raises:
        NotFoundError: if the phase has none; it says which phases have.
    """
    rows = list_datasets(transaction, run.id)
    found = next((row for row in rows if row.phase == phase), None)
    if found is None:
        known = ", ".join(row.phase for row in rows) or "none"
        raise NotFoundError(f"run {run.name} has no data set for {phase!r}; it has {known}")
    return found


def list_datasets(transaction: Transaction, run_id: int | None = None) -> list[ListedDataset]:
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
    return transaction.rows(ListedDataset, statement.order_by(DATASETS.c.id))
