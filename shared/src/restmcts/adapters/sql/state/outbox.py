"""Messages that a committed transaction decided on: there until the broker has them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import OUTBOX, Transaction

MAX_ROWS = 500


def remove(transaction: Transaction, outbox_ids: Sequence[int]) -> None:
    """Forget messages that the broker has."""
    transaction.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(list(outbox_ids))))


@dataclass(frozen=True, slots=True)
class OverdueMessage:
    """A message that nobody has published yet."""

    id: int
    name: str
    body: str


def overdue(transaction: Transaction, seconds: float) -> list[OverdueMessage]:
    """Return, locked, the oldest messages that nobody has published for so long, but for those
    that others hold.
    """
    statement = select(OUTBOX.c.id, OUTBOX.c.name, OUTBOX.c.body).where(OUTBOX.c.created_at < moment(-seconds))
    statement = statement.order_by(OUTBOX.c.id).limit(MAX_ROWS)
    return transaction.rows(OverdueMessage, statement.with_for_update(skip_locked=True))
