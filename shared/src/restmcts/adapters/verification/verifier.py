"""The verifier: asks each problem's task whether a solution is right, and bounds the time that
computer algebra takes, whatever the text.

Plain numbers, choices, words and the frames of tuples, sets and intervals are compared in this
process; expressions in a child process, which is killed when it does not answer in time; programs
are run in the sandbox. Knows nothing of searches or labels.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType

from restmcts.adapters.verification.code_runs import CodeRuns
from restmcts.adapters.verification.expression_child import ExpressionChild
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.requests import CallTool, ToolAnswered
from restmcts.domain.tasks.answers import AnswerTask
from restmcts.domain.tasks.code.tests import CodeTests, TestOutcome
from restmcts.domain.tasks.task import TASKS, Judgement, Observed, ProgramOutput, Task, judged
from restmcts.errors import InputError, RestMctsError

logger = logging.getLogger(__name__)

OWN_VERSION = 3
MAX_SECONDS = 86_400.0
ANSWERS_IN_A_BUDGET = 4


@dataclass(slots=True)
class _Budget:
    """Seconds of computer algebra that all answers of one tree share; each may take `each` of them.

    Starting the child is not counted.
    """

    total: float
    each: float
    spent: float = 0.0
    verdicts: dict[Hashable, Verdict] = field(default_factory=dict)

    def for_one(self) -> "_Budget":
        """Return the budget of one answer: its own limit, or what is left."""
        return _Budget(min(self.each, self.total - self.spent), self.each)


class _Tools:
    """Compares expressions in the child, as long as the budget of one answer lasts; runs programs;
    remembers the verdicts of one tree.
    """

    def __init__(
        self,
        child: ExpressionChild,
        code: CodeRuns,
        kind: str,
        budget: _Budget,
        verdicts: dict[Hashable, Verdict],
    ) -> None:
        self._child, self._code, self._kind, self._budget, self._verdicts = child, code, kind, budget, verdicts

    def equal(self, truth: str, stated: str, relative_tolerance: float | None) -> Verdict:
        """Return the child's verdict; undecided once the time is spent."""
        left = self._budget.total - self._budget.spent
        if left <= 0:
            return Verdict.UNDECIDED
        verdict, seconds = self._child.compare(truth, stated, relative_tolerance, left)
        self._budget.spent += seconds
        return verdict

    def once(self, key: Hashable, decide: Callable[[], Verdict]) -> Verdict:
        """Return the verdict for a key of this kind of problem, decided once."""
        if (self._kind, key) not in self._verdicts:
            self._verdicts[self._kind, key] = decide()
        return self._verdicts[self._kind, key]

    def run_tests(self, programs: Sequence[str], tests: CodeTests) -> TestOutcome:
        """Return what the sandbox says, whose time is its own."""
        return self._code.outcome(programs, tests)

    def run_program(self, source: str) -> ProgramOutput:
        """Return what a program prints in the sandbox, whose time is its own."""
        return self._code.output(source)


