"""Which problems are held out of training, to compare checkpoints on: decided by the question, so
that two problems of one question never fall on both sides. And which problems belong to a round, a
part of an iteration.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from restmcts.domain.problems import Problem, question_digest

T = TypeVar("T")

ONE_IN = 10
"""Of the questions is held out, until there are enough."""

MAX_BOOTSTRAP_PROBLEMS = 1000
"""Of the problems to train on, the first so many also make the data of the first value model."""


class HeldOut:
    """Decides about problems as they come; the next one is asked about once.

    Every tenth question that is new is held out, until `max_questions` are; a question that was
    seen before goes where it went, however it is written in case, width or white space.

    Args:
        max_questions: held out in all.
        held_out: digests of questions that are held out already.
        trained: digests of questions that are trained on.
        needs_answers: whether problems without a true answer are trained on: nothing can be
            measured on them.
    """

    def __init__(
        self,
        max_questions: int,
        held_out: Iterable[str] = (),
        trained: Iterable[str] = (),
        *,
        needs_answers: bool = False,
    ) -> None:
        self._max_questions = max_questions
        self._needs_answers = needs_answers
        self._held_out = set(held_out)
        self._trained = set(trained)
        self._num_new = 0

    def takes(self, problem: Problem) -> bool:
        """Return whether the problem is to be held out."""
        digest = question_digest(problem.question)
        if digest in self._held_out or digest in self._trained:
            return digest in self._held_out
        if self._needs_answers and problem.answer is None:
            self._trained.add(digest)
            return False
        self._num_new += 1
        is_held_out = self._num_new % ONE_IN == 0 and len(self._held_out) < self._max_questions
        (self._held_out if is_held_out else self._trained).add(digest)
        return is_held_out


def split_held_out(
    problems: Sequence[Problem], max_questions: int, *, needs_answers: bool = False
) -> tuple[list[Problem], list[Problem]]:
    """Return the problems of at most `max_questions` questions, which are held out, and the
    others, both in order.

    Args:
        needs_answers: whether problems without a true answer are never held out.
    """
    rule = HeldOut(max_questions, needs_answers=needs_answers)
    sides: tuple[list[Problem], list[Problem]] = ([], [])
    for problem in problems:
        sides[not rule.takes(problem)].append(problem)
    return sides


@dataclass(frozen=True, slots=True)
class Round:
    """One of the parts into which an iteration is divided.

    Attributes:
        number: from 1.
        count: of the iteration's rounds.
    """

    number: int
    count: int

    @property
    def is_last(self) -> bool:
        """Whether the iteration ends with it."""
        return self.number == self.count

    @property
    def share_done(self) -> float:
        """The share of the iteration that is done after it."""
        return self.number / self.count

    def size(self, total: int) -> int:
        """Return how many of `total` belong to the round; the sizes of all rounds differ by at
        most 1.
        """
        return len(range(self.number - 1, total, self.count))

    def members(self, whole: Sequence[T], seed: int) -> list[T]:
        """Return what belongs to the round, in order: drawn by the seed, each by one round."""
        places = list(range(len(whole)))
        random.Random(seed).shuffle(places)
        return [whole[place] for place in sorted(places[self.number - 1 :: self.count])]


def size_of_round(total: int, part: Round | None) -> int:
    """Return how many of a set's problems belong to a round; without one, all."""
    return total if part is None else part.size(total)
