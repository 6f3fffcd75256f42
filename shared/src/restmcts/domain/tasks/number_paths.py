"""Number paths: a puzzle small enough for a tiny model, with exact distances to evaluate a value
model against.

`Start: 7  Target: 31  Moves: +3 -5 *2` asks for at most eight allowed moves that lead from start to
target through the numbers 0 to 49. A step is one move written out, `7 * 2 = 14`; the last one is
`The answer is 31`. Knows nothing of models or of searches.
"""

import random
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.errors import InputError

KIND = "number-paths"
FRESH_POLICY = "number-paths:"
"""With a seed behind it, the name of the demo's first policy, which is made where it is loaded."""
LARGEST_NUMBER = 49
MAX_MOVES = 8
MOVES_PER_PUZZLE = 3
EASY, HARD = "3-6", "6-8"
"""Distances of the puzzles that are searched and held out: the domain's own, and the demo's."""
DEMONSTRATION_MOVES = (4, 8)
ANSWER_WORDS = "The answer is"
# A space as small as this one runs dry; so many misses in a row mean that fewer than one draw in
# fifty still finds something new.
MAX_MISSES = 500

_NUMBER = r"(0|[1-9][0-9]?)"
_MOVE = r"[+\-*][1-9][0-9]?"
_QUESTION = re.compile(rf"Start: {_NUMBER}  Target: {_NUMBER}  Moves: ({_MOVE}(?: {_MOVE})*)")
_MOVE_LINE = re.compile(rf"{_NUMBER} ([+\-*]) ([1-9][0-9]?) = {_NUMBER}")
_ANSWER_LINE = re.compile(rf"{ANSWER_WORDS} {_NUMBER}")


@dataclass(frozen=True, slots=True, order=True)
class Move:
    """One allowed move: its sign (`+`, `-` or `*`) and the amount, at least 1."""

    sign: str
    amount: int

    def __str__(self) -> str:
        return f"{self.sign}{self.amount}"

    def apply(self, number: int) -> int | None:
        """Return the number that the move leads to, or None if that lies outside 0 to 49."""
        if self.sign == "+":
            result = number + self.amount
        elif self.sign == "-":
            result = number - self.amount
        else:
            result = number * self.amount
        return result if 0 <= result <= LARGEST_NUMBER else None


MOVE_POOL = (Move("+", 3), Move("+", 7), Move("-", 2), Move("-", 5), Move("*", 2))


@dataclass(frozen=True, slots=True)
class NumberPath:
    """A question in parts; start and target are numbers from 0 to 49."""

    start: int
    target: int
    moves: tuple[Move, ...]

    @property
    def question(self) -> str:
        """The question's text, without a newline at its end."""
        return f"Start: {self.start}  Target: {self.target}  Moves: {' '.join(map(str, self.moves))}"


@dataclass(frozen=True, slots=True)
class SetSizes:
    """How many problems of each set are wanted, and how hard.

    Attributes:
        searched: of each iteration.
        difficulty: a range in the puzzle's own measure, e.g. "5-8", of all problems but the
            demonstrations; None: the puzzle's own.
    """

    demonstrations: int = 1500
    iterations: int = 2
    searched: int = 2200
    test: int = 1000
    validation: int = 600
    difficulty: str | None = None


@dataclass(frozen=True, slots=True)
class ProblemSets:
    """Sets of problems of which no two share a question, and none holds one twice.

    Attributes:
        demonstrations: with solutions, all right, all longer than they need be.
        searched: one tuple per iteration, of the difficulty that is wanted as are the next two.
        test: held out for reported accuracies.
        validation: held out for choices.
    """

    demonstrations: tuple[Problem, ...]
    searched: tuple[tuple[Problem, ...], ...]
    test: tuple[Problem, ...]
    validation: tuple[Problem, ...]


def parse_question(question: str) -> NumberPath:
    """Return the puzzle that a question states.

    Raises:
        InputError: if the text is not exactly such a question.
    """
    match = _QUESTION.fullmatch(question)
    if match is None or max(int(match[1]), int(match[2])) > LARGEST_NUMBER:
        raise InputError(
            f"not a number path: {question[:80]!r}; write e.g. 'Start: 7  Target: 31  Moves: +3 -5 *2', numbers 0 to 49"
        )
    moves = tuple(Move(text[0], int(text[1:])) for text in match[3].split(" "))
    return NumberPath(start=int(match[1]), target=int(match[2]), moves=moves)


