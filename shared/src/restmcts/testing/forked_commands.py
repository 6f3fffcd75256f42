"""Commands as processes of their own that need not import first: each is forked from a server that
has imported what they use, and has done nothing else. So are the processes in which they train.

A command has a process id, an environment, signals, output and an end of its own. With the server's
other commands it shares the seed of hashes: runs that are compared, and must not depend on that
seed, are to be started anew.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Self

_REQUEST_BYTES = 2**17
_THREADS_THAT_MAY_BE_MISSING = {"jemalloc_bg_thd"}
"""Arrow's allocator begins its thread anew in a fork."""


class ForkedCommand:
    """A command under way, used like a `subprocess.Popen`."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return the exit code (of a killed command: minus the signal), or None while it runs."""
        return self._ended_within(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the command has ended.

        Raises:
            subprocess.TimeoutExpired: if it still runs after so many seconds.
        """
        code = self._ended_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _ended_within(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode


class ForkedChild(ForkedCommand):
    """A child of a command, with pipes to it and from it."""

    def __init__(self, pid: int, status: int, stdin: IO[str], stdout: IO[str]) -> None:
        super().__init__(pid, status)
        self.stdin, self.stdout = stdin, stdout


class CommandServer:
    """Starts commands, each a call of the function `entry` ("module:name"); a context manager."""

    def __init__(self, entry: str, imported: Sequence[str], environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), entry, *imported]
        with theirs:
            self._server = subprocess.Popen(command, env=self._environment, pass_fds=[theirs.fileno()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._server.wait()

    def start(
        self, arguments: Sequence[str], out: IO[Any], err: IO[Any], max_file_bytes: int = resource.RLIM_INFINITY
    ) -> ForkedCommand:
        """Start a command in this process's folder, its output going to two files; no file that it
        writes may grow past the limit.
        """
        request = {
            "arguments": list(arguments),
            "folder": str(Path.cwd()),
            "environment": self._environment,
            "max_file_bytes": max_file_bytes,
        }
        return ForkedCommand(*_asked(self._channel, request, [out.fileno(), err.fileno()]))

    def run(
        self, arguments: Sequence[str], timeout: float, max_file_bytes: int = resource.RLIM_INFINITY
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; return its exit code and output.

        Raises:
            subprocess.TimeoutExpired: if it takes more seconds; it is then killed.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+") as err:
            command = self.start(arguments, out, err, max_file_bytes)
            try:
                code = command.wait(timeout)
            finally:
                command.kill()
            texts = [file.read() for file in (out, err) if file.seek(0) == 0]
        return subprocess.CompletedProcess(list(arguments), code, *texts)


def _asked(channel: socket.socket, request: Mapping[str, object], descriptors: Sequence[int]) -> tuple[int, int]:
    """Have the server start a process; return its id, and from where its exit code can be read."""
    status, theirs = os.pipe()
    socket.send_fds(channel, [json.dumps(request).encode()], [theirs, *descriptors])
    os.close(theirs)
    return int(channel.recv(16)), status


def _next_command(channel: socket.socket) -> tuple[Any, socket.socket] | None:
    """Serve requests: return each of them in a process of its own, with its channel to the server,
    and None in the server when its client is gone.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    channels = [channel]
    while True:
        asking = select.select(channels, [], [])[0][0]
        text, descriptors, _, _ = socket.recv_fds(asking, _REQUEST_BYTES, 4)
        if not text and asking is channel:
            return None
        if not text:
            channels.remove(asking)
            asking.close()
            continue
        mine, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status, *standard = descriptors
            command = os.fork()
            if command == 0:
                for each in (*channels, mine):
                    each.close()
                os.close(status)
                for number, descriptor in zip((1, 2, 0), standard, strict=False):
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                return json.loads(text), own
            own.close()
            asking.send(str(command).encode())
            code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
            os.write(status, str(code).encode())
            os._exit(0)
        own.close()
        channels.append(mine)
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_trainings(channel: socket.socket) -> None:
    """Have the processes in which this one trains forked too."""
    from restmcts_trainer import process

    start_anew = process.start_child

    def start_child(command: Sequence[str], environment: Mapping[str, str]) -> Any:
        if command[1:] != ["-m", "restmcts_trainer.child"]:
            return start_anew(command, environment)
        (read, write), (answered, answer) = os.pipe(), os.pipe()
        request = {
            "entry": "restmcts_trainer.child:main",
            "arguments": [],
            "folder": str(Path.cwd()),
            "environment": dict(environment),
            "max_file_bytes": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
        }
        pid, status = _asked(channel, request, [answer, 2, read])
        os.close(read)
        os.close(answer)
        return ForkedChild(pid, status, os.fdopen(write, "w"), os.fdopen(answered))

    process.start_child = start_child


def _main(channel: socket.socket, entry: str, imported: Sequence[str]) -> None:
    gc.disable()  # of what is imported nothing is garbage
    for name in imported:
        import_module(name)
    threads = {file.read_text().strip() for file in Path("/proc/self/task").glob("[0-9]*/comm")}
    if len(threads - _THREADS_THAT_MAY_BE_MISSING) > 1:
        raise RuntimeError(f"an import has started threads, which would be missing in a fork: {threads}")
    gc.freeze()  # what is not looked through is not copied
    asked = _next_command(channel)
    if asked is None:
        return
    request, channel = asked
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background ignores
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["max_file_bytes"], resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if "entry" in request:
        entry = request["entry"]
        os.setsid()
    elif "restmcts_trainer.jobs" in imported:
        _fork_trainings(channel)
    module, _, name = entry.partition(":")
    sys.argv = [name, *request["arguments"]]
    getattr(import_module(module), name)()


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
