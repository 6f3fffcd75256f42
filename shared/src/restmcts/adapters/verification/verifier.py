"""The verifier: decides whether a solution's stated answer is the true one, within a time limit,
whatever the text.

Plain numbers, choices, words and the frames of tuples, sets and intervals are compared in this
process; expressions in a child process, which is killed when it does not answer in time. Knows
nothing of searches or labels.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType

from restmcts.adapters.verification.expression_child import ExpressionChild
from restmcts.domain.answers.choices import chosen_letters, compare_choices
from restmcts.domain.answers.equivalence import Comparison
from restmcts.domain.answers.extraction import extract_answer, is_cut_off, states_answer
from restmcts.domain.problems import Check, Verdict
from restmcts.errors import InputError

logger = logging.getLogger(__name__)

OWN_VERSION = 2
SCIBENCH_RELATIVE_TOLERANCE = 0.05
ANSWERS_IN_A_BUDGET = 4

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


def stated_answer(solution: str, kind: str = "math") -> str | None:
    """Return the answer that a solution states, or None: for a choice the letter, which may stand
    in a sentence of any form.
    """
    if KIND_OF_BENCHMARK.get(kind, kind) == "choice":
        return chosen_letters(solution) or extract_answer(solution)
    return extract_answer(solution)


@dataclass(slots=True)
class _Budget:
    """Seconds of computer algebra that all answers of one tree share; each may take `each` of them.

    Starting the child is not counted.
    """

    total: float
    each: float
    spent: float = 0.0
    verdicts: dict[tuple[str, str, str], Verdict] = field(default_factory=dict)

    def for_one(self) -> "_Budget":
        """Return the budget of one answer: its own limit, or what is left."""
        return _Budget(min(self.each, self.total - self.spent), self.each)


class AnswerVerifier:
    """Checks solutions by their stated answers, or by a task's own checker (implements
    `restmcts.ports.Verifier`).

    Use as a context manager, or call `close`, so that the child process ends.
    """

    def __init__(self, checkers: Mapping[str, Checker] | None = None, time_limit_seconds: float = 5.0) -> None:
        """Take the checkers of tasks whose answers no text decides, by kind, and the limit of wall
        time for one check; all checks of one call together may take four times as long.

        Raises:
            InputError: if the limit is not above 0.
        """
        if not time_limit_seconds > 0:
            raise InputError(f"the time limit of a check must be above 0 seconds, not {time_limit_seconds}")
        self._checkers = dict(checkers or {})
        self._child = ExpressionChild()
        self.time_limit_seconds = time_limit_seconds
        self.verifier_version = f"restmcts-answers-{OWN_VERSION}+latex2sympy-{version('latex2sympy2_extended')}"

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
        """Return one verdict per check, in order; a solution that states no answer is wrong,
        undecided where its text was cut off.

        Raises:
            InputError: if a check's kind is unknown.
            RestMctsError: if the child process cannot be started at all.
        """
        budget = _Budget(ANSWERS_IN_A_BUDGET * self.time_limit_seconds, self.time_limit_seconds)
        return [self._verify_one(check, budget) for check in checks]

    def _verify_one(self, check: Check, budget: _Budget) -> Verdict:
        if check.kind in self._checkers:
            return self._ask_checker(check)
        if check.answer is None:
            return Verdict.UNDECIDED
        stated = stated_answer(check.solution, check.kind)
        if stated is None:
            return Verdict.UNDECIDED if is_cut_off(check.solution) else Verdict.WRONG
        key = (check.answer, stated, check.kind)
        if key not in budget.verdicts:
            one = budget.for_one()
            budget.verdicts[key] = self._compare(*key, one)
            budget.spent += one.spent
        return budget.verdicts[key]

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
        return self._compare(truth, stated, kind, _Budget(self.time_limit_seconds, self.time_limit_seconds))

    def _compare(self, truth: str, stated: str, kind: str, budget: _Budget) -> Verdict:
        kind = KIND_OF_BENCHMARK.get(kind, kind)
        if kind not in ANSWER_KINDS:
            raise InputError(f"unknown kind of answer {kind!r}; known: {', '.join(self.kinds)}")
        truth = (extract_answer(truth) or truth) if states_answer(truth) else truth
        if kind == "choice":
            return compare_choices(truth, stated)
        tolerance = SCIBENCH_RELATIVE_TOLERANCE if kind == "numeric" else None

        def compare_expressions(true_part: str, stated_part: str) -> Verdict:
            """All expressions of one answer share its time limit; starting the child is not
            counted.
            """
            left = budget.total - budget.spent
            if left <= 0:
                return Verdict.UNDECIDED
            verdict, seconds = self._child.compare(true_part, stated_part, tolerance, left)
            budget.spent += seconds
            return verdict

        return Comparison(compare_expressions, tolerance).answers(truth, stated)
