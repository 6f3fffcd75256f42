"""What a run with a token budget has generated, and whether that was all it may. What is asked for
counts before it is generated, at its limit, where requests are claimed
(`restmcts.adapters.sql.state.requests`): no run generates more than one answer beyond its budget.

Every transaction that advances trees of such a run adds a row with what they generated, so that no
two of them wait for one another; the coordinator, under the run's lock, makes one row of them. So a
look costs what happened since the last one, however many trees there are. Runs without a budget are
not counted here.
"""

from collections.abc import Mapping

from sqlalchemy import delete, func, insert, select, update

from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import StoredRun
from restmcts.adapters.sql.stack_tables import TokenCountRow
from restmcts.adapters.sql.state.runs import pause_run, phases_of
from restmcts.adapters.sql.state.trees import RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, TreeState
from restmcts.errors import InputError

COUNTS = table_of(TokenCountRow)
SPENT = "token budget of"


def record(transaction: Transaction, tokens: Mapping[int, int]) -> None:
    """Add what trees of runs with a budget have generated, by run id."""
    transaction.execute(
        insert(COUNTS), [{"run_id": run_id, "tokens": number} for run_id, number in tokens.items() if number]
    )


def spent(transaction: Transaction, run_id: int) -> int:
    """Return the tokens that the policy has generated for a run with a budget."""
    counted = select(func.coalesce(func.sum(COUNTS.c.tokens), 0)).where(COUNTS.c.run_id == run_id)
    return int(transaction.execute(counted).scalar_one())


def spent_by_run(transaction: Transaction) -> dict[int, int]:
    """Return what `spent` says, for all runs with a budget."""
    counted = func.coalesce(func.sum(COUNTS.c.tokens), 0)
    statement = select(RUNS.c.id, counted).outerjoin(COUNTS, COUNTS.c.run_id == RUNS.c.id)
    rows = transaction.execute(statement.where(RUNS.c.max_tokens.is_not(None)).group_by(RUNS.c.id))
    return {run_id: int(number) for run_id, number in rows}


def is_spent(reason: str | None) -> bool:
    """Return whether that is why a run was paused: a larger budget is then the way to resume it."""
    return reason is not None and reason.startswith(SPENT)


def set_limit(transaction: Transaction, run: StoredRun, max_tokens: int) -> None:
    """Give a run, which this transaction has locked, a token budget; what its trees have
    generated so far counts.
    """
    if run.max_tokens is None:
        so_far = select(func.coalesce(func.sum(TREES.c.tokens), 0)).where(TREES.c.run_id == run.id)
        record(transaction, {run.id: int(transaction.execute(so_far).scalar_one())})
    transaction.execute(update(RUNS).where(RUNS.c.id == run.id).values(max_tokens=max_tokens))


def pause_if_spent(transaction: Transaction, run: StoredRun) -> bool:
    """Pause a running run, which this transaction has locked, if its budget is spent and it would
    generate more; return whether.

    Its trees stay as they are, those under way too. A run that only labels, trains or evaluates
    goes on to its end.
    """
    if run.max_tokens is None or not _is_stopped(transaction, run.id, run.max_tokens, _settle(transaction, run.id)):
        return False
    reason = f"{SPENT} {run.max_tokens:,} spent ({spent(transaction, run.id):,} generated)"
    pause_run(transaction, run.id, reason)
    return True


def check(transaction: Transaction, run_id: int) -> None:
    """Do nothing if a run may go on.

    Raises:
        InputError: if it would generate more tokens than its budget has left.
    """
    run = transaction.execute(select(RUNS.c.name, RUNS.c.max_tokens).where(RUNS.c.id == run_id)).one()
    number = spent(transaction, run_id)
    if run.max_tokens is not None and _is_stopped(transaction, run_id, run.max_tokens, number):
        raise InputError(
            f"run {run.name} has generated {number:,} of {run.max_tokens:,} tokens: raise that by --max-tokens, above {number}"
        )


def _settle(transaction: Transaction, run_id: int) -> int:
    """Make one row of a run's rows; return what it has spent."""
    rows = transaction.execute(delete(COUNTS).where(COUNTS.c.run_id == run_id).returning(COUNTS.c.tokens))
    total = int(sum(rows.scalars()))
    record(transaction, {run_id: total})
    return total


def _is_stopped(transaction: Transaction, run_id: int, max_tokens: int, number: int) -> bool:
    """Return whether a budget is spent and a tree would ask the policy for more; those over
    another phase's samples do not.
    """
    if number < max_tokens:
        return False
    phases = phases_of(transaction, run_id)
    searching = [row.id for row in phases if row.state == PhaseState.SEARCHING and not row.spec.get("samples_of")]
    open_states = [TreeState.WAITING.value, TreeState.SEARCHING.value]
    wanting = select(TREES.c.id).where(TREES.c.phase_id.in_(searching), TREES.c.state.in_(open_states)).limit(1)
    return transaction.execute(wanting).first() is not None