class AnswerVerifier:
    """Has solutions verified by the tasks of their problems (implements
    `restmcts.ports.Verifier`).

    Use as a context manager, or call `close`, so that the child process ends.
    """

    def __init__(self, time_limit_seconds: float = 5.0) -> None:
        """Take the limit of computer algebra's wall time for one check; all checks of one call
        together may take four times as long.

        Raises:
            InputError: if the limit is not above 0, or over a day.
        """
        if not 0 < time_limit_seconds <= MAX_SECONDS:
            raise InputError(
                f"the time limit of a check must be above 0 and at most {MAX_SECONDS:,.0f} seconds,"
                f" not {time_limit_seconds}"
            )
        self._child = ExpressionChild()
        self._code = CodeRuns(time_limit_seconds)
        self.time_limit_seconds = time_limit_seconds
        self.verifier_version = f"restmcts-answers-{OWN_VERSION}+latex2sympy-{version('latex2sympy2_extended')}"

    def __enter__(self) -> "AnswerVerifier":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child processes; the verifier may be used again and then starts others."""
        self._child.close()
        self._code.close()

    def verify(self, checks: Sequence[Check]) -> list[Verdict]:
        """Return one verdict per check, in order.

        Raises:
            InputError: if a check's kind is unknown.
            RestMctsError: if the child process cannot be started at all.
        """
        return [judgement.verdict for judgement in self.judge(checks)]

    def judge(self, checks: Sequence[Check]) -> list[Judgement]:
        """Return one judgement per check, in order.

        Raises:
            InputError: if a check's kind is unknown.
            RestMctsError: if the child process cannot be started at all.
        """
        budget = _Budget(ANSWERS_IN_A_BUDGET * self.time_limit_seconds, self.time_limit_seconds)
        return [self._judge_one(check, budget) for check in checks]

    def _judge_one(self, check: Check, budget: _Budget) -> Judgement:
        task, one = TASKS.get(check.kind), budget.for_one()
        try:
            return task.verify(check, _Tools(self._child, self._code, check.kind, one, budget.verdicts))
        except RestMctsError:
            raise
        except Exception as error:
            logger.exception("a solution of kind %r could not be verified; it counts as undecided", check.kind)
            return judged(Verdict.UNDECIDED, reason=f"{type(error).__name__}: {error}")
        finally:
            budget.spent += one.spent

    def same_answers(self, kind: str, answers: Sequence[str]) -> list[str]:
        """Return answers to one problem, in order, each written as the first that is equal.

        What cannot be decided, for want of time say, is not equal.

        Raises:
            InputError: if the kind is unknown.
            RestMctsError: if the child process cannot be started at all.
        """
        task = TASKS.get(kind)
        budget = _Budget(ANSWERS_IN_A_BUDGET * self.time_limit_seconds, self.time_limit_seconds)
        first: list[str] = []
        return [self._first_equal(task, kind, first, answer, budget) for answer in answers]

    def answer_call(self, request: CallTool) -> ToolAnswered:
        """Return what the task of a problem answers the last of its steps, in one line.

        Raises:
            InputError: if the kind of problem is unknown.
        """
        task = TASKS.get(request.kind)
        budget = _Budget(self.time_limit_seconds, self.time_limit_seconds)
        tools = _Tools(self._child, self._code, request.kind, budget, {})
        try:
            found = task.observe(request.steps[-1], tools)
        except Exception as error:
            logger.exception("a call of kind %r could not be answered; its solution is undecided", request.kind)
            found = Observed(f"not answered: {type(error).__name__}: {error}", is_known=False)
        line = " ".join(found.text.split())
        if len(line) > request.max_chars:
            line = line[: request.max_chars] + "…"
        return ToolAnswered(request.number, line, found.is_known)

    def _first_equal(self, task: Task, kind: str, first: list[str], answer: str, budget: _Budget) -> str:
        """Return the first of the known answers that is equal to one, which else is known now."""
        if answer in first:
            return answer
        equal = next((known for known in first if self._are_equal(task, kind, known, answer, budget)), None)
        if equal is None:
            first.append(answer)
        return equal or answer

    def _are_equal(self, task: Task, kind: str, known: str, answer: str, budget: _Budget) -> bool:
        one = budget.for_one()
        try:
            return task.compare(known, answer, _Tools(self._child, self._code, kind, one, {})) == Verdict.RIGHT
        except RestMctsError:
            raise
        except Exception:
            logger.exception("answers of kind %r could not be compared; they count as different", kind)
            return False
        finally:
            budget.spent += one.spent

    def compare_answers(self, truth: str, stated: str, kind: str = "math") -> Verdict:
        """Return whether a stated answer, extracted from its solution, is the true one.

        Args:
            truth: the true answer, or a reference solution that states it.
            stated: the answer.
            kind: of the problem: "math", "numeric" (5 % relative tolerance, as SciBench has it),
                "choice", …

        Raises:
            InputError: if the kind is unknown, or its task needs the whole solution.
        """
        task = TASKS.get(kind)
        if not isinstance(task, AnswerTask):
            raise InputError(f"{kind} problems are verified by their whole solution, not by an answer alone")
        budget = _Budget(self.time_limit_seconds, self.time_limit_seconds)
        return task.compare(truth, stated, _Tools(self._child, self._code, kind, budget, {}))
