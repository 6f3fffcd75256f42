"""What is said of verdicts that no true answer gives, in words and as a document."""

from dataclasses import asdict

from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.truth.ledger import IterationTruth, RunTruth

UNCHECKED = "unchecked: no problems with true answers (--probe) say how far these verdicts can be trusted"


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
    parts = [f"{found.num_trees - found.num_undecided:,} of {found.num_trees:,} trees decided"]
    if found.agreement is not None:
        parts.append(f"{found.agreement.as_percent()} of the probe's verdicts are true")
    if found.coverage is not None:
        parts.append(f"{found.coverage.as_percent()} of the probe is decided")
    if found.flip_rate is not None:
        parts.append(
            f"{found.num_flipped:,} of {found.num_compared:,} answers flipped ({found.flip_rate.as_percent()})"
        )
    if found.num_quarantined:
        parts.append(f"{found.num_quarantined:,} problems quarantined")
    return "; ".join(parts)


def truth_document(truth: RunTruth | None) -> dict[str, object] | None:
    """Return the same as JSON; None where true answers give all verdicts."""
    if truth is None:
        return None
    return {
        "source": truth.source,
        "checked": truth.is_checked,
        "iterations": [_iteration(one) for one in truth.iterations],
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
