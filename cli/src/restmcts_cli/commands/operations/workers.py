"""`restmcts workers`: what waits for each kind of worker, what each process does, and how many
of each are to run.
"""

import os
import shlex
import time
from collections import Counter
from collections.abc import Container, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.scaling import Autoscaler, Bounds, parse_bounds
from restmcts.errors import InputError
from restmcts.messages.workers import WORKER_OF_QUEUE, WORKERS, worker_named

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.adapters.sql.reads.stack_queries import WorkerProcess

REQUEST_KINDS = {"policy-generator": "propose", "prm-scorer": "score"}
COLUMNS = ("worker", "processes", "messages", "requests_waiting", "requests_held", "requests_overdue", "jobs")
PROCESS_COLUMNS = ("worker", "host", "pid", "state", "doing", "for", "num_done", "started_at", "seen")
SILENT_SECONDS = 30.0

ComposeFiles = Annotated[list[Path] | None, typer.Option("--file", "-f", help="Compose file; several for overrides.")]
StackFolder = Annotated[
    Path | None,
    typer.Option("--dir", help="The folder of a `restmcts stack`, which is scaled then.", file_okay=False),
]

app = typer.Typer(
    help="Show what waits for each kind of worker and what each process does; scale workers.", no_args_is_help=True
)


@app.command("list")
def list_(workdir: Workdir = None, json: Json = False) -> None:
    """List what waits for each kind of worker (messages, model requests, training jobs), and each
    process with what it does.

    A process reports every few seconds how it is; one that was silent for half a minute was killed,
    or cannot reach the database. What it has done counts messages and, within them, batches and
    reports of training.

    Example: [bold]restmcts workers list[/bold]
    """
    with connect(workdir) as connection:
        processes = live_processes(connection)
        rows = _rows(connection, processes)
    if json:
        print_json({"kinds": rows, "processes": processes})
        return
    print_table(COLUMNS, rows, empty="no kinds of worker")
    if processes:
        print_table(PROCESS_COLUMNS, [_listed(process) for process in processes], empty="")


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """A process that reports itself; the names are those of the JSON document.

    Attributes:
        worker: its kind.
        state: "idle", "busy" or "silent".
        seconds: since it is idle or busy.
    """

    worker: str
    host: str
    pid: int
    started_at: datetime
    doing: str | None
    num_done: int
    state: str
    seconds: float
    seen_seconds_ago: float


def _listed(process: LiveProcess) -> dict[str, object]:
    times = {"for": _duration(process.seconds), "seen": f"{process.seen_seconds_ago:.0f} s ago"}
    return asdict(process) | times


def live_processes(connection: Connection) -> list[LiveProcess]:
    """Return the processes that report themselves."""
    from restmcts.adapters.sql.reads import stack_queries

    with connection.database.transaction() as transaction:
        rows, now = stack_queries.list_workers(transaction), transaction.now()
    return [_live(row, now) for row in rows]


