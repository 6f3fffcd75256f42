"""Jobs that need what is not available now: their run is blocked with the reason, and they are
tried again after a pause, as often as it takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from restmcts.adapters.models.interruption import InterruptedCallError
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import blocks, runs
from restmcts.adapters.sql.tables import Need, PhaseState
from restmcts.errors import RestMctsError, is_unavailable, reason_of


@contextmanager
def blocking(database: Database, phase_id: int) -> Iterator[None]:
    """Let what is not available within the block be what blocks a phase, unless the phase went on
    meanwhile; it is raised again.
    """
    try:
        yield
    except RestMctsError as error:
        if is_unavailable(error) and not isinstance(error, InterruptedCallError):
            with database.transaction() as transaction:
                row = runs.phase_by_id(transaction, phase_id, lock=True)
                if row is not None and row.state in (PhaseState.WRITING, PhaseState.PROMOTING):
                    block_phase(transaction, row.run_id, phase_id, reason_of(error), attempt=0)
        raise


def block_phase(transaction: Transaction, run_id: int, phase_id: int, reason: str, *, attempt: int) -> None:
    """Note what a job cannot have; its lease keeps everybody from it until it is due again.

    Args:
        attempt: to which this one is counted back.
    """
    row = runs.phase_by_id(transaction, phase_id)
    if row is not None:
        pause_seconds = blocks.block(transaction, run_id, Need.PHASE, phase_id, reason)
        values = {"attempt": attempt, "lease_until": moment(pause_seconds)}
        runs.set_phase(transaction, phase_id, PhaseState(row.state), **values)
