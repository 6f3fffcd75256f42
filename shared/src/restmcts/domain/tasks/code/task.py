"""The task of code: a solution is right if its program passes all tests; its score is the share
that it passes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.code.formats import common_row
from restmcts.domain.tasks.code.programs import programs_in
from restmcts.domain.tasks.code.steps import END_OF_FENCE, FENCE, closes_program, logical_lines
from restmcts.domain.tasks.code.tests import read_tests
from restmcts.domain.tasks.task import TASKS, Judgement, Need, Task, Tools, judged, judged_by_tests
from restmcts.errors import InputError

KIND = "code"


class CodeTask(Task):
    """Problems whose true answer is tests."""

    needs: ClassVar[tuple[Need, ...]] = ("sandbox",)
    templates: ClassVar[tuple[str, ...]] = ("code-en", "code-zh")
    states_answers: ClassVar[bool] = False

    def read(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row of a known form as one whose "answer" is its tests: HumanEval, MBPP,
        EvalPlus, APPS, TACO, CodeContests, LiveCodeBench, or one with "tests".
        """
        return common_row(row)

    def steps(self, solution: str) -> list[str]:
        """Return the logical lines of a program, in a fence."""
        lines = logical_lines(solution)
        return lines if lines and closes_program(lines[-1]) else [FENCE, *lines, END_OF_FENCE]

    def ends(self, step: str) -> bool:
        """Return whether a step closes the program's fence."""
        return closes_program(step)

    def verify(self, check: Check, tools: Tools) -> Judgement:
        """Run the tests on the program that a solution holds; one that holds none is wrong."""
        if check.answer is None:
            return judged(Verdict.UNDECIDED, "tests", "the problem has no tests")
        try:
            tests = read_tests(check.answer)
        except InputError as error:
            return judged(Verdict.UNDECIDED, "tests", str(error))
        programs = programs_in(check.solution, tests.prelude, tests.entry_point)
        if not programs:
            return judged(Verdict.WRONG, "tests", "no program")
        return judged_by_tests(tools.run_tests(programs, tests))


TASKS.add(KIND, CodeTask())
