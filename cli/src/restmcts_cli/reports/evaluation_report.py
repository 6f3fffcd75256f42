"""An evaluation's report as files and on the terminal: tables as Markdown and HTML, numbers as
JSON and CSV.
"""

import csv
import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter
from restmcts.domain.stats.outcomes import CellSummary, ComputeMatched, Outcome
from restmcts.domain.stats.search_quality import SearchQuality
from restmcts.domain.text import counted
from restmcts.errors import InputError, StorageError
from restmcts.reporting.figures import share_document
from restmcts.reporting.run_origins import hidden_secrets
from restmcts.reporting.tables import Table
from rich.text import Text

from restmcts_cli.reports.evaluation_tables import (
    EvaluationReport,
    limit_table,
    matched_table,
    report_tables,
    summarise,
)
from restmcts_cli.reports.shown_tables import console


def write_files(report: EvaluationReport, out: Path) -> None:
    """Write report.md, results.json, results.csv, outcomes.csv and, where restmcts-cli[local] is
    installed, report.html.

    Raises:
        StorageError: if the disk does not take them.
    """
    texts = {
        "report.md": markdown(report),
        "results.json": json.dumps(document(report), indent=2, allow_nan=False) + "\n",
        "results.csv": Table.of_records([_numbers(one) for one in report.table.summaries()]).csv(),
        "outcomes.csv": Table.of_records([asdict(outcome) for outcome in report.outcomes]).csv(),
    }
    if find_spec("jinja2") is not None:
        from restmcts_cli.reports.evaluation_page import render_evaluation

        texts["report.html"] = render_evaluation(report)
    try:
        for name, text in texts.items():
            # A model may write lone surrogates, which UTF-8 cannot encode.
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


def document(report: EvaluationReport) -> dict[str, Any]:
    """Return the report's numbers as plain data."""
    return {
        "source": report.source,
        "num_problems": report.table.num_problems,
        "num_seen": report.table.num_seen,
        "says": summarise(report.table),
        "methods": [_numbers(one) for one in report.table.summaries()],
        "at_equal_tokens": [_matched_numbers(row) for row in report.table.compute_matched()],
        "search_quality": [_quality_numbers(quality) for quality in report.qualities],
        "pass_at": {str(k): found.value for k, found in report.pass_at.items()},
        "pass_at_standard_errors": {str(k): found.standard_error for k, found in report.pass_at.items()},
        "pass_at_intervals": {str(k): found.interval for k, found in report.pass_at.items()},
        "seconds": round(report.seconds, 1),
        "config": hidden_secrets(report.config),
        "origin": report.origin.dated_document if report.origin is not None else None,
    }


def _numbers(summary: CellSummary) -> dict[str, Any]:
    return {
        "method": summary.method,
        "models": summary.models,
        "budget": summary.budget,
        "accuracy": summary.accuracy.value,
        "standard_error": summary.accuracy.standard_error,
        "interval": summary.interval,
        "num_problems": summary.accuracy.n,
        "undecided": summary.undecided.value,
        "failed": summary.failed,
        "any_right": summary.any_right.value,
        "accuracy_unseen": summary.accuracy_unseen,
        **summary.costs,
    }


def _matched_numbers(row: ComputeMatched) -> dict[str, Any]:
    names = {"method": row.method, "models": row.models, "tokens": row.tokens}
    return {**names, "accuracy": share_document(row.accuracy)}


def _quality_numbers(quality: SearchQuality) -> dict[str, Any]:
    shares = {name: share_document(getattr(quality, name)) for name in ("auc", "wasted", "repeated")}
    within = {str(limit): share_document(figure) for limit, figure in quality.solved_within.items()}
    return {**asdict(quality), **shares, "solved_within": within}


def markdown(report: EvaluationReport) -> str:
    """Return the report as Markdown."""
    table = report.table
    parts = [
        f"# Evaluation on {report.source}",
        f"{counted(table.num_problems, 'problem')}; seeds of sampling: {table.num_seeds}.",
        "\n".join(f"- {sentence}" for sentence in summarise(table)),
    ]
    for one in report_tables(report):
        parts += [f"## {one.title}", one.markdown(), one.about]
    if report.origin is not None:
        origin = report.origin.table("evaluation")
        parts += [f"## {origin.title}", origin.markdown()]
    return "\n\n".join(parts) + "\n"


def print_report(report: EvaluationReport, as_json: bool) -> None:
    """Show the tables and sentences on a terminal; with JSON they go to standard error and the
    document to standard output.
    """
    shown = console(stderr=as_json)
    shown.print(limit_table(report.table, ("tokens",)).terminal())
    if report.table.budgets:
        shown.print(matched_table(report.table).terminal())
    for sentence in summarise(report.table):
        shown.print(Text(f"• {sentence}"), soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(document(report), allow_nan=False))
