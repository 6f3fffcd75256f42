"""An evaluation's report: tables as Markdown, numbers as JSON and CSV. Says only what is in the
`EvaluationReport` it is given.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter
from restmcts.domain.stats.outcomes import COSTS, AtEqualCost, Comparison, Outcome, Standing, pass_at_k
from restmcts.domain.stats.search_quality import SearchQuality, search_quality
from restmcts.domain.stats.statistics import Accuracy
from restmcts.errors import InputError, StorageError
from rich.table import Table
from rich.text import Text

from restmcts_cli.reports.evaluation_examples import Example
from restmcts_cli.reports.evaluation_summary import summarise
from restmcts_cli.reports.shown_tables import console

POWERS = tuple(2**power for power in range(11))
Rows = list[list[str]]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """All that is shown of an evaluation.

    Attributes:
        source: of the problems.
        config: what makes it the same evaluation; of several that are pooled, by their names.
        pass_at: pass@k of the pools, by k; no method's answer.
        examples: problems on which two searches differ.
        seconds: wall time of this call.
    """

    source: str
    config: dict[str, Any]
    outcomes: Sequence[Outcome]
    comparison: Comparison
    pass_at: dict[int, float]
    seconds: float
    examples: tuple[Example, ...] = ()

    @property
    def qualities(self) -> list[SearchQuality]:
        """How each method spent its tokens under the largest limit, or without one."""
        budgets = self.comparison.budgets
        cells = self.comparison.cells.items()
        return [
            search_quality(key, members, budgets)
            for key, members in cells
            if key[1] in (None, max(budgets, default=None))
        ]


def pass_at_powers(counts: Sequence[tuple[int, int]]) -> dict[int, float]:
    """Return pass@k for the powers of two up to the size of the smallest pool, from (samples,
    right ones) of each problem.
    """
    if not counts:
        return {}
    least = min(num_samples for num_samples, _ in counts)
    samples, right = zip(*counts, strict=True)
    return {k: pass_at_k(samples, right, k) for k in POWERS if k <= least}


def write_files(report: EvaluationReport, out: Path) -> None:
    """Write report.md, results.json, results.csv, outcomes.csv and, where restmcts-cli[local] is
    installed, report.html.

    Raises:
        StorageError: if the disk does not take them.
    """
    standings = [_numbers(standing) for standing in report.comparison.standings()]
    texts = {
        "report.md": markdown(report),
        "results.json": json.dumps(document(report), indent=2, allow_nan=False) + "\n",
        "results.csv": _csv(standings),
        "outcomes.csv": _csv([asdict(outcome) for outcome in report.outcomes]),
    }
    with suppress(ImportError):
        from restmcts_cli.reports.evaluation_page import render_evaluation

        texts["report.html"] = render_evaluation(report)
    try:
        for name, text in texts.items():
            # A model may write lone surrogates, which UTF-8 cannot hold.
            (out / name).write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"cannot write the report into {out}: {error.strerror or error}; free some space") from error


def read_files(folder: Path) -> tuple[dict[str, Any], list[Outcome]]:
    """Return what a folder's results.json and outcomes.csv hold.

    Raises:
        InputError: if it is not the folder of an evaluation that has ended.
    """
    try:
        numbers = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        with (folder / "outcomes.csv").open(encoding="utf-8", newline="") as file:
            rows = [
                {"budget": None, "models": "", "group": "", **{name: text for name, text in row.items() if text}}
                for row in csv.DictReader(file)
            ]
        return numbers, TypeAdapter(list[Outcome]).validate_python(rows)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no evaluation that has ended ({type(error).__name__})") from error


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    listed = list(rows)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(listed[0]) if listed else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return stream.getvalue()


def document(report: EvaluationReport) -> dict[str, Any]:
    """Return the report's numbers as plain data."""
    return {
        "source": report.source,
        "num_problems": report.comparison.num_problems,
        "num_seen": report.comparison.num_seen,
        "says": summarise(report.comparison),
        "methods": [_numbers(standing) for standing in report.comparison.standings()],
        "at_equal_tokens": [_equal_numbers(row) for row in report.comparison.at_equal_cost()],
        "search_quality": [asdict(quality) for quality in report.qualities],
        "pass_at": {str(k): value for k, value in report.pass_at.items()},
        "seconds": round(report.seconds, 1),
        "config": report.config,
    }


def _numbers(standing: Standing) -> dict[str, Any]:
    return {
        "method": standing.method,
        "models": standing.models,
        "budget": standing.budget,
        "accuracy": standing.accuracy.value,
        "standard_error": standing.accuracy.standard_error,
        "num_outcomes": standing.accuracy.num_outcomes,
        "undecided": standing.undecided,
        "failed": standing.failed,
        "any_right": standing.any_right,
        "accuracy_unseen": standing.accuracy_unseen,
        **standing.costs,
    }


def _equal_numbers(row: AtEqualCost) -> dict[str, Any]:
    figures = (
        {"value": row.accuracy.value, "standard_error": row.accuracy.standard_error}
        if row.accuracy is not None
        else None
    )
    return {"method": row.method, "models": row.models, "tokens": row.tokens, "accuracy": figures}


