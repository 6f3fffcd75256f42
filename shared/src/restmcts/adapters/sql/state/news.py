"""Runs whose state somebody is to be notified of."""

from dataclasses import dataclass

from sqlalchemy import exists, select, update

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.state.blocks import BLOCKED, BLOCKS, SHOWN_ERROR
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.adapters.sql.tables import RunState

NOTIFIED = (RunState.DONE.value, RunState.FAILED.value, RunState.PAUSED.value)
SECONDS_BLOCKED = 60.0
"""What is kept from a run for less than this is no news: it is tried again meanwhile."""


@dataclass(frozen=True, slots=True)
class News:
    """A run in a state that nobody was notified of, and why it is in it."""

    id: int
    name: str
    method: str
    state: str
    why: str | None


def forget_ended_blocks(transaction: Transaction) -> None:
    """Let a run that goes on again be news when it is blocked the next time."""
    blocked = exists().where(BLOCKS.c.run_id == RUNS.c.id)
    was = (RUNS.c.notified_state == BLOCKED) & (RUNS.c.state == RunState.RUNNING.value) & ~blocked
    ids = list(transaction.execute(select(RUNS.c.id).where(was)).scalars())
    if ids:
        transaction.execute(update(RUNS).where(RUNS.c.id.in_(ids)).values(notified_state=None))


def news(transaction: Transaction) -> list[News]:
    """Return the runs that are news, the oldest first."""
    columns = (RUNS.c.id, RUNS.c.name, RUNS.c.method, RUNS.c.state, RUNS.c.error.label("why"))
    unknown = RUNS.c.notified_state.is_distinct_from(RUNS.c.state)
    found = transaction.rows(News, select(*columns).where(RUNS.c.state.in_(NOTIFIED), unknown))
    since = exists().where(BLOCKS.c.run_id == RUNS.c.id, BLOCKS.c.since <= moment(-SECONDS_BLOCKED))
    waiting = (RUNS.c.state == RunState.RUNNING.value) & RUNS.c.notified_state.is_distinct_from(BLOCKED) & since
    blocked = select(RUNS.c.id, RUNS.c.name, RUNS.c.method, SHOWN_ERROR).select_from(RUNS).where(waiting)
    found += [News(row.id, row.name, row.method, BLOCKED, row.error) for row in transaction.execute(blocked)]
    return sorted(found, key=lambda one: one.id)


def set_notified(transaction: Transaction, run_id: int, state: str) -> None:
    """Note that somebody was notified of a run's state, if it is still in it."""
    still = RunState.RUNNING.value if state == BLOCKED else state
    changed = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.state == still)
    transaction.execute(changed.values(notified_state=state))
