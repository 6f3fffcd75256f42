"""`restmcts datasets`: the training data that trees gave."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.commands.records.checkpoints import DIGITS_SHOWN, copy_folder, not_written
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table
from restmcts_cli.reward_models.consensus import consensus
from restmcts_cli.reward_models.imports import import_
from restmcts_cli.row_progress import with_progress

if TYPE_CHECKING:
    from restmcts.adapters.sql.rows import JsonObject, ListedDataset

app = typer.Typer(help="List, read, fetch and import training data.", no_args_is_help=True)
app.command("import")(import_)
app.command()(consensus)


class ExportFormat(StrEnum):
    """Formats of `restmcts.adapters.files.dataset_formats`."""

    TRL_STEPWISE = "trl-stepwise"
    SOFT_STEPWISE = "soft-stepwise"
    PREFERENCE = "preference"
    PAPER_JSON = "paper-json"
    WEIGHTED_STEPS = "weighted-steps"
    VERIFIERS = "verifiers"


Run = Annotated[str, typer.Argument(help="The run's name.")]
Phase = Annotated[str, typer.Argument(help="The training phase, e.g. policy-1 or value-0.")]


@app.command("list")
def list_(
    run: Annotated[str | None, typer.Argument(help="Only data sets of this run.")] = None,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """List training data, each by the phase that it trains.

    Example: [bold]restmcts datasets list demo[/bold]
    """
    from restmcts_cli.remote import artifacts, client

    api = client.over_http(workdir)
    rows = artifacts.datasets(api, run) if api is not None else _stored(workdir, run)
    if json:
        print_json(rows)
        return
    shown = [
        asdict(row) | {"digest": row.digest[:DIGITS_SHOWN], "num_trees": row.card.get("num_trees")} for row in rows
    ]
    print_table(("run", "phase", "kind", "num_rows", "num_trees", "digest", "created_at"), shown, empty="no data sets")


def _stored(workdir: Path | None, run: str | None) -> "list[ListedDataset]":
    from restmcts.adapters.sql.reads import queries

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        run_id = queries.run_named(transaction, run).id if run is not None else None
        return queries.list_datasets(transaction, run_id)


@app.command()
def show(
    run: Run,
    phase: Phase,
    rows: Annotated[int, typer.Option(help="First rows shown as well.", min=0)] = 3,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Show a data set's card and its first rows.

    Example: [bold]restmcts datasets show demo value-1 --rows 5[/bold]
    """
    from restmcts_cli.remote import artifacts, client
    from restmcts_cli.reports.lineage import dataset_of

    if (api := client.over_http(workdir)) is not None:
        found, first = artifacts.dataset(api, run, phase), artifacts.first_rows(api, run, phase, rows)
    else:
        with connect(workdir) as connection:
            found = dataset_of(connection, run, phase)
            first = _first_rows(connection.artifacts.fetch(found.uri), rows) if rows else []
    if json:
        print_json({**asdict(found), "rows": first})
        return
    print_fields({**{key: getattr(found, key) for key in ("run", "phase", "kind", "uri", "created_at")}, **found.card})
    if first:
        print_table([name for name in first[0] if not name.endswith("_id")], first, empty="")


