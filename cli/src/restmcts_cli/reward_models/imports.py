"""`restmcts datasets import`: files with labelled steps as training data of value models."""

import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError

from restmcts_cli.commands.records.checkpoints import not_written
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note

if TYPE_CHECKING:
    from restmcts.adapters.files.labelled_solutions import Form
    from restmcts.adapters.files.value_imports import Neutral

_MAX_TOLD = 5


class ImportFormat(StrEnum):
    """Forms of `restmcts.adapters.files.labelled_solutions`."""

    PRM800K = "prm800k"
    MATH_SHEPHERD = "math-shepherd"
    PROCESSBENCH = "processbench"
    PRMBENCH = "prmbench"
    STEPWISE = "stepwise"


class NeutralRating(StrEnum):
    """What a neutral rating counts as."""

    RIGHT = "right"
    WRONG = "wrong"


def import_(
    source: Annotated[
        str, typer.Argument(help="A file or folder of rows, hub:OWNER/NAME, [bold]processbench[/bold] or prmbench.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to make: Parquet and a card.", file_okay=False)],
    format_: Annotated[
        ImportFormat | None,
        typer.Option(
            "--format",
            help="Form of the rows; stepwise is TRL's (prompt, completions, labels), and what `datasets export` writes. "
            "Without: recognised by the fields of each row.",
        ),
    ] = None,
    neutral: Annotated[
        NeutralRating, typer.Option(help="What PRM800K's neutral ratings count as; its authors leave it open.")
    ] = NeutralRating.RIGHT,
    split: Annotated[str, typer.Option(help="The split of a data set of the hub.")] = "train",
    json: Json = False,
) -> None:
    """Make training data of a value model from a file with labelled steps: PRM800K, Math-Shepherd,
    ProcessBench, PRMBench or TRL's stepwise supervision.

    Labels between 0 and 1 stay as they are; bad rows are reported and skipped. A value model is
    trained on the folder by [bold]restmcts prm train[/bold].

    Example: [bold]restmcts datasets import shepherd.jsonl my-labels --format math-shepherd[/bold]
    """
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    print_note(f"restmcts datasets import: {source}")
    try:
        card = _written(source, out, format_.value if format_ else None, neutral.value, split)
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)
        raise not_written(out, error) from error
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    if json:
        print_json({"folder": str(out), **card})
        return
    print_fields({"rows": card["num_rows"], "problems": card["num_problems"], "bad rows": card["num_bad"] or None})
    print_note(
        f"{card['num_rows']:,} rows are in {out}; `restmcts prm train {quote(str(out))} OUT --trunk MODEL` trains on them"
    )


def _written(source: str, out: Path, form: "Form | None", neutral: "Neutral", split: str) -> dict[str, Any]:
    """Write the data and return their card.

    Raises:
        InputError: if the source cannot be read, or has no labelled step.
    """
    from restmcts.adapters.files.dataset_shards import VALUE_SCHEMA, write_shards
    from restmcts.adapters.files.labelled_solutions import FORMS

    counts = {"num_bad": 0, "num_problems": 0}
    rows = _good_rows(source, form, neutral, split, counts)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source} has no labelled step; give {FORMS}")
    out.mkdir(parents=True)
    facts = {"kind": "train-value", "source": source, "format": form, "neutral": neutral}

    def every() -> Iterator[dict[str, Any]]:
        yield first
        yield from rows

    written = write_shards(every(), VALUE_SCHEMA, facts, out)
    return written | counts


def _good_rows(
    source: str, form: "Form | None", neutral: "Neutral", split: str, counts: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """Yield the rows; bad ones are reported and counted, problems are counted."""
    from restmcts.adapters.files.problem_files import BadLine
    from restmcts.adapters.files.value_imports import value_rows

    from restmcts_cli.reward_models.sources import numbered_rows

    for row in value_rows(numbered_rows(source, split), form, neutral):
        if not isinstance(row, BadLine):
            counts["num_problems"] = max(counts["num_problems"], row["problem_id"] + 1)
            yield row
            continue
        counts["num_bad"] += 1
        if counts["num_bad"] <= _MAX_TOLD:
            print_note(f"{source}, line {row.line_number}: {row.reason}; passed over")
    if counts["num_bad"] > _MAX_TOLD:
        print_note(f"{source}: {counts['num_bad'] - _MAX_TOLD} more lines were passed over")
