"""A run's trees once more, for other verdicts: copied as a run of its own, and compared with what
they came from.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, FromClause, Select, Table, insert, literal, select, update

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import Columns, JsonObject, StoredRun
from restmcts.adapters.sql.state import archived_trees, runs
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import NODES, PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import NodeOrigin, PhaseState, RunState, TreeState

_OLD_PROBLEMS, _OLD_PHASES, _OLD_TREES, _OLD_NODES = (
    table.alias(f"old_{table.name}") for table in (PROBLEMS, PHASES, TREES, NODES)
)
_LABELS = frozenset(
    (
        "verdict",
        "score",
        "verdict_source",
        "reason",
        "reasoning_distance",
        "step_is_right",
        "weighted_reward",
        "quality_value",
    )
)


@dataclass(frozen=True, slots=True)
class TreePair:
    """A tree and its copy, by number; `was_solved` is of the first."""

    old_id: int
    new_id: int
    was_solved: bool | None


def copy_run(transaction: Transaction, run: StoredRun, name: str, by: JsonObject) -> int:
    """Copy a run's problems, its searches that have ended and their labelled trees, without their
    verdicts and labels; return the new run's id. It is paused: there is nothing to search.

    Args:
        by: what it is graded by, which is stored with it.

    Raises:
        InputError: if a run has that name, or the trees of this one are archived.
    """
    archived_trees.check_run_is_here(transaction, run.id)
    config = {**run.config, "regraded": by}
    new_id = runs.create_run(transaction, name, run.method, run.seed, config)
    transaction.execute(
        update(RUNS)
        .where(RUNS.c.id == new_id)
        .values(state=RunState.PAUSED.value, notified_state=RunState.PAUSED.value)
    )
    _copy(
        transaction,
        PROBLEMS,
        _OLD_PROBLEMS,
        {"run_id": literal(new_id)},
        _OLD_PROBLEMS,
        _OLD_PROBLEMS.c.run_id == run.id,
    )
    _point_to_copies(transaction, new_id)
    searched = select(TREES.c.phase_id).where(TREES.c.run_id == run.id)
    done: Columns = {"run_id": literal(new_id), "state": literal(PhaseState.DONE.value), "lease_until": literal(None)}
    _copy(transaction, PHASES, _OLD_PHASES, done, _OLD_PHASES, _OLD_PHASES.c.id.in_(searched))
    _copy_trees(transaction, run.id, new_id)
    return new_id


def _copy_trees(transaction: Transaction, old_run: int, new_run: int) -> None:
    ended: Columns = {name: literal(None) for name in ("answer", "verdict", "solved")}
    ended |= {"run_id": literal(new_run), "state": literal(TreeState.ENDED.value)}
    places: Columns = {"phase_id": PHASES.c.id, "problem_id": PROBLEMS.c.id}
    labelled = _OLD_TREES.c.state == TreeState.LABELLED.value
    source = _with_copies(new_run)
    _copy(transaction, TREES, _OLD_TREES, {**ended, **places}, source, (_OLD_TREES.c.run_id == old_run) & labelled)
    copies = source.join(TREES, (TREES.c.phase_id == PHASES.c.id) & (TREES.c.problem_id == PROBLEMS.c.id))
    nodes = copies.join(_OLD_NODES, _OLD_NODES.c.tree_id == _OLD_TREES.c.id)
    # The nodes of given solutions are added again as the tree is labelled.
    searched = _OLD_NODES.c.origin.not_in([NodeOrigin.SOLUTION.value, NodeOrigin.GIVEN_OBSERVATION.value])
    unlabelled: Columns = {name: literal(None) for name in _LABELS}
    which = (_OLD_TREES.c.run_id == old_run) & searched
    _copy(transaction, NODES, _OLD_NODES, {**unlabelled, "tree_id": TREES.c.id}, nodes, which)


def _with_copies(new_run: int) -> FromClause:
    """Return the old trees beside the new phase and the new problem of each."""
    return (
        _OLD_TREES.join(_OLD_PHASES, _OLD_PHASES.c.id == _OLD_TREES.c.phase_id)
        .join(PHASES, (PHASES.c.run_id == new_run) & (PHASES.c.name == _OLD_PHASES.c.name))
        .join(_OLD_PROBLEMS, _OLD_PROBLEMS.c.id == _OLD_TREES.c.problem_id)
        .join(
            PROBLEMS,
            (PROBLEMS.c.run_id == new_run)
            & (PROBLEMS.c.set_name == _OLD_PROBLEMS.c.set_name)
            & (PROBLEMS.c.position == _OLD_PROBLEMS.c.position),
        )
    )


def _point_to_copies(transaction: Transaction, new_run: int) -> None:
    """Let derived problems name the copies of those that they are derived from."""
    original = PROBLEMS.alias("original_copy")
    same_place = (original.c.set_name == _OLD_PROBLEMS.c.set_name) & (original.c.position == _OLD_PROBLEMS.c.position)
    copy_of = (
        select(original.c.id)
        .select_from(original.join(_OLD_PROBLEMS, same_place))
        .where(original.c.run_id == new_run, _OLD_PROBLEMS.c.id == PROBLEMS.c.derived_from)
        .scalar_subquery()
    )
    derived = (PROBLEMS.c.run_id == new_run) & PROBLEMS.c.derived_from.is_not(None)
    transaction.execute(update(PROBLEMS).where(derived).values(derived_from=copy_of))


def _copy(
    transaction: Transaction,
    table: Table,
    old: FromClause,
    changed: Columns,
    source: FromClause,
    which: ColumnElement[bool],
) -> None:
    """Copy rows of a table with some columns changed; keys that the database gives are new."""
    names = [column.name for column in table.columns if column.name != "id"]
    rows: Select[tuple[object, ...]] = select(*(changed.get(name, old.c[name]) for name in names))
    transaction.execute(
        insert(table).from_select(names, rows.select_from(source).where(which).order_by(old.c[_key(table)]))
    )


def _key(table: Table) -> str:
    return "id" if "id" in table.c else "tree_id"


def trees_to_grade(transaction: Transaction, old_run: int, new_run: int, limit: int) -> list[TreePair]:
    """Return the next trees of a copied run that have no verdicts yet, with what they are of; the
    cost does not grow with the run.
    """
    ended = (TREES.c.run_id == new_run) & (TREES.c.state == TreeState.ENDED.value)
    batch = select(TREES.c.id, TREES.c.phase_id, TREES.c.problem_id).where(ended).order_by(TREES.c.id).limit(limit)
    new = batch.subquery("new")
    statement = (
        select(_OLD_TREES.c.id.label("old_id"), new.c.id.label("new_id"), _OLD_TREES.c.solved.label("was_solved"))
        .join(PHASES, PHASES.c.id == new.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == new.c.problem_id)
        .join(_OLD_PHASES, (_OLD_PHASES.c.run_id == old_run) & (_OLD_PHASES.c.name == PHASES.c.name))
        .join(
            _OLD_PROBLEMS,
            (_OLD_PROBLEMS.c.run_id == old_run)
            & (_OLD_PROBLEMS.c.set_name == PROBLEMS.c.set_name)
            & (_OLD_PROBLEMS.c.position == PROBLEMS.c.position),
        )
        .join(
            _OLD_TREES,
            (_OLD_TREES.c.phase_id == _OLD_PHASES.c.id) & (_OLD_TREES.c.problem_id == _OLD_PROBLEMS.c.id),
        )
        .order_by(new.c.id)
    )
    return transaction.rows(TreePair, statement)
