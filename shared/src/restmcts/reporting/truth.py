"""What is said of verdicts that no true answer gives, in words and as a document."""

from dataclasses import asdict

from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.text import counted
from restmcts.domain.truth.ledger import AcceptedAnswer, IterationTruth, RunTruth
from restmcts.reporting.figures import decimal
from restmcts.reporting.plain_text import shortened

MARK = "unchecked"
"""Beside each figure of a run whose verdicts no probe checks."""

UNCHECKED = f"{MARK}: no problems with true answers (--probe) say how far these verdicts can be trusted"
MAX_FLIPS = 20
MAX_QUESTION, MAX_ANSWER = 60, 24


def truth_in_words(truth: RunTruth | None) -> dict[str, str]:
    """Return lines for people by name, in order; empty where true answers give all verdicts."""
    if truth is None:
        return {}
    return {
        "truth": truth.source if truth.is_checked else f"{truth.source}, {UNCHECKED}",
        **{f"truth ({one.iteration})": iteration_in_words(one) for one in truth.iterations},
    }


def iteration_in_words(found: IterationTruth) -> str:
    """Return what the verdicts of an iteration are worth."""
    parts = [f"{found.num_trees - found.num_undecided:,} of {counted(found.num_trees, 'tree')} decided"]
    if found.agreement is not None:
        parts.append(f"{found.agreement.as_percent()} of the probe's verdicts are true")
    if found.coverage is not None:
        parts.append(f"{found.coverage.as_percent()} of the probe is decided")
    if found.flip_rate is not None:
        parts.append(
            f"{found.num_flipped:,} of {counted(found.num_compared, 'answer')} flipped ({found.flip_rate.as_percent()})"
        )
    if found.num_quarantined:
        parts.append(f"{counted(found.num_quarantined, 'problem')} quarantined")
    return "; ".join(parts)


def mark_of(truth: RunTruth | None) -> str:
    """Return the mark beside each figure of a run: "unchecked", or nothing."""
    return MARK if truth is not None and not truth.is_checked else ""


def unchecked_verdicts(whose: str) -> str:
    """Return the sentence that says of some verdicts that no probe checks them."""
    return f"The verdicts of {whose} are {UNCHECKED}."


def marked(figure: object, mark: str) -> object:
    """Return a figure with the mark of its run behind it; as it is where there is no figure, or no
    mark.
    """
    return f"{figure} {mark}" if mark and figure is not None else figure


def flip_rows(truth: RunTruth | None) -> list[dict[str, object]]:
    """Return a row for each problem that flipped, the latest first, the first `MAX_FLIPS`: the
    iteration, what was accepted before and now with its share of the votes and the tree's number,
    and the beginning of the question.
    """
    return [
        {
            "flipped_in": one.now.iteration,
            "before": _accepted(one.before),
            "now": _accepted(one.now),
            "question": shortened(one.question, MAX_QUESTION),
        }
        for one in (truth.flipped if truth is not None else ())[:MAX_FLIPS]
    ]


def _accepted(found: AcceptedAnswer) -> str:
    return f"{shortened(found.answer, MAX_ANSWER)} ({decimal(found.share)}, tree {found.tree_id})"


def truth_document(truth: RunTruth | None) -> dict[str, object] | None:
    """Return the same as JSON, with all problems that flipped; None where true answers give all
    verdicts.
    """
    if truth is None:
        return None
    return {
        "source": truth.source,
        "checked": truth.is_checked,
        "iterations": [_iteration(one) for one in truth.iterations],
        "quarantined": [asdict(one) for one in truth.flipped],
    }


def _iteration(found: IterationTruth) -> dict[str, object]:
    counts = ("iteration", "num_trees", "num_undecided", "num_compared", "num_flipped", "num_quarantined")
    return {
        **{name: getattr(found, name) for name in counts},
        "probe_accuracy": _figures(found.agreement),
        "probe_coverage": _figures(found.coverage),
        "flip_rate": _figures(found.flip_rate),
    }


def _figures(estimate: Estimate | None) -> dict[str, object] | None:
    return asdict(estimate) if estimate is not None else None
