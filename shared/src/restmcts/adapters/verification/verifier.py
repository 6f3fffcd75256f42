"""The verifier: decides whether a solution's stated answer is the true one, within a time limit,
whatever the text.

Plain numbers, choices, words and the frames of tuples, sets and intervals are compared in this
process; expressions in a child process, which is killed when it does not answer in time. Knows
nothing of searches or labels.
"""

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import restmcts
from restmcts.domain.answers.equivalence import Comparison, compare_choices
from restmcts.domain.answers.extraction import extract_answer, states_answer
from restmcts.domain.problems import Check, Verdict
from restmcts.errors import InputError, RestMctsError

logger = logging.getLogger(__name__)

OWN_VERSION = 1
SCIBENCH_RELATIVE_TOLERANCE = 0.05
START_LIMIT_SECONDS = 120.0
CHILD_MEMORY_BYTES = 2 * 1024**3

KIND_OF_BENCHMARK = {
    "gsm8k": "math",
    "math500": "math",
    "scibench": "numeric",
    "gpqa-diamond": "choice",
    "ceval-hard": "choice",
    "multiple-choice": "choice",
    "multiple_choice": "choice",
}
ANSWER_KINDS = ("math", "numeric", "choice")

Checker = Callable[[Check], Verdict]


class ExpressionChild:
    """The child process that compares expressions; started when first needed, replaced when it
    was killed.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()

    def compare(self, truth: str, prediction: str, relative_tolerance: float | None, seconds: float) -> Verdict:
        """Return the child's verdict, or UNDECIDED if it has none after `seconds` (the child is
        then killed).

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
            answer = self._exchange(process, json.dumps(request) + "\n", seconds)
            if answer is None:
                # The next child starts now, so that whoever comes next need not wait for all of it.
                self._kill()
                self._process = self._start()
        return Verdict(answer) if answer in tuple(Verdict) else Verdict.UNDECIDED

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


class AnswerVerifier:
    """Checks solutions by their stated answers, or by a task's own checker (implements
    `restmcts.ports.Verifier`).

    Use as a context manager, or call `close`, so that the child process ends.
    """

    def __init__(self, checkers: Mapping[str, Checker] | None = None, time_limit_seconds: float = 5.0) -> None:
        """Take the checkers of tasks whose answers no text decides, by kind, and the limit of wall
        time for one check.

        Raises:
            InputError: if the limit is not above 0.
        """
        if not time_limit_seconds > 0:
            raise InputError(f"the time limit of a check must be above 0 seconds, not {time_limit_seconds}")
        self._checkers = dict(checkers or {})
        self._child = ExpressionChild()
        self.time_limit_seconds = time_limit_seconds
        self.verifier_version = f"restmcts-answers-{OWN_VERSION}+math-verify-{version('math-verify')}"

    def __enter__(self) -> "AnswerVerifier":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child process; the verifier may be used again and then starts another."""
        self._child.close()

    @property
    def kinds(self) -> tuple[str, ...]:
        """All kinds that `verify` can decide."""
        return (*ANSWER_KINDS, *KIND_OF_BENCHMARK, *self._checkers)

    def verify(self, checks: Sequence[Check]) -> list[Verdict]:
        """Return one verdict per check, in order; a solution that states no answer is wrong.

        Raises:
            InputError: if a check's kind is unknown.
            RestMctsError: if the child process cannot be started at all.
        """
        return [self._verify_one(check) for check in checks]

    def _verify_one(self, check: Check) -> Verdict:
        if check.kind in self._checkers:
            return self._ask_checker(check)
        if check.answer is None:
            return Verdict.UNDECIDED
        stated = extract_answer(check.solution)
        return Verdict.WRONG if stated is None else self.compare_answers(check.answer, stated, check.kind)

    def _ask_checker(self, check: Check) -> Verdict:
        try:
            return self._checkers[check.kind](check)
        except Exception:
            logger.exception("the checker of kind %r failed on a solution; it counts as undecided", check.kind)
            return Verdict.UNDECIDED

    def compare_answers(self, truth: str, stated: str, kind: str = "math") -> Verdict:
        """Return whether a stated answer, taken out of its solution, is the true one.

        Args:
            truth: the true answer, or a reference solution that states it.
            kind: "math", "numeric" (5 % relative tolerance, as SciBench grades) or "choice".

        Raises:
            InputError: if the kind is unknown or decided by a checker, which needs the whole
                solution.
        """
        kind = KIND_OF_BENCHMARK.get(kind, kind)
        if kind not in ANSWER_KINDS:
            raise InputError(f"unknown kind of answer {kind!r}; known: {', '.join(self.kinds)}")
        truth = (extract_answer(truth) or truth) if states_answer(truth) else truth
        if kind == "choice":
            return compare_choices(truth, stated)
        tolerance = SCIBENCH_RELATIVE_TOLERANCE if kind == "numeric" else None
        deadline = time.monotonic() + self.time_limit_seconds

        def compare_expressions(true_part: str, stated_part: str) -> Verdict:
            """All expressions of one answer share its time limit; starting the child is not
            counted.
            """
            seconds = min(deadline - time.monotonic(), self.time_limit_seconds)
            if seconds <= 0:
                return Verdict.UNDECIDED
            return self._child.compare(true_part, stated_part, tolerance, seconds)

        return Comparison(compare_expressions, tolerance).answers(truth, stated)
