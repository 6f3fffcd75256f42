"""`restmcts stack`: the whole distributed system on one machine, without containers."""

import subprocess
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted
from restmcts.errors import InputError
from restmcts.messages.workers import WORKERS, worker_named

from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts_cli.processes.stack_processes import Stack

Folder = Annotated[Path, typer.Option("--dir", help="The folder of data, logs, state and settings.", file_okay=False)]
DEFAULT_FOLDER = Path("restmcts-stack")
COLUMNS = ("name", "state", "pid", "restarts", "log")

app = typer.Typer(help="Run the workers and their servers as plain processes of this machine.", no_args_is_help=True)


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    workers: Annotated[
        list[str] | None,
        typer.Option(
            help="How many workers of each kind run, e.g. tree-search=2,policy-generator=1. Kinds that are not "
            "named stay as they were; at first, one of each runs."
        ),
    ] = None,
    max_stuck: Annotated[
        float | None,
        typer.Option(
            help="After how many seconds without progress within one task `stack status` calls a worker unwell; "
            "1800 until it is set, and remembered.",
            min=1.0,
        ),
    ] = None,
) -> None:
    """Start PostgreSQL, Redis, an S3 server and the workers, and wait until all are healthy.

    Servers that RESTMCTS_DATABASE_URL, RESTMCTS_REDIS_URL or RESTMCTS_S3_ENDPOINT name are used
    instead. Processes that run already are left alone; workers above the given numbers are stopped,
    so the same command also scales, and the numbers are remembered. A supervisor restarts processes
    that end.
    """
    print_note(f"restmcts stack up in {folder}")
    stack = _open(folder)
    stack.up({**dict.fromkeys(WORKERS, 1), **stack.scale, **parse_workers(",".join(workers or []))}, max_stuck)
    stack.supervise()
    if missing := [worker for worker, number in stack.scale.items() if not number]:
        print_note(f"of {', '.join(missing)} none runs, as was last asked for (--workers {missing[0]}=1 starts one)")
    print_note(
        f"up: {len(stack.members())} processes; other commands find them with: export RESTMCTS_ENV_FILE={stack.env_file}"
    )


@app.command()
def status(folder: Folder = DEFAULT_FOLDER, json: Json = False) -> None:
    """Show each process with its state, the number of its restarts, and its log file.

    The exit code is 1 if a process should run and does not.
    """
    stack = _open(folder)
    rows = status_rows(stack, time.time())
    if json:
        print_json(rows)
    else:
        print_table(COLUMNS, rows, empty=f"nothing was started here; restmcts stack up --dir {quote(str(folder))}")
    unwell = [row for row in rows if row["state"] != "healthy"]
    if unwell and not json:
        print_note(f"to see why: restmcts stack logs {unwell[0]['name']} --dir {quote(str(folder))}")
        print_note(f"to start what is missing: restmcts stack up --dir {quote(str(folder))}")
    if unwell:
        raise typer.Exit(1)


def status_rows(stack: "Stack", moment: float) -> list[dict[str, object]]:
    """Return a row for each process that was started or should live: name, state, process id,
    number of restarts, log file. `moment` is the time in seconds since the epoch.
    """
    faults = stack.faults()
    pids = {member.name: member.pid for member in stack.members()}
    supervised = "supervisor" in faults and faults["supervisor"] is None
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys([*pids, *(stack.wanted() if pids else ())]):
        restarts = stack.restarts(name)
        state = faults.get(name, "not running") or "healthy"
        if state == "not running" and supervised:
            state = f"not running; started again in {max(restarts.not_before - moment, 0):.0f} s"
        rows.append(
            {
                "name": name,
                "state": state,
                "pid": pids.get(name),
                "restarts": restarts.count,
                "log": str(stack.log_file(name)),
            }
        )
    return rows


@app.command()
def logs(
    worker: Annotated[str, typer.Argument(help="A process of `stack status`, or a kind of worker: all of that kind.")],
    folder: Folder = DEFAULT_FOLDER,
    lines: Annotated[int, typer.Option("--lines", "-n", help="The number of last lines that are shown.", min=1)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new lines.")] = False,
) -> None:
    """Show the last lines that a worker or server wrote.

    Example: [bold]restmcts stack logs trainer --follow[/bold]
    """
    files = log_files(_open(folder), worker)
    command = ["tail", f"--lines={lines}", *(["--follow=name", "--retry"] if follow else []), *map(str, files)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def log_files(stack: "Stack", worker: str) -> list[Path]:
    """Return the log files of a process, or of all workers of a kind.

    Raises:
        InputError: if there is no such process or kind, or it has not written yet.
    """
    names = list(dict.fromkeys([*(member.name for member in stack.members()), *stack.wanted()]))
    if worker not in names:
        prefix = f"{worker_named(worker)}-"
        names = [name for name in names if name.startswith(prefix)]
    else:
        names = [worker]
    files = [path for name in names if (path := stack.log_file(name)).is_file()]
    if not files:
        raise InputError(
            f"{stack.folder} has no log of {worker}; restmcts stack status --dir {quote(str(stack.folder))} lists all"
        )
    return files


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """Stop everything that `up` started; data stay in the folder, and the numbers of workers are
    remembered.
    """
    stack = _open(folder)
    count = len(stack.members())
    stack.down()
    print_note(f"down: {counted(count, 'process', 'processes')} stopped; the data are in {stack.folder}")


def parse_workers(text: str) -> dict[str, int]:
    """Return numbers by kind of worker from "tree-search=2,policy-generator=1".

    Raises:
        InputError: if the text is not of that form, there is no such kind, or it is named twice.
    """
    workers = {}
    for part in filter(None, text.split(",")):
        kind, _, count = part.partition("=")
        if not (count.isascii() and count.isdecimal()):
            raise InputError(f"--workers {part}: write it as {kind or 'tree-search'}=2")
        worker = worker_named(kind.strip())
        if worker in workers:
            raise InputError(f"--workers {part}: {worker} is named twice; name it once")
        workers[worker] = int(count)
    return workers


def _open(folder: Path) -> "Stack":
    from restmcts_cli.processes.stack_processes import Stack

    return Stack(folder)