def move_step(number: int, move: Move) -> str:
    """Return the step that applies a move, e.g. `7 * 2 = 14` and a newline.

    Raises:
        ValueError: if the move leads outside 0 to 49.
    """
    result = move.apply(number)
    if result is None:
        raise ValueError(f"{move} leads from {number} outside 0 to {LARGEST_NUMBER}")
    return f"{number} {move.sign} {move.amount} = {result}{STEP_SEPARATOR}"


def answer_step(number: int) -> str:
    """Return the last step of a path that ends on `number`, with its newline."""
    return f"{ANSWER_WORDS} {number}{STEP_SEPARATOR}"


@lru_cache(maxsize=4096)
def distances_to(target: int, moves: tuple[Move, ...]) -> tuple[int | None, ...]:
    """Return, for each number from 0 to 49, the fewest moves from it to `target`; None where no
    way leads there.
    """
    origins: list[list[int]] = [[] for _ in range(LARGEST_NUMBER + 1)]
    for number in range(LARGEST_NUMBER + 1):
        for move in moves:
            result = move.apply(number)
            if result is not None:
                origins[result].append(number)
    distances: list[int | None] = [None] * (LARGEST_NUMBER + 1)
    distances[target] = 0
    frontier = deque([(target, 0)])
    while frontier:
        number, moves_left = frontier.popleft()
        for origin in origins[number]:
            if distances[origin] is None:
                distances[origin] = moves_left + 1
                frontier.append((origin, moves_left + 1))
    return tuple(distances)


def distance(question: str, steps: Sequence[str]) -> int | None:
    """Return the fewest moves that a partial solution still needs; 0 at the target, whether or not
    the answer is stated.

    None says that no right solution begins so: a step is wrong, or the target is out of reach
    within eight moves in all.

    Raises:
        InputError: if the question is not a number path.
    """
    puzzle = parse_question(question)
    position = _replay(puzzle, [step.removesuffix(STEP_SEPARATOR) for step in steps])
    if position is None:
        return None
    number, num_moves, _ = position
    moves_left = distances_to(puzzle.target, puzzle.moves)[number]
    return None if moves_left is None or num_moves + moves_left > MAX_MOVES else moves_left


def check_number_path(check: Check) -> Verdict:
    """Return whether a solution is right in *every* line, not only in the last one, which a policy
    would learn to fake.

    Undecided is a question that is no number path, or whose target is not the answer that came with
    it.
    """
    try:
        puzzle = parse_question(check.question)
    except InputError:
        return Verdict.UNDECIDED
    if check.answer is not None and check.answer.strip() != str(puzzle.target):
        return Verdict.UNDECIDED
    position = _replay(puzzle, check.solution.removesuffix(STEP_SEPARATOR).split(STEP_SEPARATOR))
    return Verdict.RIGHT if position is not None and position[2] else Verdict.WRONG


def make_problem_sets(generator: random.Random, sizes: SetSizes | None = None) -> ProblemSets:
    """Return the sets that a whole run needs; the same generator state gives the same sets.

    The held-out sets are drawn first, so that they do not depend on how many others are wanted. The
    difficulty is the exact distance, "3-6" unless it is given; all distances are drawn equally
    often until one of them is used up.

    Raises:
        InputError: if the puzzle has not that many problems, or no such distances.
    """
    sizes = sizes or SetSizes()
    source = _Source(generator, sizes.difficulty or EASY)
    test = source.draw(sizes.test)
    validation = source.draw(sizes.validation)
    demonstrations = source.demonstrate(sizes.demonstrations)
    searched = tuple(source.draw(sizes.searched) for _ in range(sizes.iterations))
    return ProblemSets(demonstrations, searched, test, validation)


def difficulties(text: str, largest: int, what: str) -> tuple[int, ...]:
    """Return the numbers of a range as a person writes it: "5-8" or "5".

    Args:
        largest: the greatest number that there may be; the least is 1.
        what: what the numbers are, for messages.

    Raises:
        InputError: if it is no such range.
    """
    match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= largest:
        raise InputError(f"{what} are a range from 1 to {largest} such as 2-{largest}, not {text!r}")
    return tuple(range(first, last + 1))


