"""`restmcts doctor`: looks at every part of the stack, or of a work folder, and says how to
fix what is not right.
"""

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import typer
from restmcts.domain.text import counted
from restmcts.errors import InputError, RestMctsError, StorageError
from restmcts.messages.workers import WORKERS
from restmcts.reporting.plain_text import plain
from rich.table import Table
from rich.text import Text

from restmcts_cli.arguments.connection import ARTIFACTS_FOLDER, Connection, Workdir, connect
from restmcts_cli.reports.shown_tables import Json, console, print_json, print_note

if TYPE_CHECKING:
    from restmcts.settings import Settings

ROUNDS_OF_GRACE = 4
# where the command line's key may also remove objects
DOCTORS_FOLDER = "doctor"


@dataclass(frozen=True, slots=True)
class StackFinding:
    """What one check found: `remedy` is empty where all is right."""

    part: str
    right: bool
    found: str
    remedy: str = ""


Check = Callable[[Connection], StackFinding]


@dataclass(frozen=True, slots=True)
class CheckOf:
    """A check of a part, what to do if it cannot be made, and the part without which it says
    nothing new.
    """

    part: str
    check: Check
    remedy: str
    needs: str = ""


def doctor(workdir: Workdir = None, json: Json = False) -> None:
    """Check the sandbox, settings, database, Redis, bucket, queues and what waits in them; exit
    code 1 if something is wrong.

    Example: [bold]restmcts doctor[/bold]
    """
    print_note(f"restmcts doctor: {workdir if workdir is not None else 'the stack'}")
    findings = list(_findings(workdir))
    if json:
        print_json(
            {"right": all(finding.right for finding in findings), "checks": [asdict(finding) for finding in findings]}
        )
    else:
        _print(findings)
    if not all(finding.right for finding in findings):
        raise typer.Exit(1)


def _print(findings: Sequence[StackFinding]) -> None:
    grid = Table.grid(padding=(0, 2))
    for finding in findings:
        right = Text("right", style="green") if finding.right else Text("WRONG", style="bold red")
        grid.add_row(right, Text(finding.part), Text(plain(finding.found)))
        if finding.remedy:
            grid.add_row("", "", Text(f"fix: {finding.remedy}"))
    console().print(grid)


def _findings(workdir: Path | None) -> Iterator[StackFinding]:
    """Yield what each check finds, in the order in which things are best fixed."""
    from restmcts.settings import env_file

    yield _sandbox()
    part = "settings" if workdir is None else "work folder"
    try:
        with connect(workdir, any_version=True) as connection:
            place = f"complete, in the environment or {env_file()}" if workdir is None else str(workdir)
            yield StackFinding(part, True, place)
            yield from _checked(connection, _STACK_CHECKS if workdir is None else _FOLDER_CHECKS)
    except InputError as error:
        remedy = (
            "`make env` writes them to .env where the repository is; or name --workdir"
            if workdir is None
            else "name the --workdir of a run"
        )
        yield StackFinding(part, False, str(error), remedy)


def _sandbox() -> StackFinding:
    """Say whether this machine confines programs; one that does not can still do all else."""
    from restmcts.adapters.sandbox.sandbox import Sandbox, SandboxError

    try:
        with Sandbox() as sandbox:
            missing = "; ".join(sandbox.missing())
    except SandboxError as error:
        missing = str(error)
    if missing:
        return StackFinding(
            "sandbox", True, f"none here (missing: {missing}): solutions of code problems stay undecided"
        )
    return StackFinding("sandbox", True, "programs are confined by Landlock, seccomp and limits")


def _checked(connection: Connection, checks: Sequence[CheckOf]) -> Iterator[StackFinding]:
    broken: set[str] = set()
    for one in checks:
        if one.needs in broken:
            broken.add(one.part)
            continue
        try:
            finding = one.check(connection)
        except RestMctsError as error:
            finding = StackFinding(one.part, False, " ".join(str(error).split()), one.remedy)
        if not finding.right:
            broken.add(one.part)
        yield finding


def _database(connection: Connection) -> StackFinding:
    from sqlalchemy import text

    with connection.database.transaction() as transaction:
        transaction.execute(text("SELECT 1"))
    return StackFinding("database", True, f"answers ({connection.database.engine.dialect.name})")


def _tables(connection: Connection) -> StackFinding:
    from restmcts.adapters.sql import versions

    wanted = versions.newest()
    with connection.database.transaction() as transaction:
        found = versions.version_of(transaction.connection)
    if found is not None and versions.bears(found):
        return StackFinding("tables", True, f"version {found}")
    option = f" --workdir {quote(str(connection.workdir))}" if connection.workdir is not None else ""
    remedy = f"restmcts db upgrade{option}"
    return StackFinding("tables", False, f"version {found or 'none'}, this program wants {wanted}", remedy)


def _folder_artifacts(connection: Connection) -> StackFinding:
    folder = (connection.workdir or Path()) / ARTIFACTS_FOLDER
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        return StackFinding("artifacts", False, f"{folder} cannot be written", "change its owner or its rights")
    return StackFinding("artifacts", True, str(folder))


def _redis(connection: Connection) -> StackFinding:
    from restmcts.adapters.buses.broker import server_options

    options = server_options(_settings(connection).redis_url.get_secret_value(), ("maxmemory-policy", "appendonly"))
    policy, file = options["maxmemory-policy"], options["appendonly"]
    if policy not in ("noeviction", None):
        return StackFinding(
            "redis",
            False,
            f"maxmemory-policy {policy} drops queues in silence",
            "redis-cli config set maxmemory-policy noeviction",
        )
    if file not in ("yes", None):
        return StackFinding(
            "redis", False, "appendonly no: a restart forgets every queue", "redis-cli config set appendonly yes"
        )
    return StackFinding(
        "redis", True, f"answers; maxmemory-policy {policy or 'not reported'}, appendonly {file or 'not reported'}"
    )


