"""Puzzles: tasks whose problems are made here, with how their sets are drawn and their solutions
checked, every line of them.
"""

import random
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks import number_paths, small_programs, story_problems, word_problems
from restmcts.domain.tasks.number_paths import ProblemSets, SetSizes
from restmcts.domain.tasks.task import TASKS, Judgement, Task, Tools, judged, judged_by_tests
from restmcts.errors import InputError

__all__ = ["ProblemSets", "Puzzle", "SetSizes", "puzzle_named", "puzzle_names"]


class Puzzle(Task):
    """A task that makes its problems."""

    @abstractmethod
    def make_sets(self, generator: random.Random, sizes: SetSizes) -> ProblemSets:
        """Return the sets of problems that a run needs; the same generator state gives the same
        sets.
        """


@dataclass(frozen=True, slots=True)
class CheckedPuzzle(Puzzle):
    """A puzzle made of two functions: one draws its sets, one checks a solution."""

    draw: Callable[[random.Random, SetSizes], ProblemSets]
    check: Callable[[Check], Verdict]

    def make_sets(self, generator: random.Random, sizes: SetSizes) -> ProblemSets:
        """Return what `draw` does."""
        return self.draw(generator, sizes)

    def verify(self, check: Check, tools: Tools) -> Judgement:
        """Return what `check` says."""
        return judged(self.check(check))


class SmallPrograms(Puzzle):
    """Programs under tests that are run here, by an interpreter of their part of Python."""

    def make_sets(self, generator: random.Random, sizes: SetSizes) -> ProblemSets:
        """Return sets of small programs."""
        return small_programs.make_small_program_sets(generator, sizes)

    def ends(self, step: str) -> bool:
        """Return whether a step returns."""
        return small_programs.ends_program(step)

    def verify(self, check: Check, tools: Tools) -> Judgement:
        """Run the tests; a problem without tests is undecided."""
        try:
            tests = small_programs.read_tests(check.answer or "")
        except InputError as error:
            return judged(Verdict.UNDECIDED, "tests", str(error))
        return judged_by_tests(small_programs.run_tests(check.solution, tests))


TASKS.add(number_paths.KIND, CheckedPuzzle(number_paths.make_problem_sets, number_paths.check_number_path))
TASKS.add(small_programs.KIND, SmallPrograms())
TASKS.add(
    story_problems.KIND, CheckedPuzzle(story_problems.make_story_problem_sets, story_problems.check_story_problem)
)
TASKS.add(word_problems.KIND, CheckedPuzzle(word_problems.make_word_problem_sets, word_problems.check_word_problem))


def puzzle_names() -> tuple[str, ...]:
    """Return the names of the tasks that make their problems."""
    return tuple(entry.name for entry in TASKS.entries() if isinstance(entry.value, Puzzle))


def puzzle_named(name: str) -> Puzzle:
    """Return a task that makes its problems.

    Raises:
        InputError: if there is none of that name.
    """
    task = TASKS.get(name)
    if not isinstance(task, Puzzle):
        raise InputError(f"{name} problems are read, not made; those that are made: {', '.join(puzzle_names())}")
    return task
