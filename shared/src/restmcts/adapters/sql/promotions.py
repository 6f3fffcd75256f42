"""Which checkpoint of each kind a run goes on with: the promoted one, and how it came to be that."""

from typing import Any

from sqlalchemy import insert, select

from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.runs import CHECKPOINTS
from restmcts.adapters.sql.tables import PromotionRow, now

PROMOTIONS = table_of(PromotionRow)


def promoted(transaction: Transaction, run_id: int, kind: str) -> Any | None:
    """Return the row of the checkpoint of that kind ("policy", "value") that is promoted in the run; None before the first."""
    statement = (
        select(CHECKPOINTS)
        .join(PROMOTIONS, PROMOTIONS.c.checkpoint_id == CHECKPOINTS.c.id)
        .where(PROMOTIONS.c.run_id == run_id, PROMOTIONS.c.kind == kind)
        .order_by(PROMOTIONS.c.id.desc())
        .limit(1)
    )
    return transaction.execute(statement).first()


def promote(transaction: Transaction, checkpoint: Any, phase_id: int | None = None) -> None:
    """Make a checkpoint (its row) the promoted one of its run and kind; `phase_id` is the gate's, None: a person's decision."""
    values = {"run_id": checkpoint.run_id, "kind": checkpoint.kind, "checkpoint_id": checkpoint.id, "phase_id": phase_id}
    transaction.execute(insert(PROMOTIONS).values(**values, created_at=now()))


def history(transaction: Transaction, run_id: int) -> list[Any]:
    """Return the run's promotions in order, each with the checkpoint's name."""
    statement = (
        select(CHECKPOINTS.c.name.label("checkpoint"), PROMOTIONS)
        .join(CHECKPOINTS, CHECKPOINTS.c.id == PROMOTIONS.c.checkpoint_id)
        .where(PROMOTIONS.c.run_id == run_id)
        .order_by(PROMOTIONS.c.id)
    )
    return list(transaction.execute(statement).all())
