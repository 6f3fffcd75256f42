"""Trees and their nodes: locked, replayed, advanced and labelled, set by set.

A tree is a function of its settings, its seed and its applied responses; node rows are what it came
to, for everyone who reads.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BindParameter, bindparam, func, select, update

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import Columns
from restmcts.adapters.sql.state import archived_trees, blocks
from restmcts.adapters.sql.state.requests import ANSWERED, PROBLEMS, REQUESTS, withdraw
from restmcts.adapters.sql.tables import (
    Need,
    NodeOrigin,
    NodeRow,
    PhaseRow,
    RequestState,
    Run,
    RunState,
    TreeRow,
    TreeState,
)
from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.problems import Verdict
from restmcts.domain.search.protocol import Search
from restmcts.domain.text import escaped_text
from restmcts.domain.tree import Node, Tree

RUNS = table_of(Run)
PHASES = table_of(PhaseRow)
TREES = table_of(TreeRow)
NODES = table_of(NodeRow)


@dataclass(frozen=True, slots=True)
class TreeToAdvance:
    """A searching tree, locked, with what its search is made from.

    Attributes:
        now: the database's time.
        max_tokens: the token budget of its run.
    """

    id: int
    problem_id: int
    seed: int
    version: int
    started_at: datetime
    run_id: int
    phase_id: int
    policy_id: int
    value_id: int | None
    begins_with: list[str] | None
    problem_kind: str
    max_tokens: int | None
    now: datetime


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request whose answer is not applied yet."""

    id: int
    tree_id: int
    kind: str
    answer: str


@dataclass(frozen=True, slots=True)
class AppliedRequest:
    """A request whose answer its search has."""

    kind: str
    answer: str
    elapsed_seconds: float


@dataclass(frozen=True, slots=True)
class Advance:
    """What one transaction brings to one tree.

    Attributes:
        applied: what changes of its requests' rows.
        requests: rows of new ones.
        moment: when the transaction found the tree, by the database's clock.
        tokens: that the policy generated for what was applied.
    """

    tree_id: int
    version: int
    moment: datetime
    search: Search
    applied: list[Columns]
    requests: list[Columns]
    tokens: int


def create_trees(transaction: Transaction, rows: Sequence[Columns]) -> None:
    """Insert waiting trees; each row names run, phase, problem and seed."""
    transaction.insert(TREES, [{**row, "state": TreeState.WAITING.value} for row in rows])


def admit(transaction: Transaction, phase_id: int, max_trees: int) -> list[int]:
    """Let up to `max_trees` waiting trees of a phase search; return their ids."""
    if max_trees <= 0:
        return []
    waiting = (
        select(TREES.c.id)
        .where(TREES.c.phase_id == phase_id, TREES.c.state == TreeState.WAITING.value)
        .order_by(TREES.c.id)
        .limit(max_trees)
        .with_for_update(skip_locked=True)
    )
    tree_ids = list(transaction.execute(waiting).scalars())
    admitted = update(TREES).where(TREES.c.id.in_(tree_ids))
    transaction.execute(admitted.values(state=TreeState.SEARCHING.value, started_at=moment(), updated_at=moment()))
    return tree_ids


# Statements of the hot path are made once: making one takes as long as PostgreSQL takes to answer
# it.
_NAMED: BindParameter[int] = bindparam("tree_ids", expanding=True)
_SEARCHING = (
    select(TREES.c.id, TREES.c.problem_id, TREES.c.seed, TREES.c.version, TREES.c.started_at, TREES.c.run_id)
    .add_columns(PHASES.c.id.label("phase_id"), PHASES.c.policy_id, PHASES.c.value_id, PROBLEMS.c.begins_with)
    .add_columns(PROBLEMS.c.kind.label("problem_kind"), RUNS.c.max_tokens, moment().label("now"))
    .join(PHASES, PHASES.c.id == TREES.c.phase_id)
    # Asked by phase, for the sake of the index: by run, all trees that have ended would be read
    # too.
    .join(RUNS, RUNS.c.id == PHASES.c.run_id)
    .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
    .where(TREES.c.state == TreeState.SEARCHING.value, RUNS.c.state == RunState.RUNNING.value)
    .order_by(TREES.c.id)
)
_LOCK_NAMED = _SEARCHING.where(TREES.c.id.in_(_NAMED)).with_for_update(of=TREES)
_LOCK_ANSWERED = (
    _SEARCHING.where(TREES.c.id.in_(select(REQUESTS.c.tree_id).where(ANSWERED)))
    .limit(bindparam("max_trees"))
    .with_for_update(of=TREES, skip_locked=True)
)
_ANSWERS = (
    select(REQUESTS.c.id, REQUESTS.c.tree_id, REQUESTS.c.kind, REQUESTS.c.answer)
    .where(REQUESTS.c.tree_id.in_(_NAMED), ANSWERED)
    .order_by(REQUESTS.c.id)
)


