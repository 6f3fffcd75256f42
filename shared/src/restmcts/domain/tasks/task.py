"""What a task is: how rows of its problems are read, which step ends a solution, and how a solution
is verified. Nothing here knows models or searches.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from restmcts.domain.answers.extraction import extract_answer, states_answer
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.code.tests import CodeTests, TestOutcome
from restmcts.errors import InputError
from restmcts.registry import Registry

Need = Literal["sandbox", "judge", "network"]
Source = Literal["answers", "tests", "votes", "judge", "people"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a verification found.

    Attributes:
        verdict: undecided where the verifier cannot decide, which is never a label.
        score: in [0, 1], how far the solution is right; None where it is undecided.
        source: what the verdict rests on.
        reason: one line for people; may be empty.
    """

    verdict: Verdict
    score: float | None
    source: Source = "answers"
    reason: str = ""


def judged(verdict: Verdict, source: Source = "answers", reason: str = "") -> Judgement:
    """Return a judgement that is all or nothing: score 1 for right, 0 for wrong."""
    score = {Verdict.RIGHT: 1.0, Verdict.WRONG: 0.0, Verdict.UNDECIDED: None}[verdict]
    return Judgement(verdict, score, source, reason)


def judged_by_tests(outcome: TestOutcome) -> Judgement:
    """Return a judgement whose score is the share of tests passed; right is all of them."""
    if not outcome.is_known:
        return judged(Verdict.UNDECIDED, "tests", outcome.reason)
    verdict = Verdict.RIGHT if outcome.num_passed == outcome.num_tests else Verdict.WRONG
    reason = f"{outcome.num_passed} of {outcome.num_tests} tests passed" + (
        f"; {outcome.reason}" if outcome.reason else ""
    )
    return Judgement(verdict, outcome.num_passed / outcome.num_tests, "tests", reason)


@dataclass(frozen=True, slots=True)
class ProgramOutput:
    """What a program printed, or why it did not come to its end.

    Attributes:
        failure: one line; empty where it ended well.
        is_known: whether this machine could run it at all; else `failure` is why not.
    """

    text: str
    failure: str = ""
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """What a tool answered a call.

    Attributes:
        text: what the policy reads; errors of the call are answers too.
        is_known: whether it is that; else it is why this machine could not find out, and the
            solution is undecided.
    """

    text: str
    is_known: bool = True


class Tools(Protocol):
    """What a task may use to verify a solution, within the time that the solutions of one tree
    have together, and to answer calls.
    """

    def equal(self, truth: str, stated: str, relative_tolerance: float | None) -> Verdict:
        """Return whether two LaTeX expressions are equal, as computer algebra in another process
        says.
        """
        ...

    def once(self, key: Hashable, decide: Callable[[], Verdict]) -> Verdict:
        """Return what `decide` returns, asked once for each key while one tree is verified."""
        ...

    def run_tests(self, programs: Sequence[str], tests: CodeTests) -> TestOutcome:
        """Return what the tests say of the first of the programs that is Python, run in the
        sandbox.
        """
        ...

    def run_program(self, source: str) -> ProgramOutput:
        """Return what a program prints in the sandbox."""
        ...


class Task(ABC):
    """The task of all problems of one kind; the kind is the name that it is registered under.

    Attributes:
        needs: what verification needs beyond this process.
        templates: the prompt templates that its problems can be asked with; none: all but those of
            code.
        states_answers: whether its solutions state answers that can be compared with one another,
            and so be voted for.
    """

    needs: ClassVar[tuple[Need, ...]] = ()
    templates: ClassVar[tuple[str, ...]] = ()
    states_answers: ClassVar[bool] = True

    def read(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row of the task's own form as one of the common form, with "question" (as the
        policy is to be asked), "answer" and perhaps "solution".

        Args:
            row: its names are lower case; its "kind" names this task.

        Raises:
            InputError: saying what is wrong with the row.
        """
        return row

    def steps(self, solution: str) -> list[str]:
        """Return a given solution's steps, without what separates them."""
        return [line.strip() for line in solution.splitlines() if line.strip()]

    def ends(self, step: str) -> bool:
        """Return whether a step ends its solution."""
        return states_answer(step)

    def stated(self, solution: str) -> str | None:
        """Return the answer that a solution states, or None."""
        return extract_answer(solution)

    def compare(self, truth: str, stated: str, tools: Tools) -> Verdict:
        """Return whether a stated answer, extracted from its solution, is the true one, or the one
        that another solution states; here: whether the texts are equal.
        """
        return Verdict.RIGHT if truth.strip() == stated.strip() else Verdict.WRONG

    @property
    def has_tools(self) -> bool:
        """Whether any step may be a call."""
        return type(self).calls is not Task.calls

    def calls(self, step: str) -> bool:
        """Return whether a step calls a tool: where a run lets steps call tools, what `observe`
        returns then becomes the step after it.
        """
        return False

    def observe(self, step: str, tools: Tools) -> Observed:
        """Return what the tool that a step calls answers; the same for the same step. An exception
        is logged, and leaves the solution undecided.

        Raises:
            InputError: if the step is no call.
        """
        raise InputError(f"no tool answers {step.strip()!r}")

    @abstractmethod
    def verify(self, check: Check, tools: Tools) -> Judgement:
        """Return whether a solution is right. It may be unfinished, where a search's settings
        have such leaves verified. An exception counts as undecided, and is logged.
        """


TASKS: Registry[Task] = Registry("tasks", "kind of problem")
