"""A stack of processes looks after itself: what is killed comes back, and the scale outlives it."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from restmcts_cli.commands.operations.stack import status_rows
from restmcts_cli.processes.stack_processes import Stack

SECONDS = 60.0


@pytest.fixture
def supervised(servers: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A stack of one worker and a Redis server of its own; the other servers are shared."""
    shared = {name: value for name, value in servers.settings.items() if "REDIS" not in name}
    stack = Stack(tmp_path / "stack", shared)
    try:
        stack.up({"tree-search": 1})
        stack.supervise()
        yield stack
    finally:
        stack.down()


def await_true(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def seen(stack: Stack) -> Stack:
    """The stack as another program sees it now."""
    return Stack(stack.folder, {})


def test_killed_processes_come_back_and_the_scale_is_remembered(supervised: Stack) -> None:
    pids = {member.name: member.pid for member in seen(supervised).members()}
    assert set(pids) == {"redis", "tree-search-1", "supervisor"}
    for name in ("redis", "tree-search-1"):
        seen(supervised).kill(name, signal.SIGKILL)

    def are_new() -> bool:
        after = {member.name: member.pid for member in seen(supervised).members()}
        return all(after.get(name, pid) != pid for name, pid in pids.items() if name != "supervisor")

    await_true(are_new, "both were started again")
    await_true(lambda: all(row["state"] == "healthy" for row in status_rows(seen(supervised), time.time())), "healthy")
    assert seen(supervised).restarts("redis").count >= 1
    assert {member.name: member.pid for member in seen(supervised).members()}["supervisor"] == pids["supervisor"]
    assert "redis is not running: started again" in supervised.log_file("supervisor").read_text()

    supervised.up({"trainer": 0})
    assert seen(supervised).restarts("tree-search-1").count >= 1, "of others than were scaled"
    supervised.down()
    assert seen(supervised).members() == []
    supervised.up({})
    assert {member.name for member in supervised.members()} == {"redis", "tree-search-1"}


def test_a_supervisor_that_is_gone_is_seen_and_comes_back_with_up(supervised: Stack) -> None:
    seen(supervised).kill("supervisor", signal.SIGKILL)
    await_true(lambda: not seen(supervised).lives("supervisor"), "the supervisor ends")
    rows = {row["name"]: row["state"] for row in status_rows(seen(supervised), time.time())}
    assert rows["supervisor"] == "not running"
    supervised.supervise()
    assert seen(supervised).lives("supervisor")
