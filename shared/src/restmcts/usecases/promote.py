"""Promotion: whether a new checkpoint takes the place of the one that a run goes on with, decided
from what held-out problems say of both.
"""

from collections.abc import Collection, Mapping, Sequence

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import JsonObject, StoredCheckpoint, StoredPhase
from restmcts.adapters.sql.state import promotions, runs
from restmcts.adapters.sql.tables import PhaseState
from restmcts.domain.problems import Verdict
from restmcts.domain.runs.phases import PromotionPhase
from restmcts.domain.runs.promotion import AUC, BENCH_AUC, DECIDING, is_promoted
from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.text import counted

SHOWN = {AUC: "AUC", BENCH_AUC: "AUC on labelled steps"}
"""Figures that are called otherwise where people read of them."""

_OBSERVED = {"accuracy": "problem", BENCH_AUC: "question"}


def decide_policy(transaction: Transaction, row: StoredPhase, phase: PromotionPhase) -> None:
    """Decide on a policy from what the held-out phases of its run (`row` is its promotion's)
    found.
    """
    candidate = runs.checkpoints_of(transaction, row.run_id)[phase.candidate]
    incumbent = promotions.promoted(transaction, row.run_id, "policy")
    new = _held_out_verdicts(transaction, row.run_id, phase, candidate)
    old = _held_out_verdicts(transaction, row.run_id, phase, incumbent) if incumbent is not None else []
    failed = {place for verdicts in (new, old) for place, verdict in enumerate(verdicts) if verdict is None}
    figures = {"accuracy": (_accuracy(new, failed), _accuracy(old, failed))}
    decide(transaction, row, phase, candidate, incumbent, figures, num_failed=len(failed))


def _held_out_verdicts(
    transaction: Transaction, run_id: int, phase: PromotionPhase, policy: StoredCheckpoint
) -> list[str | None]:
    """Return the verdicts on the policy's answers to the promotion's held-out problems, in their
    order: None where the search failed. Empty if it was not evaluated.
    """
    evidence = next(row for row in runs.phases_of(transaction, run_id) if row.name == phase.evidence)
    phase_id = promotions.evaluated_phase(transaction, evidence, policy.id)
    return promotions.verdicts_of(transaction, phase_id) if phase_id is not None else []


def _accuracy(verdicts: Sequence[str | None], left_out: Collection[int]) -> Figure | None:
    known = [verdict == Verdict.RIGHT for place, verdict in enumerate(verdicts) if place not in left_out]
    return Figure.of(known) if known else None


def decide(
    transaction: Transaction,
    row: StoredPhase,
    phase: PromotionPhase,
    candidate: StoredCheckpoint,
    incumbent: StoredCheckpoint | None,
    figures: Mapping[str, tuple[Figure | None, Figure | None]],
    num_failed: int = 0,
) -> None:
    """End a promotion: promote the candidate or not, and record why; `figures` holds the
    candidate's and the incumbent's by name.

    Without an incumbent the candidate is promoted. A figure that says nothing of the candidate
    decides nothing, unless a gain is asked for; one that the incumbent has not (a person promoted a
    checkpoint that was never measured) decides for the incumbent, and so does one that is unknown
    because searches failed: `num_failed` problems are left out of all figures for that.
    """
    gains = {name: new.minus(old) for name, (new, old) in figures.items() if new is not None and old is not None}
    deciding = _deciding(phase, figures)
    measured = {name: gains[name] for name in deciding if name in gains}
    pairs = [figures[name] for name in deciding]
    needed = phase.value_gain is not None or num_failed > 0
    unknown = any(old is None if new is not None else needed for new, old in pairs)
    goes_on = incumbent is None or (not unknown and is_promoted(measured, phase.margin, phase.value_gain))
    if goes_on:
        promotions.promote(transaction, candidate, row.id)
    result = {
        "candidate": candidate.name,
        "incumbent": incumbent.name if incumbent is not None else None,
        "promoted": goes_on,
        "margin": phase.margin,
        "figures": {name: _figure(*pair, gains.get(name)) for name, pair in figures.items()},
        "reason": _reason(goes_on, figures, num_failed) + (_rule(phase, deciding) if incumbent is not None else ""),
    }
    runs.set_phase(transaction, row.id, PhaseState.DONE, result=result, **({} if row.started_at else runs.started()))


def _deciding(phase: PromotionPhase, figures: Collection[str]) -> list[str]:
    """Return the names of the figures that decide."""
    named = (*DECIDING[phase.value_metric], BENCH_AUC) if phase.model == "value" else figures
    return [name for name in figures if name in named]


def _figure(new: Figure | None, old: Figure | None, difference: Estimate | None) -> JsonObject:
    return {
        "candidate": _with_error(new.estimate) if new is not None else None,
        "incumbent": _with_error(old.estimate) if old is not None else None,
        "difference": _with_error(difference) if difference is not None else None,
    }


def _with_error(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "standard_error": estimate.standard_error, "n": estimate.n}


def _reason(goes_on: bool, figures: Mapping[str, tuple[Figure | None, Figure | None]], num_failed: int) -> str:
    compared = (f"{SHOWN.get(name, name)} {_compared(name, *pair)}" for name, pair in figures.items())
    left_out = f"; left out because the search failed: {counted(num_failed, 'problem')}" if num_failed else ""
    return f"{'promoted' if goes_on else 'not promoted'}: {', '.join(compared)}{left_out}"


def _compared(name: str, new: Figure | None, old: Figure | None) -> str:
    """Return a figure and the one before it in words: `51.4 % ± 1.6 (was 45.9 % ± 1.6; 200
    problems)`.
    """
    before = f"was {_in_words(name, old.estimate)}; " if old is not None else ""
    if new is None:
        return "not measured" + (f" ({before.removesuffix('; ')})" if before else "")
    counts = sorted({one.estimate.n for one in (new, old) if one is not None})
    observed = " and ".join(counted(count, _OBSERVED.get(name, "tree")) for count in counts)
    return f"{_in_words(name, new.estimate)} ({before}{observed})"


def _in_words(name: str, estimate: Estimate) -> str:
    return estimate.as_decimal() if name in (AUC, BENCH_AUC) else estimate.as_percent()


def _rule(phase: PromotionPhase, deciding: Sequence[str]) -> str:
    """Return what decided, where it is not the usual."""
    verb = "decides" if len(deciding) == 1 else "decide"
    decides = "" if phase.value_metric == "both" else f"; {' and '.join(deciding)} {verb}"
    if phase.value_gain is None:
        return decides
    return f"{decides}; it must be better by {phase.value_gain:g} standard errors of the difference"
