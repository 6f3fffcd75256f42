"""A tree as its page shows it: nodes, the search played again expansion by expansion, model
requests, and its siblings.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import JsonObject, ShownTree, columns
from restmcts.adapters.sql.state import annotations, archived_trees
from restmcts.adapters.sql.state.annotations import StoredAnnotation
from restmcts.adapters.sql.state.requests import PROBLEMS, REQUESTS
from restmcts.adapters.sql.state.runs import CHECKPOINTS
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import RequestState
from restmcts.domain.learning.estimates import VerifiedStep, decisive_steps
from restmcts.domain.runs.phase_search import search_of
from restmcts.domain.runs.phases import SEARCH_PHASE
from restmcts.domain.tree import Node, known_value
from restmcts.messages.wire import load_response
from sqlalchemy import func, select

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
    "score",
    "reason",
    "reasoning_distance",
    "step_is_right",
    "weighted_reward",
    "quality_value",
    "log_prob",
    "num_tokens",
    "multiplicity",
)
NodeRow = list[object]
"""Values of a node, of `NODE_FIELDS` or of a change."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A response that a search took.

    Attributes:
        id: of the request.
        seconds: since the search began.
        changes: node, visits, value and model value of each node that is new or has changed.
    """

    id: int
    kind: str
    seconds: float
    changes: list[NodeRow]


@dataclass(frozen=True, slots=True)
class TreeToDraw:
    """A tree for drawing; the names are those that the page's script reads.

    Attributes:
        nodes: rows of `fields`.
        decisive: steps that lost a solvable problem.
        annotations: what people say of its steps and answers.
    """

    id: int
    question: str
    state: str
    chosen: int | None
    fields: tuple[str, ...]
    nodes: list[NodeRow]
    decisive: list[int]
    annotations: list[StoredAnnotation]


@dataclass(frozen=True, slots=True)
class ShownRequest:
    """A request of a tree as it was sent and answered; `checkpoint` is a name."""

    id: int
    number: int
    kind: str
    state: str
    attempt: int
    checkpoint: str | None
    generation: JsonObject | None
    request: JsonObject
    answer: JsonObject | None
    elapsed_seconds: float | None


@dataclass(frozen=True, slots=True)
class _FoundRequest:
    id: int
    number: int
    kind: str
    state: str
    attempt: int
    payload: str
    answer: str | None
    generation: str
    elapsed_seconds: float | None
    checkpoint: str | None


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another tree of a problem; `nodes` is how many it has."""

    id: int
    run: str
    phase: str
    verdict: str | None
    nodes: int


@dataclass(frozen=True, slots=True)
class TreeOfRun(ShownTree):
    """A tree with the number of its run, and whether its nodes and requests are archived."""

    run_id: int
    is_archived: bool


def read_tree(transaction: Transaction, tree_id: int) -> TreeToDraw:
    """Return a tree for drawing.

    Raises:
        InputError: if there is no such tree.
    """
    tree = queries.tree_with_nodes(transaction, tree_id)
    return TreeToDraw(
        id=tree_id,
        question=tree.question,
        state=tree.state,
        chosen=tree.chosen_node,
        fields=NODE_FIELDS,
        nodes=[[getattr(node, name) for name in NODE_FIELDS] for node in tree.nodes],
        decisive=sorted(
            decisive_steps([VerifiedStep(one.node_id, one.parent_id, one.final, one.verdict) for one in tree.nodes])
        ),
        annotations=annotations.of_tree(transaction, tree_id),
    )


