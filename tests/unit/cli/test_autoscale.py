"""Autoscaling goes on whatever happens meanwhile, and loses sight of no process."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from restmcts.errors import InputError, RestMctsError, StorageError
from restmcts_cli.processes.scaling import alone_in, keep_scaled
from restmcts_cli.processes.stack_processes import uninterrupted


def test_what_fails_is_tried_again_and_what_others_change_is_changed_back() -> None:
    """A database that is away, a worker that does not start, a person who scales by hand."""
    away: list[RestMctsError] = [StorageError("the database is away"), StorageError("the database is away")]
    broken: list[Exception] = [RestMctsError("worker trainer-1 ended while it started"), OSError("no memory")]
    running = {"trainer": 0}
    done: list[int] = []

    def decide() -> dict[str, int]:
        if away:
            raise away.pop()
        return {"trainer": 2}

    def scale(counts: dict[str, int]) -> None:
        running.update(counts)
        if broken:
            raise broken.pop()
        done.append(counts["trainer"])
        if len(done) == 1:
            running["trainer"] = 1

    keep_scaled(decide, scale, every=0.0, looks=7, running=lambda: running)
    assert (done, running) == ([2, 2], {"trainer": 2})


def test_a_stack_that_is_not_there_ends_autoscaling() -> None:
    def scale(_: dict[str, int]) -> None:
        raise InputError("the folder contains no stack")

    with pytest.raises(InputError):
        keep_scaled(lambda: {"trainer": 1}, scale, every=0.0)


def test_two_programs_do_not_autoscale_the_same_workers(tmp_path: Path) -> None:
    with alone_in(tmp_path, ["trainer", "tree-search"]):
        with (
            pytest.raises(InputError, match=r"trainer.*autoscaled by another program"),
            alone_in(tmp_path, ["trainer"]),
        ):
            pytest.fail("another program does")
        with alone_in(tmp_path, ["prm-scorer"]):
            pass
    with alone_in(tmp_path, ["trainer"]):
        pass


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell that starts tests in the background lets them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_waits_until_a_process_that_was_started_is_noted() -> None:
    noted = False
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        noted = True
    assert noted and signal.getsignal(signal.SIGINT) is signal.default_int_handler
