"""The sandbox, seen from the one who has programs run: it starts the server that they are forked
from, gives it descriptors, and collects what comes back.
"""

import json
import os
import select
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import restmcts
from restmcts.adapters.sandbox.program_process import AT_ITS_END, ENDED_EARLY
from restmcts.errors import RestMctsError

START_LIMIT_SECONDS = 60.0
MAX_OUTPUT_BYTES = 16 * 1024**2
MAX_REASON_BYTES = 64 * 1024
MEMORY_BYTES = 512 * 1024**2
ANSWER_GRACE_SECONDS = 30.0
Answer = dict[str, dict[str, int]]
"""How each process of a job ended, by its name."""

_SERVER = "restmcts.adapters.sandbox.fork_server"


class SandboxError(RestMctsError):
    """This machine does not run a program of a stranger; nothing is said of the program."""


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """What a program did with one input.

    Attributes:
        output: what it printed.
        status: 0 if it came to its end, and ended well; negative: the signal that ended it.
        reason: the error that ended it, in a line; may be empty.
        timed_out: whether it overran its time.
        is_too_long: whether it printed more than is accepted.
    """

    output: bytes
    status: int
    reason: str
    timed_out: bool
    is_too_long: bool


@dataclass(frozen=True, slots=True)
class TestsRun:
    """What tests said of a program.

    Attributes:
        num_passed: of `num_tests`; at least one test is there.
        failure: the first failure, in a line.
        timed_out: whether the program overran its time.
    """

    __test__ = False

    num_passed: int
    num_tests: int
    failure: str
    timed_out: bool


