"""A stack of processes for all integration tests: real PostgreSQL, Redis and S3 servers, one
worker of each kind.
"""

import os
from collections.abc import Iterator

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.messages.workers import WORKERS
from restmcts_cli.processes.server_processes import SERVERS
from restmcts_cli.processes.stack_processes import Stack


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
def database(servers: Stack) -> Iterator[Database]:
    """The database of the stack, without a bus."""
    database = Database(servers.settings["RESTMCTS_DATABASE_URL"])
    yield database
    database.close()
