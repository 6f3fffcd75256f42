"""Which checkpoint of each kind a run goes on with: the promoted one, and how it came to be
that.
"""

from sqlalchemy import insert, select

from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import Promotion, StoredCheckpoint, StoredPhase
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.runs import CHECKPOINTS
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import PhaseState, PromotionRow

PROMOTIONS = table_of(PromotionRow)


def promoted(transaction: Transaction, run_id: int, kind: str) -> StoredCheckpoint | None:
    """Return the row of the checkpoint of that kind ("policy", "value") that is promoted in the
    run; None before the first.
    """
    statement = (
        select(CHECKPOINTS)
        .join(PROMOTIONS, PROMOTIONS.c.checkpoint_id == CHECKPOINTS.c.id)
        .where(PROMOTIONS.c.run_id == run_id, PROMOTIONS.c.kind == kind)
        .order_by(PROMOTIONS.c.id.desc())
        .limit(1)
    )
    return transaction.row(StoredCheckpoint, statement)


def promote(transaction: Transaction, checkpoint: StoredCheckpoint, phase_id: int | None = None) -> None:
    """Make a checkpoint (its row) the promoted one of its run and kind; `phase_id` is the
    promotion's, None: a person's decision.
    """
    values = {
        "run_id": checkpoint.run_id,
        "kind": checkpoint.kind,
        "checkpoint_id": checkpoint.id,
        "phase_id": phase_id,
    }
    transaction.execute(insert(PROMOTIONS).values(**values))


def history(transaction: Transaction, run_id: int) -> list[Promotion]:
    """Return the run's promotions in order, each with the checkpoint's name."""
    statement = (
        select(CHECKPOINTS.c.name.label("checkpoint"), PROMOTIONS)
        .join(CHECKPOINTS, CHECKPOINTS.c.id == PROMOTIONS.c.checkpoint_id)
        .where(PROMOTIONS.c.run_id == run_id)
        .order_by(PROMOTIONS.c.id)
    )
    return transaction.rows(Promotion, statement)


def models(transaction: Transaction, run_id: int) -> dict[str, StoredCheckpoint]:
    """Return the run's checkpoints by the names that phases call them by: their own, and those
    of decided promotions, each of which represents the checkpoint of its kind that it left
    promoted, or a person promoted since. What later promotions of the run decided is not asked:
    searches that run ahead of the training begin with one model however long it takes.
    """
    found = runs.checkpoints_of(transaction, run_id)
    by_id = {checkpoint.id: checkpoint for checkpoint in found.values()}
    rows = runs.phases_of(transaction, run_id)
    places = {row.id: row.position for row in rows}
    made = history(transaction, run_id)
    for row in rows:
        if row.kind == "gate" and row.state == PhaseState.DONE:
            until = [
                one.checkpoint_id
                for one in made
                if one.kind == row.spec["model"] and (one.phase_id is None or places[one.phase_id] <= row.position)
            ]
            found[row.name] = by_id[until[-1]]
    return found


def evaluated_phase(transaction: Transaction, like: StoredPhase, policy_id: int) -> int | None:
    """Return the id of the first phase that evaluated a policy on the problems of another
    evaluation (its row), to its end.
    """
    for row in runs.phases_of(transaction, like.run_id):
        evaluates = row.state == PhaseState.DONE and row.spec.get("purpose") == "evaluate"
        is_alike = all(row.spec.get(name) == like.spec.get(name) for name in ("problem_set", "round"))
        if evaluates and is_alike and row.policy_id == policy_id:
            return row.id
    return None


def verdicts_of(transaction: Transaction, phase_id: int) -> list[str | None]:
    """Return the verdicts of a phase's trees in order of problem; None for a failed tree, of which
    nothing is known.
    """
    statement = select(TREES.c.verdict).where(TREES.c.phase_id == phase_id).order_by(TREES.c.problem_id)
    return list(transaction.execute(statement).scalars())
