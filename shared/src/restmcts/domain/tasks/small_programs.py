"""Small programs: a puzzle whose solutions are programs, small enough for a tiny model, and whose
truth is tests.

A question shows a function's head and what it returns for two lists. A step is a line of its body,
`x = [v * 2 for v in x] # [6, 2, 2] -> [9, 5, 5]`; the comment says what the line makes of the first
list, and what is wanted of it, for whoever writes the next line. No test reads comments. Right is
what passes every test, of which the question shows two. Knows nothing of models or of searches.
"""

import ast
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import accumulate, pairwise

from restmcts.domain.problems import Problem
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.tasks.code.tests import TestOutcome
from restmcts.domain.tasks.number_paths import MAX_MISSES, ProblemSets, SetSizes, difficulties
from restmcts.domain.tasks.small_python import HEAD, SmallProgram, SmallPythonError, small_program
from restmcts.errors import InputError

KIND = "small-programs"
EASY = "2-4"
MOST_LINES = 5
_MEASURE = "lines of small programs"
LARGEST_NUMBER = 49
LARGEST_GIVEN = 9
LENGTH = 3
NUM_TESTS, NUM_SHOWN = 8, 2

LINES: Mapping[str, Callable[[list[int]], list[int]]] = {
    "x = [v + 3 for v in x]": lambda x: [v + 3 for v in x],
    "x = [v - 2 for v in x]": lambda x: [v - 2 for v in x],
    "x = [v * 2 for v in x]": lambda x: [v * 2 for v in x],
    "x = x[::-1]": lambda x: x[::-1],
    "x = sorted(x)": sorted,
}
"""The lines that programs are drawn from, each with what it does, of which the tests are made."""
LAST_LINE = "return x"


@dataclass(frozen=True, slots=True)
class Test:
    """One call of a function and what it must return."""

    __test__ = False

    given: tuple[int, ...]
    wanted: tuple[int, ...]

    def __str__(self) -> str:
        return f"f({list(self.given)}) == {list(self.wanted)}"


def read_tests(text: str) -> list[Test]:
    """Return the tests that a text writes, a line each.

    Raises:
        InputError: if a line is no such test, or there is none.
    """
    tests = [_read_test(line) for line in text.splitlines()]
    if not tests:
        raise InputError("no test; write e.g. f([3, 1, 1]) == [9, 5, 5]")
    return tests


def _read_test(line: str) -> Test:
    call, _, wanted = line.partition(" == ")
    try:
        found = [ast.literal_eval(text) for text in (call.removeprefix("f"), wanted)]
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = []
    if not call.startswith("f(") or not found or not all(map(_is_list, found)):
        raise InputError(f"not a test: {line[:80]!r}; write e.g. f([3, 1, 1]) == [9, 5, 5]")
    return Test(*map(tuple, found))


def _is_list(found: object) -> bool:
    return isinstance(found, list) and all(type(number) is int for number in found)


def ends_program(step: str) -> bool:
    """Return whether a step is the last of a program: it returns."""
    return step.split(maxsplit=1)[:1] == ["return"]


def run_tests(body: str, tests: Sequence[Test]) -> TestOutcome:
    """Return how many of the tests, at least one, the program with this body passes, and its first
    failure.
    """
    try:
        program = small_program(body)
    except SmallPythonError as error:
        return TestOutcome(0, len(tests), str(error))
    failures = [failure for test in tests if (failure := _failure(program, test))]
    return TestOutcome(len(tests) - len(failures), len(tests), failures[0] if failures else "")


def _failure(program: SmallProgram, test: Test) -> str:
    """Return why a program does not pass a test; empty if it does."""
    try:
        found = program(list(test.given))
    except SmallPythonError as error:
        return f"f({list(test.given)}) fails: {error}"
    return "" if found == list(test.wanted) else f"f({list(test.given)}) returns {found}, not {list(test.wanted)}"


