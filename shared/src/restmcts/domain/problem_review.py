"""What a set of problems holds twice, or answers in two ways, and what two sets share.

Questions are the same when they differ in case, width of characters or white space only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from restmcts.domain.answers.normalisation import one_spelling
from restmcts.domain.problems import Problem, question_digest
from restmcts.domain.text import counted

MAX_EXAMPLES = 5


@dataclass(slots=True)
class ProblemReview:
    """What was met while problems went by.

    Attributes:
        num_problems: all of them.
        kinds: how many by kind of answer.
        num_solutions: how many bring a solution.
        num_duplicates: problems whose question, with the same answer, came before.
        conflicts: questions that have two answers: the question and both.
        digests: of every question, with its first answer in one spelling.
    """

    num_problems: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    num_solutions: int = 0
    num_duplicates: int = 0
    conflicts: list[tuple[str, str, str]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def passing(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """Yield problems as they are, and take note of each."""
        for problem in problems:
            self.add(problem)
            yield problem

    def add(self, problem: Problem) -> None:
        """Take note of a problem."""
        self.num_problems += 1
        self.kinds[problem.kind] += 1
        self.num_solutions += problem.solution is not None
        answer = one_spelling(problem.answer or "")
        before = self.digests.setdefault(question_digest(problem.question), answer)
        if before != answer:
            self.conflicts.append((problem.question, before, answer))
        elif len(self.digests) < self.num_problems - self.num_duplicates - len(self.conflicts):
            self.num_duplicates += 1

    def num_shared(self, other: "ProblemReview") -> int:
        """Return how many questions both sets hold."""
        return len(self.digests.keys() & other.digests.keys())

    def remarks(self, name: str) -> list[str]:
        """Return a sentence for everything that a person should know of the set called `name`."""
        found = []
        if self.num_duplicates:
            found.append(
                f"{name}: {counted(self.num_duplicates, 'question')} repeated; each counts once when sets are split"
            )
        if self.conflicts:
            question, first, second = self.conflicts[0]
            found.append(
                f"{name}: {counted(len(self.conflicts), 'question')} with two answers,"
                f" such as {' '.join(question.split())[:80]!r}: {first!r} and {second!r}"
            )
        return found


def overlap_remark(train: ProblemReview, test: ProblemReview, names: tuple[str, str]) -> str | None:
    """Return what must be said of questions that are trained and tested on, None if there are
    none.
    """
    num_shared = train.num_shared(test)
    if not num_shared:
        return None
    return (
        f"{num_shared:,} of {counted(len(test.digests), 'question')} of {names[1]} also in {names[0]}:"
        " accuracy on them says nothing about new problems"
    )
