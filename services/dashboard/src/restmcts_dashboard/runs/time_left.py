"""How long a run still takes: what a terminal that had watched it would say, from the times that
are recorded of its phases and trees.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import progress
from restmcts.adapters.sql.rows import StoredPhase, StoredRun
from restmcts.adapters.sql.state.runs import phases_of
from restmcts.adapters.sql.state.trees import TREES
from restmcts.reporting.time_left import RecordedPhase, recorded_time_left, timed_phase
from sqlalchemy import Integer, case, cast, extract, func, select

NUM_STRETCHES = 100
"""Of the time since a run was last started, in each of which the trees that ended are counted."""
LEAST_SHARE = 1e-9
"""Of a training whose first step is done: what comes before loads libraries and models."""

Counts = Mapping[int, Sequence[tuple[float, int]]]
"""By phase: moments, and how many of its trees had ended then."""


def seconds_left(transaction: Transaction, run: StoredRun, started: datetime | None, until: datetime) -> float | None:
    """Return the seconds that a run still takes; None as long as too little is known.

    Args:
        started: when it did; None: it has not.
        until: the present, or the end of the run's last work if nothing works on it.
    """
    if started is None:
        return None
    starts = [datetime.fromisoformat(one["when"]) for one in run.provenance or ()]
    begin, now = max([started, *(one for one in starts if one < until)]).timestamp(), until.timestamp()
    known = {phase.name: phase for phase in progress.read(transaction, run.id).phases}
    ended = _ended_trees(transaction, run.id, begin, max((now - begin) / NUM_STRETCHES, 1.0))
    recorded = [_recorded(row, known[row.name], ended) for row in phases_of(transaction, run.id)]
    return recorded_time_left(recorded, begin, now)


def _ended_trees(transaction: Transaction, run_id: int, begin: float, width: float) -> Counts:
    """Count the trees that ended in stretches of `width` seconds."""
    ended = extract("epoch", TREES.c.ended_at)
    stretch = case((ended < begin, -1), else_=cast((ended - begin) / width, Integer)).label("stretch")
    each = select(TREES.c.phase_id, stretch).where(TREES.c.run_id == run_id, TREES.c.ended_at.is_not(None)).subquery()
    keys = (each.c.phase_id, each.c.stretch)
    found: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for phase_id, place, number in transaction.execute(select(*keys, func.count()).group_by(*keys).order_by(*keys)):
        found[phase_id].append((begin + (place + 1) * width, int(number)))
    return {
        phase_id: [
            (when, number)
            for (when, _), number in zip(counted, accumulate(number for _, number in counted), strict=True)
        ]
        for phase_id, counted in found.items()
    }


def _recorded(row: StoredPhase, phase: progress.PhaseProgress, ended: Counts) -> RecordedPhase:
    begin, end = (one.timestamp() if one is not None else None for one in (row.started_at, row.finished_at))
    shares = [(when, number / phase.num_trees) for when, number in ended.get(row.id, ())]
    seconds = row.result.get("seconds")
    if row.kind != "search" and end is not None and seconds:
        shares = [(end - seconds, LEAST_SHARE)]
    return RecordedPhase(timed_phase(phase), begin, end, shares)