class Sandbox:
    """Runs programs, one after the other; safe to share between threads. The server is started
    when it is first needed, and again if it ended.

    Use as a context manager, or call `close`, so that the server ends.
    """

    def __init__(self, seconds: float = 5.0, memory_bytes: int = MEMORY_BYTES) -> None:
        """Take the limits of one run: processor time (twice as much, and a second more, may pass
        by the wall clock), and memory.
        """
        self._limits = {"seconds": seconds, "memory_bytes": memory_bytes, "wall_seconds": 2 * seconds + 1}
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._missing: tuple[str, ...] = ()
        self._owner_pid = os.getpid()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and whatever runs."""
        with self._lock:
            self._end()

    def missing(self) -> tuple[str, ...]:
        """Return what this machine lacks; empty where programs are run.

        Raises:
            SandboxError: if the server cannot be started at all.
        """
        with self._lock:
            self._started()
            return self._missing

    def run_script(self, sources: Sequence[str], standard_input: str) -> ScriptRun:
        """Run a program that reads and prints.

        Args:
            sources: the first of them that is Python is run.
            standard_input: what it reads.

        Raises:
            SandboxError: if it could not be run, for no fault of its own.
        """
        written = {"source": json.dumps(list(sources)).encode(), "input": standard_input.encode(errors="replace")}
        ended, read = self._run("script", written, {"output": MAX_OUTPUT_BYTES, "errors": MAX_REASON_BYTES})
        program, output = ended["program"], read["output"]
        reason = read["errors"].decode(errors="replace").strip().rpartition("\n")[2][:300]
        too_long = len(output) >= MAX_OUTPUT_BYTES
        status = int(program["status"])
        if status == 0:
            status, reason = 1, ENDED_EARLY
        return ScriptRun(output, 0 if status == AT_ITS_END else status, reason, _overran(program), too_long)

    def run_tests(self, sources: Sequence[str], entry_point: str, tests: str) -> TestsRun:
        """Run tests, as Python code, that call a program's functions.

        Args:
            sources: the first of them that is Python and defines the entry point is run.
            entry_point: the function that the tests call, also as `candidate`; a method of a class
                `Solution` may have its name.
            tests: code with assertions, each a test, or with a function `check` that holds them.

        Raises:
            SandboxError: if they could not be run, for no fault of the program.
        """
        written = {
            "source": json.dumps([list(sources), entry_point]).encode(),
            "tests": json.dumps([entry_point, tests]).encode(),
        }
        ended, read = self._run("tests", written, {"report": MAX_OUTPUT_BYTES})
        timed_out = _overran(ended["program"])
        try:
            report = json.loads(read["report"])
            passed, total = int(report["passed"]), int(report["tests"])
        except (ValueError, KeyError, TypeError, RecursionError):
            if timed_out or _overran(ended["checker"]):
                return TestsRun(0, 1, "", True)
            raise SandboxError("the tests ended without a report") from None
        if report["broken"]:
            raise SandboxError(f"the tests themselves cannot be run: {report['broken']}")
        return TestsRun(passed, total, str(report["failure"]), timed_out)

    def _run(self, job: str, written: Mapping[str, bytes], read: Mapping[str, int]) -> tuple[Answer, dict[str, bytes]]:
        with self._lock:
            server = self._started()
            if self._missing:
                raise SandboxError(f"no program is run here; missing: {'; '.join(self._missing)}")
            ours: dict[int, bytes] = {}
            wanted: dict[int, str] = {}
            theirs = []
            for content in written.values():
                their_end, our_end = os.pipe()
                theirs.append(their_end)
                ours[our_end] = content
            for name in read:
                our_end, their_end = os.pipe()
                theirs.append(their_end)
                wanted[our_end] = name
            try:
                socket.send_fds(server, [json.dumps({"job": job, **self._limits}).encode()], theirs)
            except OSError as error:
                _close([*theirs, *ours, *wanted])
                self._end()
                raise SandboxError(f"the server of the sandbox ended: {error}") from None
            _close(theirs)
            return self._collected(server, ours, wanted, read)

    def _collected(
        self, server: socket.socket, ours: dict[int, bytes], wanted: dict[int, str], most: Mapping[str, int]
    ) -> tuple[Answer, dict[str, bytes]]:
        exchange = _Exchange(ours, wanted, most)
        try:
            deadline = time.monotonic() + self._limits["wall_seconds"] + ANSWER_GRACE_SECONDS
            answer = exchange.until_answered(server, deadline)
        finally:
            exchange.close()
        if answer is None or "failed" in answer:
            if answer is None:
                self._end()
            raise SandboxError(str((answer or {}).get("failed", "the server of the sandbox does not answer")))
        return answer, exchange.read

    def _started(self) -> socket.socket:
        if self._owner_pid != os.getpid():
            # This process was forked from the one that owns the server.
            self._server, self._connection, self._owner_pid = None, None, os.getpid()
        if self._server is not None and self._server.poll() is not None:
            self._end()
        if self._connection is None:
            self._connection = self._start()
        return self._connection

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-sSP", "-m", _SERVER, str(theirs.fileno()), *sorted(folders)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], cwd="/", start_new_session=True,
                env={"PYTHONPATH": str(Path(restmcts.__file__).parents[1]), "PYTHONHASHSEED": "0",
                     "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        ours.settimeout(START_LIMIT_SECONDS)
        try:
            self._missing = tuple(json.loads(ours.recv(65_536))["missing"])
        except (OSError, ValueError):
            ours.close()
            self._end()
            raise SandboxError(f"the sandbox could not start; try `{sys.executable} -m {_SERVER}` to see why") from None
        return ours

    def _end(self) -> None:
        server, connection = self._server, self._connection
        self._server, self._connection = None, None
        if self._owner_pid != os.getpid():
            return
        if connection is not None:
            connection.close()
        if server is not None:
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


class _Exchange:
    """Writes to some pipes and reads from others at once, so that no side waits for the other."""

    def __init__(self, written: Mapping[int, bytes], names: Mapping[int, str], most: Mapping[str, int]) -> None:
        self._left = {descriptor: memoryview(content) for descriptor, content in written.items()}
        self._names, self._most = dict(names), most
        self._pieces: dict[str, list[bytes]] = {name: [] for name in most}
        self._sizes = dict.fromkeys(most, 0)
        for descriptor in (*self._left, *self._names):
            os.set_blocking(descriptor, False)

    @property
    def read(self) -> dict[str, bytes]:
        """What was read from each pipe."""
        return {name: b"".join(pieces) for name, pieces in self._pieces.items()}

    def until_answered(self, server: socket.socket, deadline: float) -> Answer | None:
        """Return the server's answer once all is read; None if there is none in time."""
        answer: Answer | None = None
        while answer is None or self._names:
            inputs = [*self._names, *([server.fileno()] if answer is None else [])]
            ready, writable, _ = select.select(inputs, list(self._left), [], max(0.0, deadline - time.monotonic()))
            if not ready and not writable:
                return answer
            for descriptor in writable:
                self._write(descriptor)
            if server.fileno() in ready:
                received = server.recv(65_536)
                if not received:
                    return None
                answer = json.loads(received)
            for descriptor in self._names.keys() & ready:
                self._read(descriptor)
        return answer

    def _write(self, descriptor: int) -> None:
        try:
            self._left[descriptor] = self._left[descriptor][os.write(descriptor, self._left[descriptor][:65_536]) :]
        except OSError:
            self._left[descriptor] = memoryview(b"")
        if not self._left[descriptor]:
            del self._left[descriptor]
            os.close(descriptor)

    def _read(self, descriptor: int) -> None:
        name = self._names[descriptor]
        piece = os.read(descriptor, 65_536)
        if piece:
            self._pieces[name].append(piece)
            self._sizes[name] += len(piece)
        # One that prints without end is not read any more: its next print ends it.
        if not piece or self._sizes[name] >= self._most[name]:
            del self._names[descriptor]
            os.close(descriptor)

    def close(self) -> None:
        """Close whatever is still open."""
        _close([*self._left, *self._names])


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _overran(process: Mapping[str, int]) -> bool:
    """Return whether the wall clock or the limit of processor time ended a process."""
    return bool(process["timed_out"]) or process["status"] in (-24,)
