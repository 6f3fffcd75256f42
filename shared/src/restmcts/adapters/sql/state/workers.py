"""What the processes of the stack report of themselves, for people to see; nothing is decided by
it.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.stack_tables import WorkerRow

WORKERS = table_of(WorkerRow)


def report(transaction: Transaction, row: Mapping[str, Any]) -> None:
    """Write a worker's row, or write it anew."""
    transaction.upsert(WORKERS, [row], ("id",))


def forget(transaction: Transaction, worker_id: str) -> None:
    """Remove the row of a worker that ends."""
    transaction.execute(delete(WORKERS).where(WORKERS.c.id == worker_id))


def forget_silent(transaction: Transaction, seconds: float) -> None:
    """Remove the rows of workers that have reported nothing for so long: they were killed."""
    transaction.execute(delete(WORKERS).where(WORKERS.c.seen_at < moment(-seconds)))
