"""The process that programs of strangers are forked from: `python -m
restmcts.adapters.sandbox.fork_server DESCRIPTOR`, started by `restmcts.adapters.sandbox.sandbox`.

It has one thread and no secrets: programs, tests and inputs pass through descriptors that it hands
on without reading them, since whatever it had in memory its children would have too. It keeps the
wall clock, and kills what overruns.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from restmcts.adapters.sandbox.checking_process import run_tests
from restmcts.adapters.sandbox.confinement import Cage, Limits, cage, close_all_but, confine, missing
from restmcts.adapters.sandbox.program_process import run_script, serve_calls

MAX_REQUEST_BYTES = 65_536
MAX_DESCRIPTORS = 8
CHECKER_GRACE_SECONDS = 5.0
# Modules that programs often import: each is then there in every fork.
PRELOADED = (
    "bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools",
    "math", "numpy", "operator", "queue", "random", "re", "statistics", "string", "threading", "typing",
)  # fmt: skip


@dataclass(slots=True)
class _Child:
    """A confined process, and until when it may run."""

    pid: int
    watch: int
    deadline: float
    timed_out: bool = False
    status: int = 0
    seconds: float = 0.0


def main(connection: socket.socket) -> None:
    """Serve jobs until the other side closes the connection."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    lacking = list(missing())
    made = None
    if not lacking:
        try:
            made = cage()
            lacking = _tried(made)
        except OSError as error:
            lacking = [str(error)]
    gc.collect()
    gc.freeze()
    connection.sendall(json.dumps({"missing": lacking}).encode())
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, MAX_DESCRIPTORS)
        if not request:
            return
        if made is not None:
            answer = _serve(json.loads(request), descriptors, made, connection)
            connection.sendall(json.dumps(answer).encode())


def _serve(request: dict[str, object], given: list[int], made: Cage, connection: socket.socket) -> dict[str, object]:
    """Run one job to its end; return what became of its processes."""
    seconds, memory = float(str(request["seconds"])), int(str(request["memory_bytes"]))
    wall = float(str(request["wall_seconds"]))
    limits = Limits(seconds, memory)
    try:
        if request["job"] == "script":
            source, standard_input, output, errors = given
            children = {"program": _fork(run_script, (standard_input, output, errors, source), limits, wall, made)}
        else:
            source, tests, report = given
            children = _program_and_tests(source, tests, report, limits, wall, made)
    except OSError as error:
        return {"failed": str(error)}
    finally:
        for descriptor in given:
            os.close(descriptor)
    _await(children, connection)
    return {name: {"status": child.status, "timed_out": child.timed_out} for name, child in children.items()}


def _program_and_tests(
    source: int, tests: int, report: int, limits: Limits, wall: float, made: Cage
) -> dict[str, _Child]:
    (from_tests, to_program), (from_program, to_tests) = os.pipe(), os.pipe()
    nothing = os.open(os.devnull, os.O_RDWR)
    pipes = (from_tests, to_program, from_program, to_tests, nothing)
    try:
        standard = (nothing, nothing, nothing)
        program = _fork(serve_calls, (*standard, source, from_tests, to_tests), limits, wall, made)
        late = wall + CHECKER_GRACE_SECONDS
        try:
            checker = _fork(run_tests, (*standard, tests, to_program, from_program, report), limits, late, made)
        except OSError:
            _kill(program)
            raise
        return {"checker": checker, "program": program}
    finally:
        for descriptor in pipes:
            os.close(descriptor)


def _fork(
    run: Callable[[], int], descriptors: Sequence[int], limits: Limits, wall_seconds: float, made: Cage
) -> _Child:
    """Start a confined process whose descriptors are those given, from 0 upwards.

    Raises:
        OSError: if it cannot be started, or not be confined; it has then run nothing.
    """
    ready, is_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(run, descriptors, limits, made, is_ready)
    os.close(is_ready)
    child = _Child(pid, os.pidfd_open(pid), time.monotonic() + wall_seconds)
    confined = os.read(ready, 300)
    os.close(ready)
    if confined != b"confined":
        _kill(child)
        raise OSError(confined.decode(errors="replace") or "a process ended before it was confined")
    return child


