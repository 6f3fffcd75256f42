"""What the trees of a phase have come to: the one count that every summary is made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, case, func, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import Condition
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import TreeState
from restmcts.domain.problems import Verdict
from restmcts.domain.stats.estimates import Estimate, pooled_share

ENDED_TREES = (TreeState.LABELLED.value, TreeState.FAILED.value)


@dataclass(frozen=True, slots=True)
class TreeCounts:
    """Counts of the trees of one phase, and sums of what they have spent so far.

    Attributes:
        done: labelled or failed.
        solved: with at least one right leaf.
        right: whose chosen answer is right; `wrong` and `undecided` likewise.
        most_tokens: that any of them has spent.
        open_tokens: spent by those that are not done.
    """

    trees: int = 0
    done: int = 0
    failed: int = 0
    solved: int = 0
    right: int = 0
    wrong: int = 0
    undecided: int = 0
    most_tokens: int = 0
    open_tokens: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    scored_tokens: int = 0
    model_calls: int = 0
    nodes: int = 0
    iterations: int = 0
    seconds: float = 0.0


def count_if(condition: Condition) -> ColumnElement[int]:
    """Return how many rows of a group meet a condition."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


_COUNTED = {
    "trees": func.count(),
    "done": count_if(TREES.c.state.in_(ENDED_TREES)),
    "failed": count_if(TREES.c.state == TreeState.FAILED.value),
    "solved": count_if(TREES.c.solved.is_(True)),
    **{verdict.value: count_if(TREES.c.verdict == verdict.value) for verdict in Verdict},
    "most_tokens": func.coalesce(func.max(TREES.c.tokens), 0),
    "open_tokens": func.coalesce(func.sum(case((TREES.c.state.in_(ENDED_TREES), 0), else_=TREES.c.tokens)), 0),
}
_SPENT = [field.name for field in fields(TreeCounts) if field.name not in _COUNTED]
_COUNTS = select(
    *(count.label(name) for name, count in _COUNTED.items()),
    *(func.coalesce(func.sum(TREES.c[name]), 0).label(name) for name in _SPENT),
)


def tree_counts(transaction: Transaction, run_id: int) -> dict[int, TreeCounts]:
    """Return the counts of the phases of a run that have trees, by the phase's id."""
    statement = _COUNTS.add_columns(TREES.c.phase_id).where(TREES.c.run_id == run_id).group_by(TREES.c.phase_id)
    found = (dict(row) for row in transaction.execute(statement).mappings())
    return {row.pop("phase_id"): _counts(row) for row in found}


def summarise_trees(transaction: Transaction, phase_id: int) -> dict[str, int | float]:
    """Return what a phase's trees came to: counts, verdicts on the chosen answers, and what was
    spent.
    """
    row = transaction.execute(_COUNTS.where(TREES.c.phase_id == phase_id)).mappings().one()
    counts = asdict(_counts(row))
    for of_open_phases in ("done", "open_tokens"):
        del counts[of_open_phases]
    return counts


def share_solved(transaction: Transaction, among: Condition) -> Estimate | None:
    """Return the share of ended trees that have a right end among those that meet a condition; None
    if there is none. Its error is over problems: trees of one problem are not independent.
    """
    statement = (
        select(count_if(TREES.c.solved.is_(True)), func.count())
        .outerjoin(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(among, TREES.c.state.in_(ENDED_TREES))
        .group_by(func.coalesce(PROBLEMS.c.derived_from, TREES.c.problem_id))
    )
    counts = [(int(solved), int(number)) for solved, number in transaction.execute(statement)]
    return pooled_share(counts) if counts else None


def _counts(row: Mapping[str, Any]) -> TreeCounts:
    # PostgreSQL adds bigints up to decimals.
    whole = {name: int(value) for name, value in row.items() if name != "seconds"}
    return TreeCounts(**whole, seconds=float(row["seconds"]))
