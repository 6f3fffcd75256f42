"""Programs under their tests: runs them in the sandbox, and remembers what came of it."""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence

from restmcts.adapters.sandbox.sandbox import Sandbox, SandboxError, ScriptRun
from restmcts.domain.tasks.code.tests import CodeTests, TestOutcome, is_same_output
from restmcts.domain.tasks.task import ProgramOutput

log = logging.getLogger(__name__)

MAX_REMEMBERED = 50_000
RUNS_IN_A_BUDGET = 4


class CodeRuns:
    """Runs tests, each program and its tests once: outcomes are remembered by digest.

    Attributes:
        seconds: that one run of a program may take; all runs of one program may take four times as
            long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._sandbox = Sandbox(seconds)
        self._outcomes: OrderedDict[bytes, TestOutcome] = OrderedDict()

    def close(self) -> None:
        """End the sandbox; it may be used again and is then started anew."""
        self._sandbox.close()

    def outcome(self, programs: Sequence[str], tests: CodeTests) -> TestOutcome:
        """Return what the tests say of a program; what the sandbox could not find out is not
        remembered.
        """
        digest = hashlib.sha256("\0".join((*programs, tests.dumped())).encode(errors="surrogatepass")).digest()
        known = self._outcomes.get(digest)
        if known is not None:
            self._outcomes.move_to_end(digest)
            return known
        try:
            found = self._functions(programs, tests) if tests.entry_point is not None else self._script(programs, tests)
        except SandboxError as error:
            log.warning("a program is undecided: %s", error)
            return TestOutcome(0, 1, str(error), is_known=False)
        self._outcomes[digest] = found
        if len(self._outcomes) > MAX_REMEMBERED:
            self._outcomes.popitem(last=False)
        return found

    def output(self, source: str) -> ProgramOutput:
        """Return what a program prints that reads nothing."""
        try:
            run = self._sandbox.run_script([source], "")
        except SandboxError as error:
            log.warning("a program is not run: %s", error)
            return ProgramOutput("", str(error), is_known=False)
        return ProgramOutput(run.output.decode(errors="replace"), self._reason(run))

    def _functions(self, programs: Sequence[str], tests: CodeTests) -> TestOutcome:
        assert tests.entry_point is not None
        run = self._sandbox.run_tests(programs, tests.entry_point, tests.code)
        reason = f"longer than {self.seconds:g} s" if run.timed_out else run.failure
        return TestOutcome(run.num_passed, run.num_tests, reason)

    def _script(self, programs: Sequence[str], tests: CodeTests) -> TestOutcome:
        until = time.monotonic() + RUNS_IN_A_BUDGET * self.seconds
        num_passed, first = 0, ""
        for number, (given, wanted) in enumerate(tests.stdin, start=1):
            if time.monotonic() > until:
                first = first or f"all tests together took longer than {RUNS_IN_A_BUDGET * self.seconds:g} s"
                break
            failure = self._failure(self._sandbox.run_script(programs, given), wanted)
            num_passed += not failure
            first = first or (failure and f"test {number}: {failure}")
        return TestOutcome(num_passed, len(tests.stdin), first)

    def _failure(self, run: ScriptRun, wanted: str) -> str:
        """Return why a run is not what a test wants; empty if it is."""
        reason = self._reason(run)
        return reason or ("" if is_same_output(wanted, run.output.decode(errors="replace")) else "another output")

    def _reason(self, run: ScriptRun) -> str:
        """Return why a run did not end well; empty if it did."""
        if run.timed_out:
            return f"longer than {self.seconds:g} s"
        if run.is_too_long:
            return "it printed too much"
        if run.status != 0:
            return run.reason or (f"exit status {run.status}" if run.status > 0 else f"ended by signal {-run.status}")
        return ""
