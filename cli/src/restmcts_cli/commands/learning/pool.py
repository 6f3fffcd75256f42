"""`restmcts pool`: several evaluations as one table: other seeds of training, other halves of a
benchmark.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError, StorageError

from restmcts_cli.reports.shown_tables import print_note

if TYPE_CHECKING:
    from restmcts.domain.stats.estimates import Estimate
    from restmcts.domain.stats.outcomes import Outcome


def pool(
    evaluations: Annotated[
        list[Path], typer.Argument(help="Folders (--out) of evaluations that have ended.", file_okay=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the files of the pooled report.", file_okay=False)],
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one JSON document.")] = False,
) -> None:
    """Pool evaluations of the same methods: one table, its errors over the problems of all of them.

    Example: [bold]restmcts pool eval-0 eval-1 eval-2 --out eval[/bold]
    """
    from restmcts.domain.stats.outcomes import OutcomeTable

    from restmcts_cli.reports.evaluation_report import print_report, read_files, write_files
    from restmcts_cli.reports.evaluation_tables import EvaluationReport

    names = [folder.name for folder in evaluations]
    if len(set(names)) < len(names):
        raise InputError("the folders must have different names: they name the parts of the pool")
    read = {folder.name: read_files(folder) for folder in evaluations}
    outcomes = [replace(outcome, group=name) for name, (_, members) in read.items() for outcome in members]
    _check_same_cells({name: members for name, (_, members) in read.items()})
    documents = {name: numbers for name, (numbers, _) in read.items()}
    config = {name: numbers["config"] for name, numbers in documents.items()}
    sources = ", ".join(dict.fromkeys(numbers["source"] for numbers in documents.values()))
    report = EvaluationReport(
        f"{sources}, pooled from {', '.join(names)}",
        config,
        outcomes,
        OutcomeTable(outcomes),
        _mean_pass_at(list(documents.values())),
        sum(numbers["seconds"] for numbers in documents.values()),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out} cannot be made: {error.strerror or error}") from error
    write_files(report, out)
    print_report(report, json)
    print_note(f"report: {out / 'report.md'}")


def _check_same_cells(outcomes: "dict[str, list[Outcome]]") -> None:
    cells = {name: {(one.method, one.budget, one.models) for one in members} for name, members in outcomes.items()}
    first = next(iter(cells))
    for name, found in cells.items():
        odd = sorted(map(str, found ^ cells[first]))
        if odd:
            raise InputError(
                f"{first} and {name} do not hold the same methods and budgets: {odd[0]} is in one of them only"
            )


def _mean_pass_at(documents: Sequence[dict[str, Any]]) -> "dict[int, Estimate]":
    """Return pass@k, every problem weighing the same, where all parts have it with its error."""
    from restmcts.domain.stats.estimates import Estimate

    num_problems = sum(numbers["num_problems"] for numbers in documents)
    shares = [numbers["num_problems"] / num_problems for numbers in documents]
    errors = [numbers.get("pass_at_standard_errors", {}) for numbers in documents]
    found = {}
    for k in errors[0]:
        if all(k in one for one in errors):
            value = sum(share * numbers["pass_at"][k] for share, numbers in zip(shares, documents, strict=True))
            spread = sum((share * one[k]) ** 2 for share, one in zip(shares, errors, strict=True))
            found[int(k)] = Estimate(value, math.sqrt(spread), num_problems)
    return found