def lock_searching(transaction: Transaction, tree_ids: Sequence[int]) -> list[TreeToAdvance]:
    """Return, locked and in order of id, those of the trees that are searching in a running run."""
    return transaction.rows(TreeToAdvance, _LOCK_NAMED, {"tree_ids": list(tree_ids)})


def lock_answered(transaction: Transaction, max_trees: int) -> list[TreeToAdvance]:
    """Return the same of up to `max_trees` trees that have an answer to apply; those that
    others hold are passed over.
    """
    only = transaction.only_run
    statement = _LOCK_ANSWERED if only is None else _LOCK_ANSWERED.where(RUNS.c.id == only)
    return transaction.rows(TreeToAdvance, statement, {"max_trees": max_trees})


def answered(transaction: Transaction, tree_ids: Sequence[int]) -> dict[int, list[AnsweredRequest]]:
    """Return the answered, not yet applied requests of the trees, by tree, in order of issue."""
    by_tree: dict[int, list[AnsweredRequest]] = defaultdict(list)
    for row in transaction.rows(AnsweredRequest, _ANSWERS, {"tree_ids": list(tree_ids)}):
        by_tree[row.tree_id].append(row)
    return by_tree


def applied(transaction: Transaction, tree_id: int) -> list[AppliedRequest]:
    """Return the applied requests of a tree in the order in which they were applied."""
    statement = (
        select(REQUESTS.c.kind, REQUESTS.c.answer, REQUESTS.c.elapsed_seconds)
        .where(REQUESTS.c.tree_id == tree_id, REQUESTS.c.state == RequestState.APPLIED.value)
        .order_by(REQUESTS.c.applied_order)
    )
    return transaction.rows(AppliedRequest, statement)


def save(transaction: Transaction, advances: Sequence[Advance]) -> None:
    """Write what the advances changed: nodes, requests, and each tree's own row."""
    nodes = [node_row(step.tree_id, node) for step in advances for node in step.search.tree.take_changes()]
    transaction.upsert(NODES, nodes, ("tree_id", "node_id"))
    transaction.insert(REQUESTS, [row for step in advances for row in step.requests])
    transaction.alter(REQUESTS, [row for step in advances for row in step.applied], ("id",))
    transaction.alter(TREES, [_tree_values(step) for step in advances], ("id",))
    if ended := [step.tree_id for step in advances if step.search.finished]:
        withdraw(transaction, ended)


def _tree_values(step: Advance) -> Columns:
    search = step.search
    spent = {name: getattr(search.spent, name) for name in search.spent.__dataclass_fields__}
    return {
        "id": step.tree_id,
        "version": step.version,
        "num_attempts": 0,
        **spent,
        "state": (TreeState.ENDED if search.finished else TreeState.SEARCHING).value,
        "stop_reason": search.stop_reason.value if search.stop_reason else None,
        "chosen_node": search.chosen.node_id if search.chosen else None,
        "updated_at": step.moment,
        "ended_at": step.moment if search.finished else None,
    }


def applied_row(request_id: int, order: int, elapsed_seconds: float) -> Columns:
    """Return what changes of a request's row when its answer is applied as the tree's
    `order`-th, so long after its start.
    """
    state = RequestState.APPLIED.value
    return {"id": request_id, "state": state, "applied_order": order, "elapsed_seconds": elapsed_seconds}


def block(transaction: Transaction, tree_ids: Sequence[int], run_id: int, phase_id: int, reason: str) -> None:
    """Leave trees of a phase as they are, for something that they need is not available now; that
    they were woken counts for nothing.
    """
    blocks.block(transaction, run_id, Need.PHASE, phase_id, reason)
    transaction.execute(update(TREES).where(TREES.c.id.in_(list(tree_ids))).values(num_attempts=0))


def fail(transaction: Transaction, reasons: Mapping[int, str]) -> None:
    """Mark trees as failed, each with its reason."""
    transaction.execute(
        update(TREES)
        .where(TREES.c.id == bindparam("key"))
        .where((TREES.c.state == TreeState.SEARCHING.value) | (TREES.c.state == TreeState.ENDED.value))
        .values(state=TreeState.FAILED.value, error=bindparam("reason"), ended_at=moment()),
        [{"key": tree_id, "reason": escaped_text(reason)} for tree_id, reason in reasons.items()],
    )
    if reasons:
        withdraw(transaction, list(reasons))


def why_all_failed(transaction: Transaction, run_id: int, phase_id: int | None = None) -> str | None:
    """Return the reason for which all trees of a run, or of one of its phases, have failed; None
    if one has not, or there is none.
    """
    of_run = (TREES.c.run_id == run_id) if phase_id is None else (TREES.c.phase_id == phase_id)
    well = select(TREES.c.id).where(of_run, TREES.c.state != TreeState.FAILED.value).limit(1)
    if transaction.execute(well).first() is not None:
        return None
    failed = select(TREES.c.error, func.count()).where(of_run).group_by(TREES.c.error).order_by(func.count().desc())
    reasons = transaction.execute(failed).all()
    if not reasons:
        return None
    total = sum(number for _, number in reasons)
    trees = "the only tree" if total == 1 else f"all {total:,} trees"
    first, count = reasons[0]
    return f"{trees} failed{'' if count == total else f'; {count:,} of them'}: {first}"


