"""How the command groups show what they found: one table for people, one JSON document for
programs, text that cannot harm.

Texts of models and problems are strangers' texts: they are shown as characters, never as markup or
terminal controls.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from restmcts.errors import StorageError
from restmcts.reporting.plain_text import controls_written_out, plain
from restmcts.reporting.tables import FoldedTable
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_WHEN_PIPED = 400
IDENTIFIERS = ("id", "tree", "node", "pid", "seed", "line", "position", "number")
"""Names of whole numbers that are typed again, and count nothing; with them all that end in _id."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal; where there is none, wide enough to cut nothing."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=WIDTH_WHEN_PIPED)


def print_json(document: object) -> None:
    """Print one JSON document; times become ISO 8601, dataclasses objects."""
    typer.echo(json.dumps(document, default=_jsonable, allow_nan=False, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, empty: str) -> None:
    """Print rows as a table of the named columns ("num_trees" is headed "trees"), or the sentence
    `empty` if there are none.

    Columns without any value are left out; names and figures are never cut.
    """
    members = list(rows)
    filled = [name for name in columns if any(row.get(name) is not None for row in members)]
    headers = [name.removeprefix("num_").replace("_", " ") for name in filled]
    table = FoldedTable(headers, [[_cell_of(name, row.get(name)) for name in filled] for row in members])
    console().print(table if members else Text(empty))


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one a line; what is None is left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, value in fields.items():
        if value is not None:
            shown = _cell_of(name, value)
            shown.justify = None
            grid.add_row(Text(name.removeprefix("num_").replace("_", " "), style="dim"), shown)
    console().print(grid)


def print_note(sentence: str) -> None:
    """Print on standard error what was done, on one line."""
    console(stderr=True).print(Text(controls_written_out(sentence)), soft_wrap=True)


def _cell_of(name: str, value: object) -> Text:
    """Return a value of a column; a number that is an identifier in digits alone."""
    if type(value) is int and (name in IDENTIFIERS or name.endswith("_id")):
        return Text(str(value), justify="right")
    return cell(value)


def cell(value: object) -> Text:
    """Return a value as it is in a table: numbers to the right, times to the second,
    mappings as JSON, None as a dash.
    """
    match value:
        case None:
            return Text("-", style="dim")
        case bool():
            return Text("yes" if value else "no")
        case int():
            return Text(f"{value:,}" if abs(value) < 10**9 else str(value), justify="right")
        case float():
            return Text(f"{value:,.2f}", justify="right")
        case datetime():
            return Text(f"{value:%Y-%m-%d %H:%M:%S}")
        case Text():
            return value
        case dict() | list() | tuple():
            return Text(plain(json.dumps(value, default=_jsonable)))
        case _:
            return Text(plain(str(value)))


def lines_of_text(text: str) -> Text:
    """Return a text with its lines kept, each as `plain` makes it."""
    return Text("\n".join(map(plain, text.splitlines())))


def _jsonable(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def write_out(text: str, out: Path | None) -> bool:
    """Write a text to a file or, without one, to standard output; return whether to a file.

    Raises:
        StorageError: if the file cannot be written.
    """
    if out is None:
        typer.echo(text, nl=False)
        return False
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror or error}") from error
    return True
