"""`restmcts gains`: where search pays, from comparisons that were made."""

import json as json_format
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError, StorageError

from restmcts_cli.reports.shown_tables import console, print_json

if TYPE_CHECKING:
    from restmcts.domain.stats.gains import MeasuredAccuracy


def gains(
    comparisons: Annotated[
        list[str],
        typer.Argument(
            help="Files with what [bold]restmcts compare --json[/bold] printed; with a NAME before them, that is "
            "their title.",
            metavar="[NAME=]FILE...",
        ),
    ],
    over: Annotated[str, typer.Option(help="The method over which the others gain.")] = "rest-em",
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the table to this file, as Markdown.", dir_okay=False)
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Also draw the picture into this file.", dir_okay=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Map where search pays: the gain of each method over ReST^EM at equal tokens, against how
    often the first policy was right.

    Comparisons with the same title are put together, each seed once; a row of the table, and a
    point of the picture, is one method on one title. Of the settings, a title has the puzzle and
    its difficulty alone: name comparisons whose other settings differ.

    Example: [bold]restmcts compare --difficulty 3-6 --json > easy.json; restmcts gains easy.json
    'weak first policy=weak.json' --svg gains.svg[/bold]
    """
    from restmcts.domain.stats.gains import method_gains
    from restmcts.reporting.gain_maps import gain_picture, gain_table

    found = method_gains((row for one in comparisons for row in _titled(one)), over)
    table = gain_table(found, over)
    if markdown is not None:
        _write(markdown, f"{table.markdown()}\n\n{table.about}\n")
    if svg is not None:
        _write(svg, gain_picture(found, over))
    if json:
        print_json([asdict(one) for one in found])
    else:
        console().print(table.terminal())


def _titled(given: str) -> "Iterator[MeasuredAccuracy]":
    divided = [(given[:place].strip(), Path(given[place + 1 :])) for place, sign in enumerate(given) if sign == "="]
    if not divided or Path(given).is_file():
        return measured(Path(given))
    named = [(name, file) for name, file in divided if name and file.is_file()]
    if not named:
        raise InputError(f"{given}: there is no such file, and none behind a name; give FILE or NAME=FILE")
    return (replace(row, setting=named[0][0]) for row in measured(named[0][1]))


def measured(path: Path) -> "Iterator[MeasuredAccuracy]":
    """Yield the accuracies of a comparison: of what `compare --json` printed, the last line counts.

    Raises:
        InputError: if the file cannot be read, or holds something else.
    """
    from restmcts.domain.stats.gains import MeasuredAccuracy

    try:
        lines = path.read_text(encoding="utf-8").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from error
    try:
        document: dict[str, Any] = json_format.loads(lines[-1])
        for row in document["accuracies"]:
            if row["accuracy"] is not None:
                yield MeasuredAccuracy(
                    setting=document["title"],
                    method=row["method"],
                    seed=row["seed"],
                    iteration=row["iteration"],
                    accuracy=row["accuracy"],
                    repeat=row.get("repeat", 0),
                )
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its last line is not what `restmcts compare --json` prints") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