def make_small_program_sets(generator: random.Random, sizes: SetSizes | None = None) -> ProblemSets:
    """Return the sets that a whole run needs, of which no two share a question; the same generator
    state gives the same sets.

    The held-out sets are drawn first, so that they do not depend on how many others are wanted. The
    difficulty is the number of lines before the return, none of which can be left out; "2-4" unless
    it is given. Demonstrations are one to five lines at random, of which some may be needless.

    Raises:
        InputError: if no new program is found, or there is no such difficulty.
    """
    sizes = sizes or SetSizes()
    source = _Source(generator)
    wanted = difficulties(sizes.difficulty or EASY, MOST_LINES, _MEASURE)
    test, validation = source.draw(wanted, sizes.test), source.draw(wanted, sizes.validation)
    demonstrations = source.demonstrate(sizes.demonstrations)
    searched = tuple(source.draw(wanted, sizes.searched) for _ in range(sizes.iterations))
    return ProblemSets(demonstrations, searched, test, validation)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A program, and what it makes of lists line by line: the first lists are those shown."""

    lines: tuple[str, ...]
    given: tuple[list[int], ...]

    def values(self, number: int) -> list[list[int]]:
        """Return what a list becomes, line by line, the list itself first."""
        return list(accumulate(self.lines, lambda value, line: LINES[line](value), initial=self.given[number]))

    def is_written(self) -> bool:
        """Return whether all numbers that a question or a comment shows are from 0 to 49."""
        shown = [value for number in range(NUM_SHOWN) for value in self.values(number)]
        return all(0 <= number <= LARGEST_NUMBER for value in shown for number in value)

    def needs_every_line(self) -> bool:
        """Return whether without any one of its lines the program returns something else."""
        wanted = [_returned(self.lines, given) for given in self.given]
        shorter = [self.lines[:place] + self.lines[place + 1 :] for place in range(len(self.lines))]
        return all([_returned(lines, given) for given in self.given] != wanted for lines in shorter)

    def problem(self, *, is_demonstration: bool) -> Problem:
        """Return the problem, a demonstration with the program as its solution."""
        tests = [str(Test(tuple(given), tuple(_returned(self.lines, given)))) for given in self.given]
        values = self.values(0)
        comments = [f"# {value} -> {values[-1]}" for value in values]
        question = STEP_SEPARATOR.join([*tests[1:NUM_SHOWN], f"{HEAD} {comments[0]}"])
        steps = [f"{line} {comment}" for line, comment in zip(self.lines, comments[1:], strict=True)]
        solution = tuple(step + STEP_SEPARATOR for step in (*steps, LAST_LINE))
        return Problem(question, STEP_SEPARATOR.join(tests), solution if is_demonstration else None, KIND)


def _returned(lines: Sequence[str], given: list[int]) -> list[int]:
    return reduce(lambda value, line: LINES[line](value), lines, given)


@dataclass(slots=True)
class _Source:
    """Draws problems and remembers their questions, so that none is drawn twice."""

    generator: random.Random
    used: set[str] = field(default_factory=set)

    def draw(self, num_lines: Sequence[int], count: int) -> tuple[Problem, ...]:
        return tuple(self._new(num_lines, _Drawn.needs_every_line) for _ in range(count))

    def demonstrate(self, count: int) -> tuple[Problem, ...]:
        return tuple(self._new(range(1, MOST_LINES + 1), _changes, is_demonstration=True) for _ in range(count))

    def _new(
        self, num_lines: Sequence[int], is_wanted: Callable[[_Drawn], bool], *, is_demonstration: bool = False
    ) -> Problem:
        wanted = self.generator.choice(num_lines)
        for _ in range(MAX_MISSES):
            drawn = self._draw_one(wanted)
            if not drawn.is_written() or not is_wanted(drawn):
                continue
            problem = drawn.problem(is_demonstration=is_demonstration)
            if problem.question not in self.used:
                self.used.add(problem.question)
                return problem
        raise InputError(f"no new small program of {wanted} lines is found after {len(self.used):,}; ask for fewer")

    def _draw_one(self, num_lines: int) -> _Drawn:
        lines = self.generator.choices(tuple(LINES), k=num_lines)
        given = [[self.generator.randint(0, LARGEST_GIVEN) for _ in range(LENGTH)] for _ in range(NUM_TESTS)]
        return _Drawn(tuple(lines), tuple(given))


def _changes(drawn: _Drawn) -> bool:
    """Return whether every line changes the list that the comments are of."""
    return all(before != after for before, after in pairwise(drawn.values(0)))
