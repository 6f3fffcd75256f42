"""Whether a run without true answers may learn from what it accepted as true: decided once the
trees of an iteration are labelled, before anything is trained on them.
"""

from collections.abc import Sequence

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import StoredPhase, StoredRun
from restmcts.adapters.sql.state import runs, truth_ledger
from restmcts.adapters.sql.tables import PhaseState
from restmcts.domain.runs.phases import PHASE, SearchPhase
from restmcts.domain.truth.ledger import summarise_truth, why_stop

_OPEN = (PhaseState.PENDING, PhaseState.SEARCHING)


def awaits_truth(rows: Sequence[StoredPhase], iteration: int) -> bool:
    """Return whether trees of an iteration whose verdicts no true answer gives are not labelled
    yet; its trainings wait for them.
    """
    return any(row.state in _OPEN and _is_doubtful(row, iteration) for row in rows)


def _is_doubtful(row: StoredPhase, iteration: int) -> bool:
    if row.kind != "search" or row.iteration != iteration:
        return False
    phase = PHASE.validate_python(row.spec)
    return isinstance(phase, SearchPhase) and not phase.truth.knows_answers


def pause_if_doubtful(transaction: Transaction, run: StoredRun, phase: SearchPhase) -> bool:
    """Pause a running run, which this transaction has locked, if the verdicts of an iteration whose
    last trees are labelled now are not to be trusted; return whether. Resumed by a person, it goes
    on with them.
    """
    rows = runs.phases_of(transaction, run.id)
    if phase.truth.knows_answers or awaits_truth(rows, phase.iteration):
        return False
    summaries = summarise_truth(truth_ledger.entries_of(transaction, run.id))
    reason = why_stop([one for one in summaries if one.iteration <= phase.iteration], phase.truth)
    if reason is not None:
        runs.pause_run(transaction, run.id, reason)
    return reason is not None
