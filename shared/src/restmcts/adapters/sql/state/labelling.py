"""What the labeler reads and writes of trees that have ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import Columns, JsonObject
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.runs import ORIGINAL, original
from restmcts.adapters.sql.state.trees import NODES, PHASES, TREES, node_row
from restmcts.adapters.sql.tables import NodeOrigin, TreeState
from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.problems import Verdict
from restmcts.domain.tasks.task import Judgement
from restmcts.domain.tree import Node
from restmcts.domain.truth.ledger import LedgerEntry

_NODE_KEY = ("tree_id", "node_id")
_SOLUTION, _GIVEN_OBSERVATION = NodeOrigin.SOLUTION, NodeOrigin.GIVEN_OBSERVATION


@dataclass(frozen=True, slots=True)
class TreeToLabel:
    """A tree that has ended, with its phase's spec and its problem, the true answer included."""

    tree_id: int
    run_id: int
    phase_id: int
    chosen_node: int | None
    started_at: datetime
    ended_at: datetime
    spec: JsonObject
    question: str
    answer: str | None
    solution: list[str] | None
    kind: str
    digest: str


def ended(transaction: Transaction, tree_ids: Sequence[int]) -> list[TreeToLabel]:
    """Return those of the trees that have ended, with phase and problem, the true answer
    included.
    """
    statement = (
        select(
            TREES.c.id.label("tree_id"),
            TREES.c.run_id,
            TREES.c.phase_id,
            TREES.c.chosen_node,
            TREES.c.started_at,
            TREES.c.ended_at,
            PHASES.c.spec,
        )
        .add_columns(original(PROBLEMS)[1], PROBLEMS.c.answer, PROBLEMS.c.solution, PROBLEMS.c.kind)
        .add_columns(func.coalesce(ORIGINAL.c.digest, PROBLEMS.c.digest).label("digest"))
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .outerjoin(ORIGINAL, ORIGINAL.c.id == PROBLEMS.c.derived_from)
        .where(TREES.c.id.in_(list(tree_ids)), TREES.c.state == TreeState.ENDED.value)
        .order_by(TREES.c.id)
    )
    return transaction.rows(TreeToLabel, statement)


def lock_ended(transaction: Transaction, tree_ids: Sequence[int]) -> list[int]:
    """Return, locked, the ids of those of the trees that have ended and are not labelled yet."""
    statement = select(TREES.c.id).where(TREES.c.id.in_(list(tree_ids)), TREES.c.state == TreeState.ENDED.value)
    return list(transaction.execute(statement.order_by(TREES.c.id).with_for_update()).scalars())


@dataclass(frozen=True, slots=True)
class Labelled:
    """What one ended tree came to.

    Attributes:
        judgements: of leaves, by node.
        labels: of steps, by node.
        added: nodes of the given solution that the tree had not.
        answer: of the chosen node, if there is one.
        verdict: on that answer.
        solved: whether any of the tree's own leaves is right.
        entry: what it was found to say, where that does not rest on a true answer.
    """

    tree_id: int
    judgements: Mapping[int, Judgement]
    labels: Mapping[int, StepLabel]
    added: Sequence[Node]
    answer: str | None
    verdict: Verdict
    solved: bool
    entry: LedgerEntry | None = None


def save(transaction: Transaction, labelled: Sequence[Labelled]) -> None:
    """Write added nodes, verdicts and labels, and mark the trees as labelled."""
    added = [
        node_row(tree.tree_id, node) | {"origin": (_GIVEN_OBSERVATION if node.observed else _SOLUTION).value}
        for tree in labelled
        for node in tree.added
    ]
    transaction.upsert(NODES, added, _NODE_KEY)
    transaction.alter(NODES, [row for tree in labelled for row in _label_rows(tree)], _NODE_KEY)
    transaction.alter(TREES, [_tree_row(tree) for tree in labelled], ("id",))


def _label_rows(tree: Labelled) -> Iterator[Columns]:
    for node_id in sorted({*tree.judgements, *tree.labels}):
        label, found = tree.labels.get(node_id), tree.judgements.get(node_id)
        yield {
            "tree_id": tree.tree_id,
            "node_id": node_id,
            "verdict": found.verdict.value if found else None,
            "score": found.score if found else None,
            "verdict_source": found.source if found else None,
            "reason": (found.reason or None) if found else None,
            "reasoning_distance": label.reasoning_distance if label else None,
            "step_is_right": label.step_is_right if label else None,
            "weighted_reward": label.weighted_reward if label else None,
            "quality_value": label.quality_value if label else None,
        }


def _tree_row(tree: Labelled) -> Columns:
    return {
        "id": tree.tree_id,
        "state": TreeState.LABELLED.value,
        "answer": tree.answer,
        "verdict": tree.verdict.value,
        "solved": tree.solved,
    }