class _Source:
    """Draws problems and remembers their questions, so that none is drawn twice."""

    def __init__(self, generator: random.Random, difficulty: str) -> None:
        self._generator = generator
        self._difficulty = difficulty
        self._distances = distances = difficulties(difficulty, MAX_MOVES, "distances of number paths")
        self._used: set[NumberPath] = set()
        self._unused: dict[int, list[NumberPath]] = {steps: [] for steps in distances}
        for puzzle, steps in _all_puzzles():
            if steps in self._unused:
                self._unused[steps].append(puzzle)
        self._num_puzzles = sum(map(len, self._unused.values()))
        for puzzles in self._unused.values():
            generator.shuffle(puzzles)

    def draw(self, count: int) -> tuple[Problem, ...]:
        return tuple(_as_problem(self._draw_one()) for _ in range(count))

    def demonstrate(self, count: int) -> tuple[Problem, ...]:
        problems: list[Problem] = []
        misses = 0
        while len(problems) < count:
            walked = _random_walk(self._generator)
            if walked is None or walked[0] in self._used:
                misses += 1
                if misses == MAX_MISSES:
                    raise InputError(f"only {len(problems)} of {count} demonstrations can be found; ask for fewer")
                continue
            misses = 0
            self._used.add(walked[0])
            problems.append(_as_problem(*walked))
        return tuple(problems)

    def _draw_one(self) -> NumberPath:
        """Return an unused puzzle of a distance that is drawn from those that are not used up."""
        while self._distances:
            steps = self._generator.choice(self._distances)
            unused = self._unused[steps]
            while unused:
                puzzle = unused.pop()
                if puzzle not in self._used:
                    self._used.add(puzzle)
                    return puzzle
            self._distances = tuple(other for other in self._distances if other != steps)
        raise InputError(
            f"there are {self._num_puzzles:,} number paths of distance {self._difficulty}, and more are asked for; "
            "ask for fewer (iterations, puzzles.searched, puzzles.test), or for other distances"
        )


def _all_puzzles() -> Iterator[tuple[NumberPath, int]]:
    for moves in combinations(MOVE_POOL, MOVES_PER_PUZZLE):
        for target in range(LARGEST_NUMBER + 1):
            for start, steps in enumerate(distances_to(target, moves)):
                if steps is not None:
                    yield NumberPath(start, target, moves), steps


def _random_walk(generator: random.Random) -> tuple[NumberPath, tuple[str, ...]] | None:
    """Return a walk without revisits, its end declared the target; None if it got stuck or is
    as short as can be.
    """
    chosen = sorted(generator.sample(range(len(MOVE_POOL)), MOVES_PER_PUZZLE))
    moves = tuple(MOVE_POOL[index] for index in chosen)
    path = [generator.randint(0, LARGEST_NUMBER)]
    steps: list[str] = []
    for _ in range(generator.randint(*DEMONSTRATION_MOVES)):
        ways = [(move, result) for move in moves if (result := move.apply(path[-1])) is not None and result not in path]
        if not ways:
            return None
        move, result = generator.choice(ways)
        steps.append(move_step(path[-1], move))
        path.append(result)
    shortest = distances_to(path[-1], moves)[path[0]]
    if shortest is None or len(steps) <= shortest:
        return None
    return NumberPath(path[0], path[-1], moves), (*steps, answer_step(path[-1]))


def _as_problem(puzzle: NumberPath, solution: tuple[str, ...] | None = None) -> Problem:
    return Problem(question=puzzle.question, answer=str(puzzle.target), solution=solution, kind=KIND)


def _replay(puzzle: NumberPath, lines: Sequence[str]) -> tuple[int, int, bool] | None:
    """Return the number reached, the moves made and whether the answer was stated; None if a
    line is wrong.
    """
    number = puzzle.start
    for place, line in enumerate(lines):
        if (answer := _ANSWER_LINE.fullmatch(line)) is not None:
            is_right = int(answer[1]) == number == puzzle.target and place == len(lines) - 1
            return (number, place, True) if is_right else None
        made = _MOVE_LINE.fullmatch(line)
        if made is None or place == MAX_MOVES:
            return None
        move = Move(made[2], int(made[3]))
        if int(made[1]) != number or move not in puzzle.moves or move.apply(number) != int(made[4]):
            return None
        number = int(made[4])
    return number, len(lines), False
