"""A tree as its page shows it: nodes, the search played again expansion by expansion, model
requests, and its siblings.
"""

import json
from collections.abc import Sequence
from typing import Any

from restmcts.adapters.sql import queries
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.requests import PROBLEMS, REQUESTS
from restmcts.adapters.sql.runs import CHECKPOINTS
from restmcts.adapters.sql.tables import RequestState
from restmcts.adapters.sql.trees import PHASES, RUNS, TREES
from restmcts.domain.runs.phases import SEARCH_PHASE
from restmcts.domain.tasks.task import TASKS
from restmcts.domain.tree import Node
from restmcts.messages.wire import load_response
from sqlalchemy import select

MAX_SIBLINGS = 200
NODE_FIELDS = (
    "node_id",
    "parent_id",
    "step",
    "model_value",
    "search_value",
    "visits",
    "final",
    "origin",
    "verdict",
    "reasoning_distance",
    "step_is_right",
    "weighted_reward",
    "quality_value",
    "log_prob",
    "num_tokens",
    "multiplicity",
)
Frame = dict[str, Any]


def read_tree(transaction: Transaction, tree_id: int) -> dict[str, Any]:
    """Return a tree for drawing: "nodes" as rows of `fields`, and "frames", one for each response
    that its search took.

    Raises:
        InputError: if there is no such tree.
    """
    tree = queries.tree_with_nodes(transaction, tree_id)
    nodes = [[node[name] for name in NODE_FIELDS] for node in tree["nodes"]]
    return {
        "id": tree_id,
        "question": tree["question"],
        "state": tree["state"],
        "chosen": tree["chosen_node"],
        "fields": NODE_FIELDS,
        "nodes": nodes,
        "frames": _replayed(transaction, tree_id),
    }


def _replayed(transaction: Transaction, tree_id: int) -> list[Frame]:
    """Play the tree's applied responses again; return what each changed.

    A frame holds the id and kind of the request, the seconds since the search began, and "changes":
    node, visits, value and model value of each node that is new or has changed. No frames come from
    a tree that another version of the search made.
    """
    statement = (
        select(TREES.c.seed, PHASES.c.spec, PROBLEMS.c.begins_with, PROBLEMS.c.kind)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(TREES.c.id == tree_id)
    )
    row = transaction.execute(statement).one()
    phase = SEARCH_PHASE.validate_python(row.spec)
    search = phase.search.build(phase.budget, row.seed, TASKS.get(row.kind).ends, row.begins_with or ())
    search.begin()
    columns = (REQUESTS.c.id, REQUESTS.c.kind, REQUESTS.c.answer, REQUESTS.c.elapsed_seconds)
    applied = (
        select(*columns)
        .where(REQUESTS.c.tree_id == tree_id, REQUESTS.c.state == RequestState.APPLIED.value)
        .order_by(REQUESTS.c.applied_order)
    )
    frames: list[Frame] = []
    search.tree.take_changes()
    try:
        for request in transaction.execute(applied):
            search.receive(load_response(request.kind, request.answer), request.elapsed_seconds)
            changes = [_change(node) for node in search.tree.take_changes()]
            frames.append(
                {"id": request.id, "kind": request.kind, "seconds": request.elapsed_seconds, "changes": changes}
            )
    except (LookupError, TypeError, ValueError):
        return []
    return frames


def _change(node: Node) -> list[Any]:
    model_value = round(node.model_value, 4) if node.model_value is not None else None
    return [node.node_id, node.visits, round(node.search_value, 4), model_value]


def requests_about(transaction: Transaction, tree_id: int, request_ids: Sequence[int]) -> list[queries.Row]:
    """Return requests of a tree as they were sent and answered, each with its checkpoint's name
    and generation settings.
    """
    statement = select(
        REQUESTS.c.id,
        REQUESTS.c.number,
        REQUESTS.c.kind,
        REQUESTS.c.state,
        REQUESTS.c.attempt,
        REQUESTS.c.payload,
        REQUESTS.c.answer,
        REQUESTS.c.generation,
        REQUESTS.c.elapsed_seconds,
        CHECKPOINTS.c.name.label("checkpoint"),
    ).outerjoin(CHECKPOINTS, CHECKPOINTS.c.id == REQUESTS.c.checkpoint_id)
    statement = statement.where(REQUESTS.c.tree_id == tree_id, REQUESTS.c.id.in_(list(request_ids)))
    return [_request(row) for row in transaction.execute(statement.order_by(REQUESTS.c.number))]


def _request(row: Any) -> queries.Row:
    return {
        "id": row.id,
        "number": row.number,
        "kind": row.kind,
        "state": row.state,
        "attempt": row.attempt,
        "checkpoint": row.checkpoint,
        "generation": json.loads(row.generation) if row.generation else None,
        "request": json.loads(row.payload),
        "answer": json.loads(row.answer) if row.answer else None,
        "elapsed_seconds": row.elapsed_seconds,
    }


def siblings(transaction: Transaction, tree_id: int) -> list[queries.Row]:
    """Return the other trees of the same problem (its text decides), of all runs, in order of
    creation.
    """
    digest = (
        select(PROBLEMS.c.digest)
        .join(TREES, TREES.c.problem_id == PROBLEMS.c.id)
        .where(TREES.c.id == tree_id)
        .scalar_subquery()
    )
    statement = (
        select(TREES.c.id, RUNS.c.name.label("run"), PHASES.c.name.label("phase"), TREES.c.verdict, TREES.c.nodes)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(PROBLEMS.c.digest == digest, TREES.c.id != tree_id)
        .order_by(TREES.c.id)
        .limit(MAX_SIBLINGS)
    )
    return [dict(row._mapping) for row in transaction.execute(statement)]


def facts_of(transaction: Transaction, tree_id: int) -> queries.Row:
    """Return what is said above a tree: all but its nodes.

    Raises:
        InputError: if there is no such tree.
    """
    tree = queries.tree_without_nodes(transaction, tree_id)
    run_id = transaction.execute(select(TREES.c.run_id).where(TREES.c.id == tree_id)).scalar_one()
    return {**tree, "run_id": run_id}
