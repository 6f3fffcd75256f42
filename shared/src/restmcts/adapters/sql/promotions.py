"""Which checkpoint of each kind a run goes on with: the promoted one, and how it came to be
that.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select

from restmcts.adapters.sql import runs
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.runs import CHECKPOINTS
from restmcts.adapters.sql.tables import PhaseState, PromotionRow
from restmcts.adapters.sql.trees import TREES
from restmcts.domain.problems import Verdict
from restmcts.domain.runs.phases import GatePhase
from restmcts.domain.runs.promotion import is_promoted
from restmcts.domain.stats.estimates import Estimate, Figure

PROMOTIONS = table_of(PromotionRow)


def promoted(transaction: Transaction, run_id: int, kind: str) -> Any | None:
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
    return transaction.execute(statement).first()


def promote(transaction: Transaction, checkpoint: Any, phase_id: int | None = None) -> None:
    """Make a checkpoint (its row) the promoted one of its run and kind; `phase_id` is the
    gate's, None: a person's decision.
    """
    values = {
        "run_id": checkpoint.run_id,
        "kind": checkpoint.kind,
        "checkpoint_id": checkpoint.id,
        "phase_id": phase_id,
    }
    transaction.execute(insert(PROMOTIONS).values(**values))


def history(transaction: Transaction, run_id: int) -> list[Any]:
    """Return the run's promotions in order, each with the checkpoint's name."""
    statement = (
        select(CHECKPOINTS.c.name.label("checkpoint"), PROMOTIONS)
        .join(CHECKPOINTS, CHECKPOINTS.c.id == PROMOTIONS.c.checkpoint_id)
        .where(PROMOTIONS.c.run_id == run_id)
        .order_by(PROMOTIONS.c.id)
    )
    return list(transaction.execute(statement).all())


def models(transaction: Transaction, run_id: int) -> dict[str, Any]:
    """Return the run's checkpoints by the names that phases call them by: their own, and those
    of decided gates, each of which stands for the checkpoint of its kind that is promoted now.
    """
    found = runs.checkpoints_of(transaction, run_id)
    for row in runs.phases_of(transaction, run_id):
        if row.kind == "gate" and row.state == PhaseState.DONE:
            found[row.name] = promoted(transaction, run_id, row.spec["model"])
    return found


def decide_policy(transaction: Transaction, row: Any, phase: GatePhase) -> None:
    """Decide the gate of a policy from what the held-out phases of this run found."""
    candidate = runs.checkpoints_of(transaction, row.run_id)[phase.candidate]
    incumbent = promoted(transaction, row.run_id, "policy")
    new = _held_out_accuracy(transaction, row.run_id, phase, candidate)
    old = _held_out_accuracy(transaction, row.run_id, phase, incumbent) if incumbent is not None else None
    decide(transaction, row, phase, candidate, incumbent, {"accuracy": (new, old)})


def _held_out_accuracy(transaction: Transaction, run_id: int, phase: GatePhase, policy: Any) -> Figure | None:
    """Return the policy's accuracy on the gate's held-out problems, a failed tree counting as
    wrong; None if not measured.
    """
    rows = {row.name: row for row in runs.phases_of(transaction, run_id) if row.state == PhaseState.DONE}
    problem_set = rows[phase.evidence].spec["problem_set"]
    measured = [
        row
        for row in rows.values()
        if row.spec.get("purpose") == "evaluate"
        and row.spec["problem_set"] == problem_set
        and row.policy_id == policy.id
    ]
    if not measured:
        return None
    statement = select(TREES.c.verdict).where(TREES.c.phase_id == measured[0].id).order_by(TREES.c.problem_id)
    verdicts = list(transaction.execute(statement).scalars())
    return Figure.of([verdict == Verdict.RIGHT for verdict in verdicts]) if verdicts else None


def decide(
    transaction: Transaction,
    row: Any,
    phase: GatePhase,
    candidate: Any,
    incumbent: Any | None,
    figures: Mapping[str, tuple[Figure | None, Figure | None]],
) -> None:
    """End a gate: promote the candidate or not, and record why; `figures` holds the candidate's and
    the incumbent's by name.

    Without an incumbent the candidate is promoted. A figure that says nothing of the candidate
    decides nothing; one that the incumbent has not (a person promoted a checkpoint that was never
    measured) decides for the incumbent.
    """
    gains = {name: new.minus(old) for name, (new, old) in figures.items() if new is not None and old is not None}
    unknown = incumbent is not None and any(new is not None and old is None for new, old in figures.values())
    goes_on = not unknown and is_promoted(gains, phase.margin)
    if goes_on:
        promote(transaction, candidate, row.id)
    result = {
        "candidate": candidate.name,
        "incumbent": incumbent.name if incumbent is not None else None,
        "promoted": goes_on,
        "margin": phase.margin,
        "figures": {name: _figure(*pair, gains.get(name)) for name, pair in figures.items()},
        "reason": _reason(goes_on, figures),
    }
    runs.set_phase(transaction, row.id, PhaseState.DONE, result=result, **({} if row.started_at else runs.started()))


def _figure(new: Figure | None, old: Figure | None, difference: Estimate | None) -> dict[str, Any]:
    return {
        "candidate": _with_error(new.estimate) if new is not None else None,
        "incumbent": _with_error(old.estimate) if old is not None else None,
        "difference": _with_error(difference) if difference is not None else None,
    }


def _with_error(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "standard_error": estimate.standard_error}


def _reason(goes_on: bool, figures: Mapping[str, tuple[Figure | None, Figure | None]]) -> str:
    compared = (
        f"{name} {new.estimate.as_percent() if new is not None else 'unknown'}"
        + (f" (was {old.estimate.as_percent()})" if old is not None else "")
        for name, (new, old) in figures.items()
    )
    return f"{'promoted' if goes_on else 'not promoted'}: {', '.join(compared)}"
