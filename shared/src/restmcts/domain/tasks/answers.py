"""Tasks whose problems have an answer as text, which the last statement of a solution is compared
with: mathematics, numbers with a tolerance, multiple choice.
"""

from dataclasses import dataclass

from restmcts.domain.answers.choices import chosen_letters, compare_choices
from restmcts.domain.answers.equivalence import Comparison
from restmcts.domain.answers.extraction import extract_answer, is_cut_off, states_answer
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.segmenters import outside_thoughts
from restmcts.domain.tasks.task import TASKS, Judgement, Observed, Task, Tools, judged
from restmcts.domain.tasks.tool_lines import called_tool, tool_result

SCIBENCH_RELATIVE_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class AnswerTask(Task):
    """Solutions are right if the answer that they state is the true one.

    Attributes:
        relative_tolerance: of numbers; None: they must be equal.
    """

    relative_tolerance: float | None = None

    def compare(self, truth: str, stated: str, tools: Tools) -> Verdict:
        """Return whether a stated answer, extracted from its solution, is the true one.

        Args:
            truth: the true answer, or a reference solution that states it.
            stated: what `stated` returned.
            tools: for expressions.
        """
        return Comparison(
            lambda true_part, stated_part: tools.equal(true_part, stated_part, self.relative_tolerance),
            self.relative_tolerance,
        ).answers(_answer_of(truth), stated)

    def calls(self, step: str) -> bool:
        """Return whether a step calls the calculator or Python, as `tool_lines` has it."""
        return called_tool(step) is not None

    def observe(self, step: str, tools: Tools) -> Observed:
        """Return what the calculator or Python answers."""
        return tool_result(step, tools.run_program) if self.calls(step) else Task.observe(self, step, tools)

    def verify(self, check: Check, tools: Tools) -> Judgement:
        """Return whether the stated answer is the true one; a solution that states none is wrong,
        undecided where its text was cut off.
        """
        truth = check.answer
        if truth is None:
            return judged(Verdict.UNDECIDED, reason="the problem has no true answer")
        stated = self.stated(check.solution)
        if stated is None:
            cut = is_cut_off(check.solution)
            return judged(Verdict.UNDECIDED if cut else Verdict.WRONG, reason="no answer is stated")
        return judged(tools.once((truth, stated), lambda: self.compare(truth, stated, tools)))


class ChoiceTask(AnswerTask):
    """The answer is a letter, which may be in a sentence of any form."""

    __slots__ = ()

    def stated(self, solution: str) -> str | None:
        """Return the letter that a solution chooses, or None."""
        return chosen_letters(outside_thoughts(solution)) or extract_answer(solution)

    def compare(self, truth: str, stated: str, tools: Tools) -> Verdict:
        """Return whether the right choice was stated."""
        return compare_choices(_answer_of(truth), stated)


def _answer_of(truth: str) -> str:
    return (extract_answer(truth) or truth) if states_answer(truth) else truth


_MATH, _NUMERIC, _CHOICE = AnswerTask(), AnswerTask(SCIBENCH_RELATIVE_TOLERANCE), ChoiceTask()
for _name, _task in (
    ("math", _MATH),
    ("gsm8k", _MATH),
    ("math500", _MATH),
    ("numeric", _NUMERIC),
    ("scibench", _NUMERIC),
    ("choice", _CHOICE),
    ("gpqa-diamond", _CHOICE),
    ("ceval-hard", _CHOICE),
    ("multiple-choice", _CHOICE),
):
    TASKS.add(_name, _task)
