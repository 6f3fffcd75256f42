"""Where the verdicts of a run come from, and what they are worth: one read for whoever shows it."""

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import JsonObject
from restmcts.adapters.sql.state import truth_ledger
from restmcts.domain.truth.ledger import RunTruth, summarise_truth

OF_THE_TASK = ("answers", "tests")


def source_of_verdicts(config: JsonObject) -> str | None:
    """Return what the verdicts of a run rest on; None: true answers give them all.

    Args:
        config: the run's.
    """
    settings = config.get("regraded", {}).get("truth") or config.get("truth") or {}
    source = settings.get("source", OF_THE_TASK[0])
    return None if source in OF_THE_TASK else str(source)


def read_truth(transaction: Transaction, run_id: int, config: JsonObject) -> RunTruth | None:
    """Return where the verdicts of a run come from; None: true answers give them all.

    Args:
        config: the run's.
    """
    source = source_of_verdicts(config)
    if source is None:
        return None
    iterations = summarise_truth(truth_ledger.entries_of(transaction, run_id))
    is_checked = config.get("probe_set") is not None or any(one.is_checked for one in iterations)
    return RunTruth(source, is_checked, iterations)
