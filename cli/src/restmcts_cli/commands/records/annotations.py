"""`restmcts annotations`: what people say of steps and answers."""

import json as json_module
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted
from restmcts.errors import InputError, StorageError
from restmcts.reporting.plain_text import shortened

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table, write_out

if TYPE_CHECKING:
    from restmcts.adapters.sql.rows import JsonObject
    from restmcts.usecases.truth.annotate import AnnotationInTree

COLUMNS = ("tree", "node", "phase", "subject", "verdict", "who", "when", "step", "note")
MAX_SHOWN = 60

app = typer.Typer(help="List, export and import what people say of steps and answers.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(help="The run's name.")]


@app.command("list")
def list_(run: Run, workdir: Workdir = None, json: Json = False) -> None:
    """List the annotations of a run, in order of tree and step.

    They are entered in the viewer ([bold]restmcts ui[/bold]), where a step or the verdict on an
    answer is marked right, wrong or unsure.

    Example: [bold]restmcts annotations list demo[/bold]
    """
    found = _annotations(run, workdir)
    if json:
        print_json(found)
        return
    rows = [
        asdict(one) | {"step": shortened(one.step.strip(), MAX_SHOWN), "note": shortened(one.note, MAX_SHOWN) or None}
        for one in found
    ]
    print_table(COLUMNS, rows, empty=f"nobody has annotated a tree of {run}")


@app.command()
def export(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Write here instead of to standard output.", dir_okay=False)] = None,
    workdir: Workdir = None,
) -> None:
    """Write the annotations of a run as JSON lines: run, phase, problem, tree, node, the path of
    steps, subject, verdict, note, who, source and when.

    Example: [bold]restmcts annotations export demo --out annotations.jsonl[/bold]
    """
    found = _annotations(run, workdir)
    text = "".join(json_module.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)
    if write_out(text, out):
        print_note(f"{counted(len(found), 'annotation')} of {run} written to {out}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines as `annotations export` writes them.", dir_okay=False)],
    run: Annotated[
        str | None, typer.Option(help="Annotate the trees of this run instead of those of the run that lines name.")
    ] = None,
    workdir: Workdir = None,
) -> None:
    """Read annotations from JSON lines: all of them or, if a line is bad, none.

    A line is of the step with the same path, in a tree of the same run, phase and problem. What
    the same person said of the same step before is replaced.

    Example: [bold]restmcts annotations import annotations.jsonl --run demo-again[/bold]
    """
    from restmcts.usecases.truth.annotate import import_annotation

    rows = list(_lines(file))
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        for line, row in rows:
            try:
                import_annotation(transaction, row, run)
            except (InputError, StorageError) as error:
                raise InputError(f"{file}, line {line}: {error}; nothing was imported") from error
    print_note(f"{counted(len(rows), 'annotation')} imported")


def _annotations(run: str, workdir: Path | None) -> "list[AnnotationInTree]":
    from restmcts.usecases.truth.annotate import annotations_in

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        return annotations_in(transaction, run)


def _lines(file: Path) -> "Iterator[tuple[int, JsonObject]]":
    """Yield the objects of a file of JSON lines, each with its line's number."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json_module.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number}: it is not JSON ({error}); nothing was imported") from error
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number}: it is no JSON object; nothing was imported")
        yield number, row
