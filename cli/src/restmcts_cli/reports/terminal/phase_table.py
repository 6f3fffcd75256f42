"""The phases of a run: a table of their numbers, and what each came to."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from restmcts.adapters.sql.reads.queries import PhaseNumbers
from restmcts.reporting.figures import rows_in_words, share_document, spent_in_words
from restmcts.reporting.plain_text import shortened
from restmcts.reporting.truth import marked

from restmcts_cli.reports.shown_tables import print_fields, print_table

SKIPPED = "skipped"
PHASE_COLUMNS = ("phase", "kind", "state", "trees", "solved", "failed", "accuracy", "tokens")
MAX_REASON = 120


def print_phases(phases: Sequence[PhaseNumbers], mark: str) -> None:
    """Print the phases of a run.

    Args:
        mark: beside figures that rest on verdicts which nothing checks; else empty.
    """
    print_table(PHASE_COLUMNS, [_row(phase, mark) for phase in phases], empty="no phases")
    print_fields(_outcomes(phases, mark))


def phase_documents(phases: Sequence[PhaseNumbers]) -> list[dict[str, object]]:
    """Return the phases as the JSON document of a run has them."""
    return [{**asdict(phase), "accuracy": share_document(phase.accuracy)} for phase in phases]


def _outcomes(phases: Sequence[PhaseNumbers], mark: str) -> dict[str, object]:
    """Return what phases came to, in words; neighbours that are skipped for one reason share a
    line.
    """
    found: dict[str, object] = {}
    for (skipped, outcome), alike in groupby(phases, lambda one: (one.state == SKIPPED, _came_to(one, mark))):
        names = [one.name for one in alike]
        if skipped and len(names) > 1:
            found[f"{names[0]} to {names[-1]}"] = f"{len(names)} phases skipped: {outcome}"
        else:
            found |= dict.fromkeys(names, outcome)
    return found


def _row(phase: PhaseNumbers, mark: str) -> dict[str, object]:
    accuracy = phase.accuracy
    searches = phase.kind == "search"
    return {
        "phase": phase.name,
        "kind": phase.purpose or phase.kind,
        "state": phase.state,
        "trees": f"{phase.num_done:,}/{phase.num_trees:,}" if searches else None,
        "solved": marked(phase.num_solved, mark) if searches else None,
        "failed": phase.num_failed or None,
        "accuracy": marked(accuracy.as_percent(), mark) if accuracy is not None else None,
        "tokens": phase.tokens if searches else None,
    }


def _came_to(phase: PhaseNumbers, mark: str) -> str | None:
    result = phase.result
    if result.get("reason"):
        return str(marked(shortened(str(result["reason"]), MAX_REASON), mark if phase.kind == "gate" else ""))
    if result.get("last_loss") is not None:
        return f"loss {result['first_loss']:.3f} -> {result['last_loss']:.3f}; {rows_in_words(result, phase.kind)}"
    return spent_in_words(phase.token_limit, phase.mean_tokens, phase.most_tokens) or None