def node_row(tree_id: int, node: Node) -> Columns:
    """Return a node's columns without its label."""
    return {
        "tree_id": tree_id,
        "node_id": node.node_id,
        "parent_id": node.parent_id,
        "step": node.step,
        "depth": node.depth,
        "log_prob": node.log_prob,
        "num_tokens": node.num_tokens,
        "model_value": node.model_value,
        "search_value": node.search_value,
        "visits": node.visits,
        "expanded": node.expanded,
        "final": node.final,
        "multiplicity": node.multiplicity,
        "origin": _origin(node).value,
    }


def _origin(node: Node) -> NodeOrigin:
    if node.observed:
        return NodeOrigin.OBSERVATION
    return NodeOrigin.ROLLOUT if node.from_rollout else NodeOrigin.SEARCH


_NODE_COLUMNS = (
    "node_id",
    "parent_id",
    "step",
    "depth",
    "log_prob",
    "num_tokens",
    "model_value",
    "search_value",
    "visits",
    "expanded",
    "final",
    "multiplicity",
)


def load_trees(transaction: Transaction, tree_ids: Iterable[int]) -> dict[int, Tree]:
    """Return the stored trees by id; empty trees for ids without nodes are left out.

    Raises:
        InputError: if the trees of their run are archived.
    """
    ids = list(tree_ids)
    statement = (
        select(NODES.c.tree_id, NODES.c.origin, *(NODES.c[name] for name in _NODE_COLUMNS))
        .where(NODES.c.tree_id.in_(ids))
        .order_by(NODES.c.tree_id, NODES.c.node_id)
    )
    trees: dict[int, Tree] = {}
    for tree_id, origin, *columns in transaction.execute(statement):
        fields = dict(zip(_NODE_COLUMNS, columns, strict=True))
        observed = origin in (NodeOrigin.OBSERVATION, NodeOrigin.GIVEN_OBSERVATION)
        node = Node(**fields, from_rollout=not observed and origin != NodeOrigin.SEARCH, observed=observed)
        if observed and node.parent_id is not None:
            node.from_rollout = trees[tree_id][node.parent_id].from_rollout
        if node.parent_id is None:
            trees[tree_id] = Tree()
            trees[tree_id].nodes[0] = node
        else:
            trees[tree_id].nodes.append(node)
            trees[tree_id][node.parent_id].children.append(node.node_id)
    _check_are_here(transaction, set(ids) - trees.keys())
    return trees


def _check_are_here(transaction: Transaction, missing: set[int]) -> None:
    if missing:
        archived_trees.check_trees_are_here(transaction, missing)


def load_labels(
    transaction: Transaction, tree_ids: Iterable[int]
) -> dict[int, tuple[dict[int, Verdict], dict[int, StepLabel]]]:
    """Return verdicts and labels of labelled trees, by tree and node.

    Raises:
        InputError: if the trees of their run are archived.
    """
    ids = list(tree_ids)
    statement = select(
        NODES.c.tree_id,
        NODES.c.node_id,
        NODES.c.verdict,
        NODES.c.reasoning_distance,
        NODES.c.step_is_right,
        NODES.c.weighted_reward,
        NODES.c.quality_value,
    ).where(NODES.c.tree_id.in_(ids))
    found: dict[int, tuple[dict[int, Verdict], dict[int, StepLabel]]] = defaultdict(lambda: ({}, {}))
    for row in transaction.execute(statement):
        verdicts, labels = found[row.tree_id]
        if row.verdict is not None:
            verdicts[row.node_id] = Verdict(row.verdict)
        if row.quality_value is not None:
            labels[row.node_id] = StepLabel(
                row.reasoning_distance, row.step_is_right, row.weighted_reward, row.quality_value
            )
    _check_are_here(transaction, set(ids) - found.keys())
    return found


def load_scores(transaction: Transaction, tree_ids: Iterable[int]) -> dict[int, dict[int, float]]:
    """Return the scores of the verdicts of labelled trees, by tree and node; those of runs that an
    older version labelled are not known.
    """
    statement = select(NODES.c.tree_id, NODES.c.node_id, NODES.c.score)
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for row in transaction.execute(statement.where(NODES.c.tree_id.in_(list(tree_ids)), NODES.c.score.is_not(None))):
        found[row.tree_id][row.node_id] = row.score
    return found


def runs_of(transaction: Transaction, tree_ids: Sequence[int]) -> list[int]:
    """Return the ids of the runs that the trees belong to."""
    return list(transaction.execute(select(TREES.c.run_id).where(TREES.c.id.in_(list(tree_ids))).distinct()).scalars())
