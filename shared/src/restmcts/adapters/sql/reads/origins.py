"""What a row of training data came from: its problem, its tree with its nodes, and the models that
searched it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import KNOWN_VALUE
from restmcts.adapters.sql.rows import JsonObject, ShownNode, columns
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.runs import CHECKPOINTS
from restmcts.adapters.sql.state.trees import NODES, PHASES, RUNS, TREES
from restmcts.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class ProblemPlace:
    """A problem's place: its set, and its position there."""

    id: int
    set: str
    position: int
    question: str


@dataclass(frozen=True, slots=True)
class NamedCheckpoint:
    """A checkpoint that a tree was searched with."""

    name: str
    digest: str
    uri: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class OriginNode(ShownNode):
    """A node with its label."""

    tree_id: int


@dataclass(frozen=True, slots=True)
class OriginTree:
    """A tree with its phase, seed and settings."""

    id: int
    phase: str
    problem_id: int
    seed: int
    tokens: int
    iterations: int
    verdict: str | None
    solved: bool | None
    search: JsonObject
    budget: JsonObject
    generation: JsonObject
    merge_solutions: bool


@dataclass(frozen=True, slots=True)
class TreeOrigin:
    """What a tree came from.

    Attributes:
        run: the name.
        nodes: those asked for.
        policy: that it was searched with.
        value: that it was searched with; None where it asked none.
    """

    run: str
    tree: OriginTree
    nodes: list[OriginNode]
    policy: NamedCheckpoint
    value: NamedCheckpoint | None


@dataclass(frozen=True, slots=True)
class _Found:
    id: int
    problem_id: int
    seed: int
    tokens: int
    iterations: int
    verdict: str | None
    solved: bool | None
    run: str
    phase: str
    spec: JsonObject
    policy_id: int
    value_id: int | None


_OTHERS = (RUNS.c.name.label("run"), PHASES.c.name.label("phase"), PHASES.c.spec, PHASES.c.policy_id, PHASES.c.value_id)
_OTHER_NAMES = ("run", "phase", "spec", "policy_id", "value_id")


def problem_of(transaction: Transaction, problem_id: int) -> ProblemPlace:
    """Return a problem's set, place and question."""
    shown = (PROBLEMS.c.id, PROBLEMS.c.set_name.label("set"), PROBLEMS.c.position, PROBLEMS.c.question)
    return ProblemPlace(*transaction.execute(select(*shown).where(PROBLEMS.c.id == problem_id)).one())


def tree_origin(transaction: Transaction, tree_id: int, node_ids: Sequence[int]) -> TreeOrigin:
    """Return what a tree came from, with the named nodes; without them where they are archived.

    Raises:
        InputError: if there is no such tree.
    """
    statement = (
        select(*columns(_Found, TREES, besides=_OTHER_NAMES), *_OTHERS)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(RUNS, RUNS.c.id == TREES.c.run_id)
        .where(TREES.c.id == tree_id)
    )
    found = transaction.row(_Found, statement)
    if found is None:
        raise NotFoundError(f"there is no tree {tree_id}; `restmcts trees list RUN` names those of a run")
    shown = select(*columns(OriginNode, NODES, besides=("search_value",)), KNOWN_VALUE)
    nodes = shown.where(NODES.c.tree_id == tree_id, NODES.c.node_id.in_(list(node_ids)))
    return TreeOrigin(
        run=found.run,
        tree=_origin_tree(found),
        nodes=transaction.rows(OriginNode, nodes),
        policy=_checkpoint(transaction, found.policy_id),
        value=_checkpoint(transaction, found.value_id) if found.value_id is not None else None,
    )


def _origin_tree(found: _Found) -> OriginTree:
    return OriginTree(
        id=found.id,
        phase=found.phase,
        problem_id=found.problem_id,
        seed=found.seed,
        tokens=found.tokens,
        iterations=found.iterations,
        verdict=found.verdict,
        solved=found.solved,
        search=found.spec["search"],
        budget=found.spec["budget"],
        generation=found.spec["generation"],
        merge_solutions=found.spec["merge_solutions"],
    )


def _checkpoint(transaction: Transaction, checkpoint_id: int) -> NamedCheckpoint:
    statement = select(*columns(NamedCheckpoint, CHECKPOINTS)).where(CHECKPOINTS.c.id == checkpoint_id)
    return NamedCheckpoint(*transaction.execute(statement).one())
