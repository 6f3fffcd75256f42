"""`restmcts workers`: what waits for each kind of worker, and how many of each are to run."""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from restmcts.errors import InputError, RestMctsError

from restmcts_cli.connection import Connection, Workdir, connect
from restmcts_cli.tables_shown import Json, print_json, print_table, told

SERVICES = {
    "coordinator": "coordinator",
    "policy-generator": "policy",
    "prm-scorer": "prm",
    "tree-search": "search",
    "value-labeler": "labels",
    "trainer": "trainer",
}
REQUEST_KINDS = {"policy-generator": "propose", "prm-scorer": "score"}
COLUMNS = ("worker", "messages", "requests_waiting", "requests_held", "requests_overdue", "jobs")

app = typer.Typer(help="See what waits for each kind of worker; scale them.", no_args_is_help=True)


@app.command("list")
def list_(workdir: Workdir = None, json: Json = False) -> None:
    """List the kinds of worker with what waits for each: messages, model requests (waiting, held under a lease), training jobs.

    The processes themselves are listed by `docker compose ps`, or `restmcts stack status`.

    Example: [bold]restmcts workers list[/bold]
    """
    with connect(workdir) as connection:
        rows = _rows(connection)
    if json:
        print_json(rows)
    else:
        print_table(COLUMNS, rows, empty="no kinds of worker")


def _rows(connection: Connection) -> list[dict[str, Any]]:
    from restmcts.adapters.sql import queries

    from restmcts_cli.broker import queue_lengths

    with connection.database.transaction() as transaction:
        requests = {row["kind"]: row for row in queries.open_requests(transaction)}
        jobs = queries.training_jobs(transaction)
    lengths = queue_lengths(connection.settings.redis_url.get_secret_value()) if connection.settings is not None else {}
    rows: list[dict[str, Any]] = []
    for worker, queue in SERVICES.items():
        row: dict[str, Any] = {"worker": worker, "messages": lengths.get(queue)}
        if worker in REQUEST_KINDS:
            counts = requests.get(REQUEST_KINDS[worker], {})
            row |= {f"requests_{name}": counts.get(key, 0) for name, key in _REQUEST_COLUMNS.items()}
        if worker == "trainer":
            row["jobs"] = len(jobs)
        rows.append(row)
    return rows


_REQUEST_COLUMNS = {"waiting": "waiting", "held": "leased", "overdue": "overdue"}


@app.command()
def scale(
    wanted: Annotated[list[str], typer.Argument(help="WORKER=NUMBER, e.g. tree-search=3.")],
    file: Annotated[list[Path] | None, typer.Option("--file", "-f", help="Compose file; several for overrides.")] = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="Of a `restmcts stack`: scale that one.", file_okay=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the command.")] = False,
) -> None:
    """Run as many workers of a kind as asked for; the other services are left alone.

    In the compose stack of this folder, or with [bold]--dir[/bold] in a stack of processes.

    Example: [bold]restmcts workers scale tree-search=3 policy-generator=2[/bold]
    """
    counts = _counts(wanted)
    if folder is not None:
        _scale_processes(folder, counts, dry_run)
    else:
        _scale_containers(file or [Path("docker-compose.yml")], counts, dry_run)


def _scale_processes(folder: Path, counts: Mapping[str, int], dry_run: bool) -> None:
    kinds = {SERVICES[worker]: number for worker, number in counts.items()}
    if dry_run:
        raise InputError("--dry-run is for the compose stack: a stack of processes is scaled by this program itself")
    from restmcts_cli.stack_processes import Stack

    stack = Stack(folder)
    if not stack.members():
        raise InputError(f"{folder} holds no stack: restmcts stack up --dir {folder}")
    stack.up(kinds)
    told(", ".join(f"{number} {worker}" for worker, number in counts.items()) + " run")


def _scale_containers(files: Sequence[Path], counts: Mapping[str, int], dry_run: bool) -> None:
    scales = [part for worker, number in counts.items() for part in ("--scale", f"{worker}={number}")]
    chosen = [part for path in files for part in ("--file", str(path))]
    command = [*_compose(), *chosen, "up", "--detach", "--no-deps", "--no-recreate", *scales, *counts]
    if dry_run:
        typer.echo(shlex.join(command))
        return
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{missing} is not here: call this where the compose file lies, or name it with --file")
    if not shutil.which(command[0]):
        raise InputError("docker is not installed here; --dry-run prints the command for the machine that has it")
    told(shlex.join(command))
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise RestMctsError(f"{command[0]} ended with {done.returncode}; what it said stands above")


def _compose() -> list[str]:
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def _counts(wanted: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in wanted:
        worker, _, number = text.partition("=")
        if worker not in SERVICES:
            raise InputError(f"no kind of worker is named {worker!r}; there are {', '.join(SERVICES)}")
        if not number.isascii() or not number.isdigit():
            raise InputError(f"{text!r}: write WORKER=NUMBER, e.g. {worker}=2")
        counts[worker] = int(number)
    return counts
