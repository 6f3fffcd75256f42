"""`restmcts stack`: the whole distributed system on one machine, without containers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.reports.shown_tables import Json, print_json, print_table, told

if TYPE_CHECKING:
    from restmcts_cli.processes.stack_processes import Stack

DEFAULT_WORKERS = {"coordinator": 1, "search": 1, "policy": 1, "prm": 1, "labels": 1, "trainer": 1}

Folder = Annotated[
    Path, typer.Option("--dir", help="Holds data, logs, state and settings of the stack.", file_okay=False)
]
DEFAULT_FOLDER = Path("restmcts-stack")

app = typer.Typer(help="The workers and their servers as plain processes of this machine.", no_args_is_help=True)


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    workers: Annotated[
        str, typer.Option(help="How many of each kind, e.g. search=2,policy=1; one where not named.")
    ] = "",
) -> None:
    """Start PostgreSQL, Redis, an S3 server and the workers, and wait until all are healthy.

    Servers that RESTMCTS_DATABASE_URL, RESTMCTS_REDIS_URL or RESTMCTS_S3_ENDPOINT name are used
    instead. What runs stays as it is; workers above the given numbers are stopped, so that the same
    command scales.
    """
    stack = _open(folder)
    stack.up({**DEFAULT_WORKERS, **parse_workers(workers)})
    told(
        f"up: {len(stack.members())} processes; other commands find them with: export RESTMCTS_ENV_FILE={stack.env_file}"
    )


@app.command()
def status(folder: Folder = DEFAULT_FOLDER, json: Json = False) -> None:
    """Say what runs and what does not; exit code 1 if something should and does not."""
    stack = _open(folder)
    pids = {member.name: member.pid for member in stack.members()}
    rows = [{"name": name, "state": fault or "healthy", "pid": pids[name]} for name, fault in stack.faults().items()]
    if json:
        print_json(rows)
    else:
        print_table(("name", "state", "pid"), rows, empty="nothing was started here")
    if any(row["state"] != "healthy" for row in rows):
        raise typer.Exit(1)


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """Stop everything that `up` started; data stay in the folder."""
    stack = _open(folder)
    count = len(stack.members())
    stack.down()
    told(f"down: {count} processes stopped; the data are in {stack.folder}")


def parse_workers(text: str) -> dict[str, int]:
    """Return numbers by kind of worker from "search=2,policy=1".

    Raises:
        InputError: if the text is not of that form.
    """
    workers = {}
    for part in filter(None, text.split(",")):
        kind, _, count = part.partition("=")
        if not count.isdecimal():
            raise InputError(f"--workers {part}: write it as {kind or 'search'}=2")
        workers[kind.strip()] = int(count)
    return workers


def _open(folder: Path) -> "Stack":
    from restmcts_cli.processes.stack_processes import Stack

    return Stack(folder)
