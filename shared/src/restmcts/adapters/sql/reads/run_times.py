"""When runs began and last changed, and how long they took: one answer for all who show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, ColumnElement, func, select, true

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import ENDED_PHASES
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState


@dataclass(frozen=True, slots=True)
class RunTimes:
    """Two moments of a run.

    Attributes:
        started: when its first phase began, and not before the run was made: a copy of a run has
            phases that are older than itself; None: none has.
        last_change: its end; of a run that has not ended when a phase or a tree of it last changed.
    """

    started: datetime | None
    last_change: datetime

    def seconds(self, now: datetime | None = None) -> float | None:
        """Return how long the run took from its start to its last change, or to `now` if that is
        given; pauses are part of it. None: it has not started.
        """
        if self.started is None:
            return None
        return max(((now or self.last_change) - self.started).total_seconds(), 0.0)


def among(column: Column[int], ids: Sequence[int] | None) -> ColumnElement[bool]:
    """Return a condition that holds for some rows, or for all; long lists of numbers are slow."""
    return column.in_(ids) if ids is not None else true()


def run_times(transaction: Transaction, run_ids: Sequence[int] | None) -> dict[int, RunTimes]:
    """Return the times of runs, or of all runs, by their ids. Of trees those of phases under way
    are read alone: the others' times are those of their phases.
    """
    under_way = PHASES.c.state.not_in((*ENDED_PHASES, PhaseState.PENDING.value))
    changes = (PHASES.c.finished_at, PHASES.c.started_at)
    of_phases = (
        select(RUNS.c.id, func.min(PHASES.c.started_at), RUNS.c.finished_at, *map(func.max, changes), RUNS.c.created_at)
        .outerjoin(PHASES, PHASES.c.run_id == RUNS.c.id)
        .where(among(RUNS.c.id, run_ids))
        .group_by(RUNS.c.id, RUNS.c.finished_at, RUNS.c.created_at)
    )
    of_trees = (
        select(TREES.c.run_id, func.max(TREES.c.ended_at), func.max(TREES.c.updated_at))
        .where(TREES.c.phase_id.in_(select(PHASES.c.id).where(among(PHASES.c.run_id, run_ids), under_way)))
        .group_by(TREES.c.run_id)
    )
    trees = {number: times for number, *times in transaction.execute(of_trees)}
    found = {}
    for number, began, finished, *changed, created in transaction.execute(of_phases):
        last = finished or max(one for one in (*changed, created, *trees.get(number, ())) if one is not None)
        found[number] = RunTimes(max(began, created) if began is not None else None, last)
    return found
