"""The process that compares expressions, seen from the one that asks: started, asked, killed when
it does not answer in time.
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import restmcts
from restmcts.domain.problems import Verdict
from restmcts.errors import RestMctsError

START_LIMIT_SECONDS = 120.0
CHILD_MEMORY_BYTES = 2 * 1024**3


class ExpressionChild:
    """The child process that compares expressions; started when first needed, replaced when it
    was killed.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()

    def compare(
        self, truth: str, prediction: str, relative_tolerance: float | None, seconds: float
    ) -> tuple[Verdict, float]:
        """Return the child's verdict, or UNDECIDED if it has none after `seconds` (the child is
        then killed), and the seconds that it took.

        Raises:
            RestMctsError: if the child cannot be started at all.
        """
        request = {
            "truth": truth,
            "prediction": prediction,
            "relative_tolerance": relative_tolerance,
            "seconds": seconds,
        }
        with self._lock:
            process = self._running()
            start = time.monotonic()
            answer = self._exchange(process, json.dumps(request) + "\n", seconds)
            num_seconds = time.monotonic() - start
            if answer is None:
                # The next child starts now, so that whoever comes next need not wait for all of it.
                self._kill()
                self._process = self._start()
        return (Verdict(answer) if answer in tuple(Verdict) else Verdict.UNDECIDED), num_seconds

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner_pid != os.getpid():
            # This process was forked from the one that owns the child: its pipe is not ours to use.
            self._process, self._owner_pid = None, os.getpid()
        if self._process is None or self._process.poll() is not None:
            self._kill()
            self._process = self._start()
        if not self._is_ready:
            self._await_ready(self._process)
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        source_root = str(Path(restmcts.__file__).parents[1])
        paths = os.pathsep.join([source_root, *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-m", "restmcts.adapters.verification.expression_worker", str(CHILD_MEMORY_BYTES)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._is_ready = False
        return process

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        if self._exchange(process, "", START_LIMIT_SECONDS) != "ready":
            self._kill()
            raise RestMctsError(
                "the expression checker could not start; try "
                f"`{sys.executable} -m restmcts.adapters.verification.expression_worker {CHILD_MEMORY_BYTES}` to see why"
            )
        self._is_ready = True

    def _exchange(self, process: subprocess.Popen[bytes], request: str, seconds: float) -> str | None:
        """Send a request and return the line that comes back, or None if there is none in time
        or the child ended.
        """
        assert process.stdin is not None and process.stdout is not None
        deadline = time.monotonic() + seconds
        try:
            process.stdin.write(request.encode())
            process.stdin.flush()
        except OSError:
            return None
        answer = b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            received = os.read(process.stdout.fileno(), 4096) if ready else b""
            if not received:
                return None
            answer += received
        return answer.decode().strip()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner_pid != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