def replayed(transaction: Transaction, tree_id: int) -> list[Frame]:
    """Play the tree's applied responses again; return what each changed.

    No frames come from a tree that another version of the search made.

    Raises:
        InputError: if there is no such tree, or those of its run are archived.
    """
    queries.tree_without_nodes(transaction, tree_id)
    archived_trees.check_trees_are_here(transaction, [tree_id])
    statement = (
        select(TREES.c.seed, PHASES.c.spec, PROBLEMS.c.begins_with, PROBLEMS.c.kind)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(TREES.c.id == tree_id)
    )
    row = transaction.execute(statement).one()
    phase = SEARCH_PHASE.validate_python(row.spec)
    search = search_of(phase, row.kind, row.seed, row.begins_with)
    search.begin()
    replayed = (REQUESTS.c.id, REQUESTS.c.kind, REQUESTS.c.answer, REQUESTS.c.elapsed_seconds)
    applied = (
        select(*replayed)
        .where(REQUESTS.c.tree_id == tree_id, REQUESTS.c.state == RequestState.APPLIED.value)
        .order_by(REQUESTS.c.applied_order)
    )
    frames: list[Frame] = []
    search.tree.take_changes()
    try:
        for request in transaction.execute(applied):
            search.receive(load_response(request.kind, request.answer), request.elapsed_seconds)
            changes = [_change(node) for node in search.tree.take_changes()]
            frames.append(Frame(request.id, request.kind, request.elapsed_seconds, changes))
    except (LookupError, TypeError, ValueError):
        return []
    return frames


def _change(node: Node) -> NodeRow:
    values = (known_value(node.search_value, node.model_value), node.model_value)
    return [node.node_id, node.visits, *(round(one, 4) if one is not None else None for one in values)]


def requests_about(transaction: Transaction, tree_id: int, request_ids: Sequence[int]) -> list[ShownRequest]:
    """Return the named requests of a tree, in the order in which they were made.

    Raises:
        InputError: if there is no such tree.
    """
    queries.tree_without_nodes(transaction, tree_id)
    shown = (*columns(_FoundRequest, REQUESTS, besides=("checkpoint",)), CHECKPOINTS.c.name.label("checkpoint"))
    statement = select(*shown).outerjoin(CHECKPOINTS, CHECKPOINTS.c.id == REQUESTS.c.checkpoint_id)
    statement = statement.where(REQUESTS.c.tree_id == tree_id, REQUESTS.c.id.in_(list(request_ids)))
    return [_request(row) for row in transaction.rows(_FoundRequest, statement.order_by(REQUESTS.c.number))]


def _request(row: _FoundRequest) -> ShownRequest:
    return ShownRequest(
        id=row.id,
        number=row.number,
        kind=row.kind,
        state=row.state,
        attempt=row.attempt,
        checkpoint=row.checkpoint,
        generation=json.loads(row.generation) if row.generation else None,
        request=json.loads(row.payload),
        answer=json.loads(row.answer) if row.answer else None,
        elapsed_seconds=row.elapsed_seconds,
    )


def siblings(transaction: Transaction, tree_id: int) -> list[Sibling]:
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
    return transaction.rows(Sibling, statement)


def ask_the_same(transaction: Transaction, first: int, second: int) -> bool:
    """Return whether two trees are of one problem (its text decides)."""
    digests = select(PROBLEMS.c.digest).join(TREES, TREES.c.problem_id == PROBLEMS.c.id)
    found = transaction.execute(digests.where(TREES.c.id.in_((first, second)))).scalars()
    return len(set(found)) == 1


def neighbours(transaction: Transaction, tree_id: int) -> tuple[int | None, int | None]:
    """Return the trees before and after one in its phase, in order of creation; None at an end."""
    phase = select(TREES.c.phase_id).where(TREES.c.id == tree_id).scalar_subquery()
    same_phase = TREES.c.phase_id == phase
    before = select(func.max(TREES.c.id)).where(same_phase, TREES.c.id < tree_id)
    after = select(func.min(TREES.c.id)).where(same_phase, TREES.c.id > tree_id)
    return transaction.execute(before).scalar(), transaction.execute(after).scalar()


def facts_of(transaction: Transaction, tree_id: int) -> TreeOfRun:
    """Return what is said above a tree: all but its nodes.

    Raises:
        InputError: if there is no such tree.
    """
    tree = queries.tree_without_nodes(transaction, tree_id)
    of_run = select(RUNS.c.id, RUNS.c.trees_in_store.is_not(None)).join(TREES, TREES.c.run_id == RUNS.c.id)
    run_id, is_archived = transaction.execute(of_run.where(TREES.c.id == tree_id)).one()
    return TreeOfRun(**asdict(tree), run_id=run_id, is_archived=is_archived)
