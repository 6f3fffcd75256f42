"""A stack of processes for all integration tests: real PostgreSQL, Redis and S3 servers, one
worker of each kind.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.messages.workers import WORKERS
from restmcts_cli.main import app
from restmcts_cli.processes.server_processes import SERVERS
from restmcts_cli.processes.stack_processes import Stack
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack without workers."""
    environment = {"RESTMCTS_RECONCILE_SECONDS": "2", "RESTMCTS_REQUEST_LEASE_SECONDS": "5", "OMP_NUM_THREADS": "1"}
    named = {key: value for key, value in os.environ.items() if key.startswith("RESTMCTS_")}
    stack = Stack(tmp_path_factory.mktemp("stack"), {**named, **environment})
    try:
        stack.up({})
        yield stack
    finally:
        stack.down()


@pytest.fixture
def stack(servers: Stack) -> Stack:
    """The stack with one worker of each kind; those that a test stopped are started again."""
    servers.up(dict.fromkeys(WORKERS, 1))
    return servers


@pytest.fixture
def idle_servers(servers: Stack) -> Stack:
    """The stack without its workers, so that a test alone moves what it makes."""
    for member in servers.members():
        if member.name not in SERVERS:
            servers.stop(member.name)
    return servers


@pytest.fixture
def call(idle_servers: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Call the command line with --json on the stack, with its own account; return its document."""
    monkeypatch.chdir(tmp_path)
    for name, value in idle_servers.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RESTMCTS_CACHE_DIR", str(tmp_path / "cache"))

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    return run


@pytest.fixture
def database(servers: Stack) -> Iterator[Database]:
    """The database of the stack, without a bus."""
    database = Database(servers.settings["RESTMCTS_DATABASE_URL"])
    yield database
    database.close()
