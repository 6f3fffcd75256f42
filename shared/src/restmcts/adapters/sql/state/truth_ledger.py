"""What a run accepted as true, tree by tree, where it did not know the true answers."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, insert, select

from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import columns
from restmcts.adapters.sql.tables import TruthLedgerRow
from restmcts.domain.truth.ledger import LedgerEntry

LEDGER = table_of(TruthLedgerRow)


def write(transaction: Transaction, run_ids: Mapping[int, int], entries: Mapping[int, LedgerEntry]) -> None:
    """Write what trees were found to say, by tree; what is known of them already is replaced.

    Args:
        run_ids: of the trees.
    """
    if not entries:
        return
    transaction.execute(delete(LEDGER).where(LEDGER.c.tree_id.in_(list(entries))))
    rows = [
        {
            "tree_id": tree_id,
            "run_id": run_ids[tree_id],
            "digest": entry.digest,
            "iteration": entry.iteration,
            "answer": entry.answer,
            "agreement": entry.agreement,
            "is_probe": entry.is_probe,
        }
        for tree_id, entry in entries.items()
    ]
    transaction.execute(insert(LEDGER), rows)


def entries_of(transaction: Transaction, run_id: int) -> list[LedgerEntry]:
    """Return all entries of a run, in order of tree."""
    statement = select(*columns(LedgerEntry, LEDGER)).where(LEDGER.c.run_id == run_id)
    return transaction.rows(LedgerEntry, statement.order_by(LEDGER.c.tree_id))


def answers_by_problem(transaction: Transaction, run_id: int, digests: Sequence[str]) -> dict[str, list[str]]:
    """Return what was accepted as true of some problems of a run by digest, the earliest first."""
    statement = select(LEDGER.c.digest, LEDGER.c.answer).where(
        LEDGER.c.run_id == run_id, LEDGER.c.digest.in_(list(digests)), LEDGER.c.answer.is_not(None)
    )
    found: dict[str, list[str]] = {}
    for row in transaction.execute(statement.order_by(LEDGER.c.iteration, LEDGER.c.tree_id)):
        found.setdefault(row.digest, []).append(row.answer)
    return found
