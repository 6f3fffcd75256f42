"""What a checkpoint was measured on, for people: a line each, and a section of a model card."""

from collections.abc import Mapping
from typing import Any

from restmcts.reporting.truth import MARK


def bench_lines(benches: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a line for each bench of a checkpoint, by what it was measured on."""
    return {on: " ".join(found.get("says", ())) for on, found in benches.items()}


def bench_section(benches: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section of a model card, in Markdown; "" where nothing was measured."""
    if not benches:
        return ""
    lines = ["## Measured as a reward model", "", "| on | figure | value |", "|---|---|---|"]
    for on, found in benches.items():
        headline = found.get("headline") or {}
        value = headline.get("value")
        shown = "not defined" if value is None else f"{value:.4f}"
        shown = f"{shown} {MARK}" if found.get("unchecked") else shown
        lines.append(f"| {_cell(on)} | {_cell(str(headline.get('name', '')))} | {shown} |")
    lines.append("")
    for on, line in bench_lines(benches).items():
        lines += [f"**{_cell(on)}.** {_cell(line)}", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