def _be_child(run: Callable[[], int], descriptors: Sequence[int], limits: Limits, made: Cage, is_ready: int) -> None:
    """Become a confined process, run, and end; never returns."""
    status = 1
    try:
        os.setsid()
        rules, is_ready = _arranged(descriptors, (made.rules, is_ready))
        try:
            confine(limits, replace(made, rules=rules))
        except BaseException as error:
            os.write(is_ready, f"a process cannot be confined: {type(error).__name__}: {error}".encode())
            os._exit(1)
        os.write(is_ready, b"confined")
        os.close(is_ready)
        status = run()
    except BaseException:  # whatever it is, this copy of the server must not go on
        status = 1
    finally:
        os._exit(status & 0xFF)


def _arranged(descriptors: Sequence[int], others: Sequence[int]) -> list[int]:
    """Put descriptors at 0, 1, 2 …, and close all but them and the others, whose new places are
    returned.
    """
    first_free = max(*descriptors, *others, len(descriptors)) + 1
    high = [os.dup2(one, first_free + place) for place, one in enumerate((*descriptors, *others))]
    for place in range(len(descriptors)):
        os.dup2(high[place], place)
    moved = high[len(descriptors) :]
    close_all_but([*range(len(descriptors)), *moved])
    return moved


def _await(children: dict[str, _Child], connection: socket.socket) -> None:
    """Wait for the end of all processes, and kill those that overrun; the program is not waited
    for once its tests have ended. Nothing is left running if the other side goes away.
    """
    running = dict(children)
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP | select.POLLHUP)
    for child in children.values():
        poll.register(child.watch, select.POLLIN)
    while running:
        nearest = min(child.deadline for child in running.values())
        events = dict(poll.poll(max(0.0, nearest - time.monotonic()) * 1000 + 1))
        gone = connection.fileno() in events
        now = time.monotonic()
        for name, child in list(running.items()):
            is_late = now >= child.deadline
            is_over = gone or is_late or (name == "program" and "checker" in children and "checker" not in running)
            if is_over or child.watch in events:
                child.timed_out = is_late and child.watch not in events
                poll.unregister(child.watch)
                _kill(child)
                del running[name]
        if gone:
            sys.exit(0)


def _kill(child: _Child) -> None:
    """End a process with all its threads, and take note of how it ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    child.status, child.seconds = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    os.close(child.watch)


def _tried(made: Cage) -> list[str]:
    """Return what a confined process could do though it must not, or could not though it must."""
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        child = _fork(_try_all, (nothing, writing, nothing), Limits(10, 256 * 1024**2), 10.0, made)
        os.close(writing)
        found = os.read(reading, 4096).decode()
        _kill(child)
    finally:
        os.close(reading)
        os.close(nothing)
    return [] if found == "confined" else [found or "a confined process ended at once"]


def _try_all() -> int:
    """Write "confined" to descriptor 1, or the first thing that is not as it must be."""

    def opened(path: str) -> Callable[[], object]:
        return lambda: os.close(os.open(path, os.O_RDONLY))

    forbidden: dict[str, Callable[[], object]] = {
        "read the folder /": lambda: os.listdir("/"),
        "read /proc/self/maps": opened("/proc/self/maps"),
        "open a connection": socket.socket,
        "start a process": os.fork,
        "signal its parent": lambda: os.kill(os.getppid(), 0),
    }
    for name, act in forbidden.items():
        try:
            act()
        except OSError:
            continue
        os.write(1, f"a confined process can {name}".encode())
        return 1
    try:
        for module in ("colorsys", "pprint"):
            importlib.import_module(module)
    except Exception as error:
        os.write(1, f"a confined process cannot import Python's own modules: {error}".encode())
        return 1
    os.write(1, b"confined")
    return 0


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path.extend(sys.argv[2:])
    os.environ.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(socket.socket(fileno=int(sys.argv[1])))
