"""What the labeler reads and writes of trees that have ended."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.requests import PROBLEMS
from restmcts.adapters.sql.runs import ORIGINAL, original
from restmcts.adapters.sql.tables import NodeOrigin, TreeState
from restmcts.adapters.sql.trees import NODES, PHASES, TREES, node_row
from restmcts.domain.problems import Verdict
from restmcts.domain.tree import Node


def ended(transaction: Transaction, tree_ids: Sequence[int]) -> list[Any]:
    """Return those of the trees that have ended, with phase and problem, the true answer included."""
    statement = (
        select(
            TREES.c.id.label("tree_id"), TREES.c.run_id, TREES.c.chosen_node, TREES.c.started_at, TREES.c.ended_at, PHASES.c.spec
        )
        .add_columns(original(PROBLEMS)[1], PROBLEMS.c.answer, PROBLEMS.c.solution, PROBLEMS.c.kind)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .outerjoin(ORIGINAL, ORIGINAL.c.id == PROBLEMS.c.derived_from)
        .where(TREES.c.id.in_(list(tree_ids)), TREES.c.state == TreeState.ENDED.value)
        .order_by(TREES.c.id)
    )
    return list(transaction.execute(statement).all())


def lock_ended(transaction: Transaction, tree_ids: Sequence[int]) -> list[int]:
    """Return, locked, the ids of those of the trees that have ended and are not labelled yet."""
    statement = select(TREES.c.id).where(TREES.c.id.in_(list(tree_ids)), TREES.c.state == TreeState.ENDED.value)
    return list(transaction.execute(statement.order_by(TREES.c.id).with_for_update()).scalars())


def add_solution_nodes(transaction: Transaction, tree_id: int, nodes: Sequence[Node]) -> None:
    """Add the nodes of a given solution to a stored tree."""
    rows = [{**node_row(tree_id, node), "origin": NodeOrigin.SOLUTION.value} for node in nodes]
    transaction.upsert(NODES, rows, ("tree_id", "node_id"))


def finish(transaction: Transaction, tree_id: int, answer: str | None, verdict: Verdict, solved: bool) -> None:
    """Mark a tree as labelled, with the verdict on its chosen answer and whether any of its own leaves is right."""
    values = {"state": TreeState.LABELLED.value, "answer": answer, "verdict": verdict.value, "solved": solved}
    transaction.execute(update(TREES).where(TREES.c.id == tree_id).values(**values))