@app.command()
def trace(
    run: Run,
    phase: Phase,
    row: Annotated[int, typer.Argument(help="The row's number, from 0.", min=0)],
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Show where a row comes from: problem, tree, node with its label, seed, settings, and the
    checkpoints that searched.

    The other way round: [bold]restmcts trees rows TREE[/bold].

    Example: [bold]restmcts datasets trace demo value-1 17[/bold]
    """
    from restmcts.adapters.sql.reads import queries
    from restmcts.adapters.sql.state import archived_trees

    from restmcts_cli.reports.lineage import trace_row

    with connect(workdir) as connection:
        found = trace_row(connection, run, phase, row).document()
        with connection.database.transaction() as transaction:
            if queries.run_named(transaction, run).trees_in_store is not None:
                print_note(archived_trees.in_words(run, connection.database.place))
    if json:
        print_json(found)
        return
    for name, value in found.items():
        for part in value if isinstance(value, list) else [value]:
            shown = part if isinstance(part, dict) else {name: part}
            print_fields({key if key == name else f"{name}: {key}": one for key, one in shown.items()})


def _first_rows(folder: Path, num_rows: int) -> "list[JsonObject]":
    """Return the first rows of the first shard, without reading the others."""
    from pyarrow.parquet import ParquetFile

    for shard in sorted(folder.glob("train-*.parquet")):
        with ParquetFile(shard) as file:
            batch = next(file.iter_batches(batch_size=num_rows), None)
        return list(batch.to_pylist()) if batch is not None else []
    return []


@app.command()
def pull(
    run: Run,
    phase: Phase,
    out: Annotated[
        Path, typer.Argument(help="Folder to make; `datasets` and pandas read its Parquet files.", file_okay=False)
    ],
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Copy a data set's files into a new folder.

    Example: [bold]restmcts datasets pull demo policy-1 my-data[/bold]
    """
    print_note(f"copying the training data of {phase} of run {run} to {out}")
    from restmcts_cli.remote import artifacts, client
    from restmcts_cli.reports.lineage import dataset_of

    if (api := client.over_http(workdir)) is not None:
        found = artifacts.dataset(api, run, phase)
        artifacts.pull(api, out, "runs", run, "datasets", phase)
    else:
        with connect(workdir) as connection:
            found = dataset_of(connection, run, phase)
            copy_folder(connection.artifacts.fetch(found.uri), out)
    if json:
        print_json({"run": run, "phase": phase, "folder": str(out)})
    else:
        print_note(f"{counted(found.num_rows, 'row')} written to {out}")


@app.command()
def export(
    run: Run,
    phase: Phase,
    out: Annotated[Path, typer.Argument(help="File to make; JSON lines.", dir_okay=False)],
    to: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="trl-stepwise: steps with labels, as TRL trains PRMs; soft-stepwise: the same with values from"
            " 0 to 1 as labels; preference: prompt, chosen, rejected; paper-json: as the"
            " released code reads it; weighted-steps: a policy's paths with a weight, value, leaf count and log-probability a"
            " step; verifiers: a policy's whole solutions as traces of the package verifiers.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            help="A run that `restmcts regrade` made of this one: the data are made anew of its verdicts and labels.",
            show_default=False,
        ),
    ] = None,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Write a data set in a format that other programs read.

    Example: [bold]restmcts datasets export demo value-1 steps.jsonl --format trl-stepwise[/bold]
    """
    from json import dumps

    if out.exists():
        raise InputError(f"{out} exists already; name a new file")
    print_note(f"writing the training data of {phase} of run {run} to {out}")
    from restmcts.adapters.files.dataset_formats import convert

    with connect(workdir) as connection:
        rows = _stored_rows(connection, run, phase) if labels is None else _relabelled(connection, run, phase, labels)
    converted = with_progress(convert(rows, to.value), f"writing {out}")
    lines = [dumps(line, ensure_ascii=False) + "\n" for line in converted]
    try:
        out.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        out.unlink(missing_ok=True)
        raise not_written(out, error) from error
    if json:
        print_json({"run": run, "phase": phase, "file": str(out), "format": to.value, "num_rows": len(lines)})
    else:
        print_note(f"{counted(len(lines), 'row')} written to {out}")


def _stored_rows(connection: Connection, run: str, phase: str) -> "list[JsonObject]":
    from restmcts.adapters.files.dataset_shards import read_rows

    from restmcts_cli.reports.lineage import dataset_of

    return read_rows(connection.artifacts.fetch(dataset_of(connection, run, phase).uri))


def _relabelled(connection: Connection, run: str, phase: str, labels: str) -> "list[JsonObject]":
    """Return the rows of a training phase, made of the trees of a run that was graded again.

    Raises:
        InputError: if that run is none of this one's, or the phase trains nothing.
    """
    from restmcts.adapters.sql.reads import queries
    from restmcts.adapters.sql.state import runs
    from restmcts.domain.runs.phases import TRAINING_PHASE

    try:
        from restmcts_value_labeler.datasets import phase_rows
    except ImportError as error:
        raise InputError(f"the value labeler is not installed here ({error}): restmcts-cli[local]") from error
    with connection.database.transaction() as transaction:
        row = queries.run_named(transaction, labels)
        if row.config.get("regraded", {}).get("run") != run or row.state != "done":
            raise InputError(
                f"run {labels} is no regraded run of {run}; `restmcts regrade {quote(run)} --name "
                f"{quote(labels)}{transaction.place}` makes one"
            )
        specs = {one.name: one.spec for one in runs.phases_of(transaction, queries.run_named(transaction, run).id)}
        kinds = [name for name, spec in specs.items() if str(spec.get("kind", "")).startswith("train-")]
    if phase not in kinds:
        raise InputError(f"run {run} has no training phase {phase!r}; it has {', '.join(kinds) or 'none'}")
    return list(phase_rows(connection.database, row.id, TRAINING_PHASE.validate_python(specs[phase]))[0])
