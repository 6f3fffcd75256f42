"""How far a run is: one read for whoever shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select

from restmcts.adapters.sql import token_budget
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.runs import phases_of
from restmcts.adapters.sql.tables import PhaseState, TreeState
from restmcts.adapters.sql.trees import RUNS, TREES


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """One phase: counts of its trees (0 for training), and its result once it has one."""

    name: str
    kind: str
    state: str
    iteration: int
    num_trees: int
    num_done: int
    num_solved: int
    num_failed: int
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """All phases in order, and sums over all trees of the run.

    Attributes:
        state: the run's.
        max_tokens: the run's token budget; None: it has none.
        tokens_spent: of that budget; 0 without one.
    """

    phases: tuple[PhaseProgress, ...]
    tokens: int
    nodes: int
    state: str
    max_tokens: int | None
    tokens_spent: int

    @property
    def iteration(self) -> int:
        """The iteration of the last phase that has begun."""
        return max((phase.iteration for phase in self.phases if phase.state != PhaseState.PENDING), default=0)

    @property
    def num_done(self) -> int:
        return sum(phase.num_done for phase in self.phases)

    @property
    def num_solved(self) -> int:
        return sum(phase.num_solved for phase in self.phases)

    @property
    def share_done(self) -> float:
        """The share of the phases that are done, those under way by their trees; in [0, 1]."""
        return share_done([(phase.state, phase.num_done, phase.num_trees) for phase in self.phases])


def share_done(phases: Sequence[tuple[str, int, int]]) -> float:
    """Return the share of phases that are done, those under way by their trees; each is given
    as (state, trees done, trees).
    """
    done = 0.0
    for state, num_done, num_trees in phases:
        if state in (PhaseState.DONE, PhaseState.SKIPPED, PhaseState.FAILED):
            done += 1.0
        elif num_trees:
            done += num_done / num_trees
    return done / max(len(phases), 1)


def read(transaction: Transaction, run_id: int) -> RunProgress:
    """Return the progress of a run."""

    def count(condition: Any) -> Any:
        return func.sum(case((condition, 1), else_=0))

    done = TREES.c.state.in_([TreeState.LABELLED.value, TreeState.FAILED.value])
    statement = (
        select(
            TREES.c.phase_id,
            func.count().label("trees"),
            count(done).label("done"),
            count(TREES.c.solved.is_(True)).label("solved"),
            count(TREES.c.state == TreeState.FAILED.value).label("failed"),
            func.sum(TREES.c.tokens).label("tokens"),
            func.sum(TREES.c.nodes).label("nodes"),
        )
        .where(TREES.c.run_id == run_id)
        .group_by(TREES.c.phase_id)
    )
    counts = {row.phase_id: row for row in transaction.execute(statement)}
    phases = tuple(_phase(row, counts.get(row.id)) for row in phases_of(transaction, run_id))
    tokens = sum(int(row.tokens) for row in counts.values())
    nodes = sum(int(row.nodes) for row in counts.values())
    run = transaction.execute(select(RUNS.c.state, RUNS.c.max_tokens).where(RUNS.c.id == run_id)).one()
    spent = token_budget.spent(transaction, run_id) if run.max_tokens is not None else 0
    return RunProgress(phases, tokens, nodes, run.state, run.max_tokens, spent)


def _phase(row: Any, counts: Any | None) -> PhaseProgress:
    names = ("trees", "done", "solved", "failed")
    numbers = {f"num_{name}": int(getattr(counts, name)) if counts is not None else 0 for name in names}
    return PhaseProgress(row.name, row.kind, row.state, row.iteration, result=row.result, **numbers)