def _bucket(connection: Connection) -> StackFinding:
    """Write a small object, read it back and remove it."""
    import urllib3
    from minio import Minio
    from minio.error import MinioException

    settings = _settings(connection)
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5.0, read=15.0), retries=False)
    secret = settings.s3_secret_key.get_secret_value()
    client = Minio(
        settings.s3_endpoint,
        settings.s3_access_key,
        secret,
        secure=settings.s3_secure,
        region="us-east-1",
        http_client=pool,
    )
    body = uuid.uuid4().hex.encode()
    name = f"{DOCTORS_FOLDER}/{body.decode()}"
    where = f"bucket {settings.s3_bucket} at {settings.s3_endpoint}"
    try:
        # Some servers make the bucket that a write names.
        if not client.bucket_exists(settings.s3_bucket):
            return StackFinding("bucket", False, f"{where} is not there", "make it, or check RESTMCTS_S3_BUCKET")
        client.put_object(settings.s3_bucket, name, BytesIO(body), len(body))
        with client.get_object(settings.s3_bucket, name) as response:
            same = response.read() == body
        client.remove_object(settings.s3_bucket, name)
    except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise StorageError(f"{where}: {error}") from error
    if not same:
        return StackFinding(
            "bucket", False, f"{where} gives back other bytes", "look at the log and the disk of the S3 server"
        )
    return StackFinding("bucket", True, f"{where}: written, read and removed")


def _workers(connection: Connection) -> StackFinding:
    from restmcts_cli.commands.operations.workers import live_processes

    living = Counter(process.worker for process in live_processes(connection) if process.state != "silent")
    found = ", ".join(f"{living[worker]} {worker}" for worker in WORKERS)
    if all(living[worker] for worker in WORKERS):
        return StackFinding("workers", True, found)
    return StackFinding("workers", False, found, "docker compose up -d, or restmcts stack up; then read their logs")


def _queues(connection: Connection) -> StackFinding:
    from restmcts.adapters.buses.broker import queue_lengths

    lengths = queue_lengths(_settings(connection).redis_url.get_secret_value())
    return StackFinding("queues", True, ", ".join(f"{name} {length:,}" for name, length in lengths.items()))


def _requests(connection: Connection) -> StackFinding:
    from restmcts.adapters.sql.reads import stack_queries

    with connection.database.transaction() as transaction:
        rows = stack_queries.open_requests(transaction, _grace_seconds(connection))
    found = ", ".join(f"{row.waiting:,} to {row.kind} wait, {row.leased:,} leased" for row in rows) or "none open"
    num_overdue = sum(row.overdue for row in rows)
    if num_overdue:
        return StackFinding(
            "requests",
            False,
            f"{counted(num_overdue, 'lease')} ended and not released",
            "see that the coordinator and its clock run",
        )
    return StackFinding("requests", True, found)


def _outbox(connection: Connection) -> StackFinding:
    from restmcts.adapters.sql.reads import stack_queries

    with connection.database.transaction() as transaction:
        age = stack_queries.outbox_age_seconds(transaction)
    if age > _grace_seconds(connection):
        return StackFinding(
            "outbox",
            False,
            f"the oldest message waits for {age:,.0f} s",
            "see that Redis answers and the coordinator runs",
        )
    return StackFinding("outbox", True, f"the oldest message waits for {age:,.0f} s" if age else "empty")


def _dead_letters(connection: Connection) -> StackFinding:
    from restmcts.adapters.sql.reads import stack_queries

    with connection.database.transaction() as transaction:
        count = stack_queries.num_dead_letters(transaction)
    if count:
        return StackFinding(
            "dead letters", False, f"{count:,}", "restmcts dead-letters list says why; then retry or drop them"
        )
    return StackFinding("dead letters", True, "none")


def _grace_seconds(connection: Connection) -> float:
    return ROUNDS_OF_GRACE * _settings(connection).reconcile_seconds


def _settings(connection: Connection) -> "Settings":
    assert connection.settings is not None, "only the stack's checks ask for settings"
    return connection.settings


_STACK_CHECKS: tuple[CheckOf, ...] = (
    CheckOf("database", _database, "start PostgreSQL; check RESTMCTS_DATABASE_URL"),
    CheckOf("tables", _tables, "restmcts db upgrade", "database"),
    CheckOf("redis", _redis, "start Redis; check RESTMCTS_REDIS_URL and its password"),
    CheckOf(
        "bucket", _bucket, "start the S3 server and make the bucket; check RESTMCTS_S3_… and the rights of the key"
    ),
    CheckOf("workers", _workers, "look at the log of PostgreSQL", "tables"),
    CheckOf("queues", _queues, "look at the log of Redis", "redis"),
    CheckOf("requests", _requests, "look at the log of PostgreSQL", "tables"),
    CheckOf("outbox", _outbox, "look at the log of PostgreSQL", "tables"),
    CheckOf("dead letters", _dead_letters, "look at the log of PostgreSQL", "tables"),
)
_FOLDER_CHECKS: tuple[CheckOf, ...] = (
    CheckOf("database", _database, "restore run.db from a copy, or begin a new --workdir"),
    CheckOf("tables", _tables, "restore run.db from a copy, or begin a new --workdir", "database"),
    CheckOf("artifacts", _folder_artifacts, "change the folder's owner or rights"),
    CheckOf("dead letters", _dead_letters, "restore run.db from a copy, or begin a new --workdir", "tables"),
)