def standing_rows(comparison: Comparison, costs_shown: Sequence[str] = COSTS) -> Rows:
    """Return the main table: a row a method and budget, what it answered and what that cost."""
    rows = [
        ["method", "limit", "accuracy", *(name.replace("_", " ") for name in costs_shown), "any right", "undecided"]
    ]
    for one in comparison.standings():
        limit = "–" if one.budget is None else str(one.budget)
        costs = [f"{one.costs[name]:,.2f}" if name == "seconds" else f"{one.costs[name]:,.0f}" for name in costs_shown]
        shares = [f"{100 * one.any_right:.1f} %", f"{100 * one.undecided:.1f} %"]
        rows.append([named(one.method, one.models), limit, percent(one.accuracy), *costs, *shares])
    return rows


def equal_cost_rows(comparison: Comparison) -> Rows:
    """Return accuracies at equal numbers of tokens really spent: a row a method, a column a
    number.
    """
    budgets = comparison.budgets
    rows = [["method", *(f"{tokens:,}" for tokens in budgets)]]
    by_method: dict[tuple[str, str], dict[int, str]] = {}
    for row in comparison.at_equal_cost():
        by_method.setdefault((row.method, row.models), {})[row.tokens] = percent(row.accuracy) if row.accuracy else "–"
    return rows + [[named(*key), *(cells[tokens] for tokens in budgets)] for key, cells in by_method.items()]


def named(method: str, models: str) -> str:
    return f"{method} ({models})" if models else method


def percent(accuracy: Accuracy) -> str:
    """Return an accuracy with its standard error, e.g. `51.4 % ± 1.6`."""
    return f"{100 * accuracy.value:.1f} % ± {100 * accuracy.standard_error:.1f}"


@dataclass(frozen=True, slots=True)
class Section:
    """A table under its title, and what to know of it."""

    title: str
    rows: Rows
    about: str


STANDING_TITLE = "Accuracy under a limit of generated tokens a problem"
EQUAL_TITLE = "Accuracy at equal tokens really spent, mean a problem"
ABOUT_STANDING = (
    "The limit is tested before each unit of work, so that the last one may overshoot; all costs are means a problem. “Any right” "
    "is the share of problems with a right solution anywhere in the tree or pool (pass@k): no method's answer. Methods that only "
    "need samples read one pool a problem and seed; their seconds are those until the last sample was drawn."
)
ABOUT_EQUAL = (
    "Between two limits a method's accuracy is that of a mixture of both. A method that cannot spend so much stands with the most "
    "that it spends; a dash: its smallest limit already costs more."
)
ABOUT_QUALITY = (
    "Under the largest limit. AUC: the chance that a right answer's value lies above a wrong one's. Wasted: expanded nodes below "
    "which no solution was finished. Repeated: generated tokens that stand in no node, said before or thrown away. Right within: "
    "problems with a right solution anywhere after so many tokens."
)
ABOUT_PASS = "The chance that one of k samples is right: no method's answer."


def report_sections(report: EvaluationReport) -> list[Section]:
    """Return the tables of a report, in order."""
    comparison = report.comparison
    sections = [Section(STANDING_TITLE, standing_rows(comparison), ABOUT_STANDING)]
    if comparison.budgets:
        sections.append(Section(EQUAL_TITLE, equal_cost_rows(comparison), ABOUT_EQUAL))
    sections.append(
        Section("How the tokens were spent", quality_rows(report.qualities, comparison.budgets), ABOUT_QUALITY)
    )
    if report.pass_at:
        cells = [[f"pass@{k}" for k in report.pass_at], [f"{100 * value:.1f} %" for value in report.pass_at.values()]]
        sections.append(Section("Pass@k of the samples", cells, ABOUT_PASS))
    return sections


def quality_rows(qualities: Sequence[SearchQuality], budgets: Sequence[int]) -> Rows:
    """Return a row a method: value against truth, waste, depth, and when a right solution was
    there.
    """
    rows = [["method", "AUC", "wasted", "repeated", "depth", *(f"right within {limit:,}" for limit in budgets)]]
    for one in qualities:
        figures = [_decimal(one.auc), _share(one.wasted), _share(one.repeated), _decimal(one.mean_depth)]
        rows.append(
            [named(one.method, one.models), *figures, *(_share(one.solved_within.get(limit)) for limit in budgets)]
        )
    return rows


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def markdown(report: EvaluationReport) -> str:
    """Return the report as Markdown."""
    comparison = report.comparison
    parts = [
        f"# Evaluation on {report.source}",
        f"{comparison.num_problems:,} problems; seeds of sampling: {comparison.num_seeds}.",
        "\n".join(f"- {sentence}" for sentence in summarise(comparison)),
    ]
    for section in report_sections(report):
        parts += [f"## {section.title}", _markdown_table(section.rows), section.about]
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Rows) -> str:
    header, *body = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in (header, "|".join(["---"] * len(rows[0])), *body))


def print_report(report: EvaluationReport, as_json: bool) -> None:
    """Show the tables and sentences on a terminal; with JSON they go to standard error and the
    document to standard output.
    """
    shown = console(stderr=as_json)
    tables = [(STANDING_TITLE, standing_rows(report.comparison, ("tokens",)))]
    if report.comparison.budgets:
        tables.append((EQUAL_TITLE, equal_cost_rows(report.comparison)))
    for title, rows in tables:
        table = Table(title=title, title_justify="left")
        for place, name in enumerate(rows[0]):
            table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place == 0)
        for row in rows[1:]:
            table.add_row(*map(Text, row))
        shown.print(table)
    for sentence in summarise(report.comparison):
        shown.print(Text(f"• {sentence}"), soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(document(report), allow_nan=False))
