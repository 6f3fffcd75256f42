"""What runs need and cannot have now: a model, a store, a plugin. A running run is shown as blocked
while there is any of it.

Whoever cannot have something notes it here, with the reason. It is asked for again after a pause
that doubles each time, and struck out by whoever has it at last; all else of the run goes on.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ScalarSelect, Select, case, delete, exists, func, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.stack_tables import BlockRow
from restmcts.adapters.sql.tables import CheckpointRow, Need, Run, RunState
from restmcts.domain.text import escaped_text

BLOCKS = table_of(BlockRow)
_RUNS = table_of(Run)
_CHECKPOINTS = table_of(CheckpointRow)

FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 300.0

BLOCKED = "blocked"
"""The state in which a running run is shown that something is kept from."""


@dataclass(frozen=True, slots=True)
class Block:
    """Something that a run cannot have, since when, and when it is asked for again."""

    need: str
    need_id: int
    reason: str
    num_tries: int
    since: datetime
    retry_at: datetime


_is_blocked = (_RUNS.c.state == RunState.RUNNING.value) & exists().where(BLOCKS.c.run_id == _RUNS.c.id)
_first_reason: ScalarSelect[str] = (
    select(BLOCKS.c.reason).where(BLOCKS.c.run_id == _RUNS.c.id).order_by(BLOCKS.c.id).limit(1).scalar_subquery()
)
SHOWN_STATE = case((_is_blocked, literal(BLOCKED)), else_=_RUNS.c.state).label("state")
"""The state of a run for people; where runs are selected from."""

SHOWN_ERROR = case((_is_blocked, _first_reason), else_=_RUNS.c.error).label("error")
"""Why a run failed, was paused by itself, or is blocked."""


def block(transaction: Transaction, run_id: int, need: Need, need_id: int, reason: str) -> float:
    """Note that a run cannot have something now; return for how many seconds it is not asked for
    again.

    Of several that find that out at the same time one counts.
    """
    known = select(BLOCKS.c.num_tries).where(BLOCKS.c.need == need.value, BLOCKS.c.need_id == need_id)
    num_tries = transaction.execute(known).scalar() or 0
    pause_seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(num_tries, 16), MAX_PAUSE_SECONDS)
    is_sqlite = transaction.connection.dialect.name == "sqlite"
    statement = (sqlite.insert if is_sqlite else postgresql.insert)(BLOCKS).values(
        run_id=run_id,
        need=need.value,
        need_id=need_id,
        reason=escaped_text(reason),
        num_tries=1,
        since=moment(),
        retry_at=moment(pause_seconds),
    )
    again = {
        "reason": statement.excluded.reason,
        "num_tries": BLOCKS.c.num_tries + 1,
        "retry_at": statement.excluded.retry_at,
    }
    transaction.execute(
        statement.on_conflict_do_update(
            index_elements=["need", "need_id"], set_=again, where=BLOCKS.c.retry_at <= moment()
        )
    )
    return pause_seconds


def block_checkpoint(transaction: Transaction, checkpoint_id: int, reason: str) -> None:
    """Note that the model of a checkpoint is not available now."""
    run_id = transaction.execute(select(_CHECKPOINTS.c.run_id).where(_CHECKPOINTS.c.id == checkpoint_id)).scalar()
    if run_id is not None:
        block(transaction, run_id, Need.CHECKPOINT, checkpoint_id, reason)


def unblock(transaction: Transaction, need: Need, need_id: int) -> None:
    """Delete the blocks of what is available again."""
    transaction.execute(delete(BLOCKS).where(BLOCKS.c.need == need.value, BLOCKS.c.need_id == need_id))


def unblock_run(transaction: Transaction, run_id: int) -> None:
    """Strike out all that a run could not have: it has ended."""
    transaction.execute(delete(BLOCKS).where(BLOCKS.c.run_id == run_id))


def retry_now(transaction: Transaction, run_id: int | None = None) -> None:
    """Let all that a run cannot have, or any run, be asked for at once."""
    statement = update(BLOCKS).values(retry_at=moment())
    transaction.execute(statement.where(BLOCKS.c.run_id == run_id) if run_id is not None else statement)


def not_due(need: Need) -> Select[tuple[int]]:
    """Return the query for the ids of what is not to be asked for yet."""
    return select(BLOCKS.c.need_id).where(BLOCKS.c.need == need.value, BLOCKS.c.retry_at > moment())


def blocks_of(transaction: Transaction, run_id: int) -> list[Block]:
    """Return what a run cannot have, the oldest first."""
    columns = (BLOCKS.c[name] for name in Block.__dataclass_fields__)
    return transaction.rows(Block, select(*columns).where(BLOCKS.c.run_id == run_id).order_by(BLOCKS.c.id))


def seconds_to_next_retry(transaction: Transaction, run_id: int) -> float | None:
    """Return for how long nothing that a run cannot have is asked for; None if it lacks nothing."""
    first = transaction.execute(select(func.min(BLOCKS.c.retry_at)).where(BLOCKS.c.run_id == run_id)).scalar()
    return max((first - transaction.now()).total_seconds(), 0.0) if first is not None else None