def _live(row: "WorkerProcess", now: datetime) -> LiveProcess:
    seen = max((now - row.seen_at).total_seconds(), 0.0)
    return LiveProcess(
        worker=WORKER_OF_QUEUE[row.queue],
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        doing=row.doing,
        num_done=row.num_done,
        state="silent" if seen > SILENT_SECONDS else "busy" if row.doing is not None else "idle",
        seconds=max((now - row.since).total_seconds(), 0.0),
        seen_seconds_ago=seen,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _rows(connection: Connection, processes: Sequence[LiveProcess]) -> list[dict[str, object]]:
    from restmcts.adapters.buses.broker import queue_lengths
    from restmcts.adapters.sql.reads import stack_queries

    living = Counter(process.worker for process in processes if process.state != "silent")
    with connection.database.transaction() as transaction:
        requests = {row.kind: row for row in stack_queries.open_requests(transaction)}
        jobs = stack_queries.training_jobs(transaction)
    lengths = queue_lengths(connection.settings.redis_url.get_secret_value()) if connection.settings is not None else {}
    rows: list[dict[str, object]] = []
    for worker, queue in WORKERS.items():
        row: dict[str, object] = {"worker": worker, "processes": living[worker], "messages": lengths.get(queue)}
        if worker in REQUEST_KINDS:
            kind = REQUEST_KINDS[worker]
            counts = requests.get(kind) or stack_queries.OpenRequests(kind, waiting=0, leased=0, overdue=0)
            row |= {
                "requests_waiting": counts.waiting,
                "requests_held": counts.leased,
                "requests_overdue": counts.overdue,
            }
        if worker == "trainer":
            row["jobs"] = len(jobs)
        rows.append(row)
    return rows


@app.command()
def scale(
    wanted: Annotated[list[str], typer.Argument(help="WORKER=NUMBER, e.g. tree-search=3.")],
    file: ComposeFiles = None,
    folder: StackFolder = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the command.")] = False,
) -> None:
    """Run as many workers of a kind as asked for; the other services are left alone.

    In the compose stack of this folder, or with [bold]--dir[/bold] in a stack of processes.

    Example: [bold]restmcts workers scale tree-search=3 policy-generator=2[/bold]
    """
    from restmcts_cli.processes.scaling import scale_workers

    scale_workers(_counts(wanted), folder, file or (), dry_run=dry_run)


def _counts(wanted: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in wanted:
        name, _, number = text.partition("=")
        worker = worker_named(name)
        if not number.isascii() or not number.isdigit():
            raise InputError(f"{text!r}: write WORKER=NUMBER, e.g. {worker}=2")
        _name_once(worker, counts)
        counts[worker] = int(number)
    return counts


@app.command()
def autoscale(
    bounds: Annotated[
        list[str],
        typer.Argument(
            help="WORKER=LEAST-MOST:TARGET, e.g. policy-generator=0-4:64: from none to four, one for each 64 requests. "
            "Work is counted in searching trees (tree-search), trees to label (value-labeler), model requests "
            "(policy-generator, prm-scorer) and trainings (trainer)."
        ),
    ],
    file: ComposeFiles = None,
    folder: StackFolder = None,
    every: Annotated[float, typer.Option(help="Seconds between two checks of the database.", min=0.1)] = 10.0,
    cooldown: Annotated[
        float, typer.Option(help="Seconds for which fewer workers must be enough before some are stopped.", min=0.0)
    ] = 300.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check once, print what would run, and end.")] = False,
) -> None:
    """Keep as many workers running as the work needs, until Ctrl-C.

    Work is counted as for KEDA on Kubernetes: what waits or is leased in running runs. More workers
    are started at once; a worker that is stopped first finishes its current work. What fails is
    tried again; Ctrl-C leaves running what runs.

    Example: [bold]restmcts workers autoscale policy-generator=0-4:64 tree-search=1-4:256[/bold]
    """
    scalers = {worker: Autoscaler(chosen, cooldown) for worker, chosen in _bounds(bounds).items()}
    if folder is not None:
        os.environ.update(_settings_of_stack(folder))
    with connect(None) as connection:
        if dry_run:
            for worker, number in _decide(connection, scalers).items():
                typer.echo(f"{worker}={number}")
            return
        from restmcts_cli.processes.scaling import alone_in, asked_for, keep_scaled, scale_workers

        def scale(counts: dict[str, int]) -> None:
            scale_workers(counts, folder, file or ())

        with alone_in(folder, scalers) if folder is not None else nullcontext():
            running = None if folder is None else partial(asked_for, folder)
            try:
                keep_scaled(lambda: _decide(connection, scalers), scale, every, running=running)
            except KeyboardInterrupt:
                print_note("autoscale: ended; what runs goes on")


def _settings_of_stack(folder: Path) -> dict[str, str]:
    from restmcts_cli.processes.stack_processes import Stack

    settings = Stack(folder).settings
    if not settings:
        raise InputError(f"{folder} contains no stack: restmcts stack up --dir {shlex.quote(str(folder))}")
    return settings


def _decide(connection: Connection, scalers: dict[str, Autoscaler]) -> dict[str, int]:
    from restmcts.adapters.sql.reads.demand import demand

    with connection.database.transaction() as transaction:
        work = {worker: demand(transaction, worker) for worker in scalers}
    return {worker: scaler.decide(work[worker], time.monotonic()) for worker, scaler in scalers.items()}


def _bounds(texts: Sequence[str]) -> dict[str, Bounds]:
    chosen: dict[str, Bounds] = {}
    for given in texts:
        name, _, bounds = given.partition("=")
        worker = worker_named(name)
        if worker == "coordinator":
            raise InputError(
                "the coordinator is not scaled: one decides for all, and a second one only waits to replace it"
            )
        _name_once(worker, chosen)
        chosen[worker] = parse_bounds(bounds)
    return chosen


def _name_once(worker: str, named: Container[str]) -> None:
    if worker in named:
        raise InputError(f"{worker} is named twice; name it once")
