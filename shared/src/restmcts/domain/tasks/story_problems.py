"""Word problems in everyday English for language models that have read English: several sums one
after the other, numbers to 9,999, many wordings, and how hard they are is a setting.

`Ann has 4 boxes of 15 stamps each. She gives 6 stamps to each of 3 cousins. Ben has 12 stamps more
than Ann. How many stamps do they have together?` A step is a sentence, most with one sum in it:
`The boxes hold 4 * 15 = 60 stamps.`; the last one is `The answer is 96`. Some sentences of a
question do not matter. Knows nothing of models or of searches.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.tasks.number_paths import (
    ANSWER_WORDS,
    MAX_MISSES,
    ProblemSets,
    SetSizes,
    answer_step,
    difficulties,
)
from restmcts.errors import InputError

KIND = "story-problems"
LARGEST_NUMBER = 9999
DISTRACTION_RATE = 0.4

NAMES = ("Ann", "Cara", "Eva", "Gia", "Mia", "Nora", "Ben", "Dan", "Finn", "Hugo", "Liam", "Omar")
_SHE = NAMES[:6]
ITEMS = ("apples", "books", "cards", "coins", "marbles", "pencils", "shells", "stamps", "stickers", "tickets")


@dataclass(frozen=True, slots=True)
class _Part:
    """A sentence or two of a problem and the sums that they ask for.

    `{t}` is the number reached before it, `{k}` a small and `{m}`, `{n}` larger numbers; `sums` are
    written with their letters, `s` for the result of the sum before. Each sum has its wordings, in
    which `{s}` is the sum written out.
    """

    text: str
    sums: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]


_NOW = ("Now {a} has {s} {i}.", "So {a} has {s} {i} now.", "That makes {s} {i}.", "Then there are {s} {i}.")
_LEFT = ("{a} has {s} {i} left.", "So {s} {i} are left.", "Now {a} has {s} {i}.", "That leaves {s} {i}.")

_STARTS = (
    _Part("{a} has {n} {i}.", (), ()),
    _Part("There are {n} {i} in the room of {a}.", (), ()),
    _Part("{a} has {k} boxes of {m} {i} each.", ("k*m",), (("The boxes hold {s} {i}.", "At first {a} has {s} {i}."),)),
    _Part(
        "{a} puts {m} {i} into each of {k} rows.",
        ("k*m",),
        (("The rows have {s} {i}.", "In all rows there are {s} {i}."),),
    ),
    _Part(
        "{a} has {n} red {i} and {m} blue ones.",
        ("n+m",),
        (("In all {a} has {s} {i}.", "Red and blue together are {s} {i}."),),
    ),
    _Part(
        "{b} has {m} {i}. {a} has {k} times as many as {b}.",
        ("k*m",),
        (("{a} has {s} {i}.", "So {a} begins with {s} {i}."),),
    ),
    _Part(
        "{b} has {n} {i}. {a} has {m} fewer than {b}.", ("n-m",), (("{a} has {s} {i}.", "So {a} begins with {s} {i}."),)
    ),
)
_EVENTS = (
    _Part("{A} buys {m} more.", ("t+m",), (_NOW,)),
    _Part("A friend gives {a} {m} {i}.", ("t+m",), (_NOW,)),
    _Part("The next day {a} finds another {m} {i}.", ("t+m",), (_NOW,)),
    _Part("{A} loses {m} of them.", ("t-m",), (_LEFT,)),
    _Part("{A} sells {m} {i}.", ("t-m",), (_LEFT,)),
    _Part(
        "{A} buys {k} packs of {m} {i} each.",
        ("k*m", "t+s"),
        (("The packs hold {s} {i}.", "{a} buys {s} {i}."), _NOW),
    ),
    _Part(
        "For {k} days {a} gets {m} {i} a day.",
        ("k*m", "t+s"),
        (("In {k} days {a} gets {s} {i}.", "That is {s} more {i}."), _NOW),
    ),
    _Part(
        "{A} gives {m} {i} to each of {k} cousins.",
        ("k*m", "t-s"),
        (("{a} gives away {s} {i}.", "The cousins get {s} {i}."), _LEFT),
    ),
    _Part(
        "{A} fills {k} bags with {m} {i} each and sells the bags.",
        ("k*m", "t-s"),
        (("The bags take {s} {i}.", "{a} sells {s} {i}."), _LEFT),
    ),
    _Part(
        "{A} gives half of the {i} to {c}.",
        ("t/2", "t-s"),
        (("{c} gets {s} {i}.", "Half of them are {s} {i}."), _LEFT),
    ),
    _Part(
        "{A} throws away a third of them.",
        ("t/3", "t-s"),
        (("A third of them are {s} {i}.", "{a} throws away {s} {i}."), _LEFT),
    ),
    _Part("After a year {a} has {k} times as many.", ("t*k",), (_NOW,)),
)
_ENDINGS = (
    _Part("How many {i} does {a} have now?", (), ()),
    _Part(
        "{A} puts them into boxes of {k}. How many boxes does {a} fill?",
        ("t/k",),
        (("{a} fills {s} boxes.", "The number of boxes is {s}."),),
    ),
    _Part(
        "{b} has {m} {i} more than {a}. How many {i} do they have together?",
        ("t+m", "t+s"),
        (("{b} has {s} {i}.", "So {b} has {s}."), ("Together they have {s} {i}.", "In all they have {s}.")),
    ),
    _Part(
        "{b} has {k} times as many {i} as {a}. How many {i} do they have together?",
        ("t*k", "t+s"),
        (("{b} has {s} {i}.", "So {b} has {s}."), ("Together they have {s} {i}.", "In all they have {s}.")),
    ),
    _Part(
        "{b} has {m} {i}. How many more {i} than {b} does {a} have?",
        ("t-m",),
        (("{a} has {s} more {i} than {b}.", "The difference is {s}."),),
    ),
    _Part(
        "{A} sells all of them for {k} dollars each. How many dollars does {a} get?",
        ("t*k",),
        (("{a} gets {s} dollars.", "All of them bring {s} dollars."),),
    ),
    _Part(
        "{A} sells all of them for {k} dollars each and spends {m} dollars. How many dollars are left?",
        ("t*k", "s-m"),
        (
            ("{a} gets {s} dollars.", "All of them bring {s} dollars."),
            ("{a} has {s} dollars left.", "So {s} dollars are left."),
        ),
    ),
)
_DISTRACTIONS = (
    "{b} is {m} years old.",
    "{b} also has {m} {j}.",
    "The house of {a} has number {n}.",
    "It takes {b} {m} minutes to walk there.",
)

_SUM = re.compile(r"(?<![-\d.+*/x×÷])(?<![-+*/x×÷] )\$?(\d+) ?([-+*/x×÷]) ?\$?(\d+) ?= ?\$?(\d[\d,]*)(?![.\d]*\d)")
_ANSWER = re.compile(rf"{ANSWER_WORDS} \$?(\d+)\.?")
_SIGNS = {"x": "*", "×": "*", "÷": "/"}


@dataclass(frozen=True, slots=True)
class _Level:
    """How hard problems are: how many events they have, and how large their numbers are at most."""

    events: tuple[int, ...]
    small: int
    large: int
    start: int


LEVELS = (
    _Level((1,), 3, 9, 30),
    _Level((1, 2), 5, 20, 60),
    _Level((2, 3), 6, 40, 120),
    _Level((3, 4), 8, 60, 250),
    _Level((4, 5), 9, 90, 500),
)

DEFAULT_DIFFICULTY = "3"


def compute(left: int, sign: str, right: int) -> int | None:
    """Return the result of a sum with the sign +, -, * or /; None if it is not a whole number from
    1 to 9,999.
    """
    if sign == "/":
        return left // right if right and left % right == 0 and left else None
    result = {"+": left + right, "-": left - right, "*": left * right}[sign]
    return result if 0 < result <= LARGEST_NUMBER else None


def check_story_problem(check: Check) -> Verdict:
    """Return whether a solution is right in its answer and in every sum on the way, and states its
    answer in its last line only.

    Undecided is a problem without a true answer, and a text that was cut before its end.
    """
    if check.answer is None:
        return Verdict.UNDECIDED
    lines = [line.strip() for line in check.solution.split(STEP_SEPARATOR) if line.strip()]
    answers = [match[1] for match in map(_ANSWER.fullmatch, lines) if match is not None]
    last = _ANSWER.fullmatch(lines[-1]) if lines else None
    is_right = last is not None and len(answers) == 1 and last[1] == check.answer.strip()
    return Verdict.RIGHT if is_right and all(map(_sums_are_right, lines)) else Verdict.WRONG


def _sums_are_right(line: str) -> bool:
    return all(
        compute(int(m[1]), _SIGNS.get(m[2], m[2]), int(m[3])) == int(m[4].replace(",", "")) for m in _SUM.finditer(line)
    )


def make_story_problem_sets(generator: random.Random, sizes: SetSizes | None = None) -> ProblemSets:
    """Return the sets that a whole run needs, of which no two share a question; the same generator
    state gives the same sets.

    The held-out sets are drawn first, so that they do not depend on how many others are wanted.
    Demonstrations come with a solution, in wordings drawn at random.

    Raises:
        InputError: if no new problem is found, or there is no such level.
    """
    sizes = sizes or SetSizes()
    wanted = difficulties(sizes.difficulty or DEFAULT_DIFFICULTY, len(LEVELS), "levels of story problems")
    levels = [LEVELS[number - 1] for number in wanted]
    used: set[str] = set()

    def draw(count: int, solved: bool = False) -> tuple[Problem, ...]:
        return tuple(_draw(generator, levels, used, solved) for _ in range(count))

    test, validation = draw(sizes.test), draw(sizes.validation)
    demonstrations = draw(sizes.demonstrations, solved=True)
    return ProblemSets(demonstrations, tuple(draw(sizes.searched) for _ in range(sizes.iterations)), test, validation)


def _draw(generator: random.Random, levels: Sequence[_Level], used: set[str], solved: bool) -> Problem:
    level = generator.choice(levels) if len(levels) > 1 else levels[0]
    for _ in range(MAX_MISSES):
        drawn = _Story(generator, level).problem()
        if drawn is not None and drawn.question not in used:
            used.add(drawn.question)
            return drawn if solved else Problem(drawn.question, drawn.answer, kind=KIND)
    raise InputError(f"no new story problem is found after {len(used)}; ask for fewer")


class _Story:
    """One problem while it is written: its sentences, its steps, and the number reached."""

    def __init__(self, generator: random.Random, level: _Level) -> None:
        self._generator, self._level = generator, level
        a, b, c = generator.sample(NAMES, 3)
        i, j = generator.sample(ITEMS, 2)
        self._words = {"a": a, "b": b, "c": c, "i": i, "j": j}
        self._total: int | None = None
        self._said: list[str] = []
        self._steps: list[str] = []

    def problem(self) -> Problem | None:
        """Return the problem with a solution; None if a number on the way leaves 1 to 9,999."""
        choose = self._generator.choice
        parts = [choose(_STARTS), *self._generator.sample(_EVENTS, choose(self._level.events)), choose(_ENDINGS)]
        if not all(self._add(part) for part in parts) or not self._steps:
            return None
        if self._generator.random() < DISTRACTION_RATE:
            text = choose(_DISTRACTIONS).format(**self._numbers(), **self._words)
            self._said.insert(self._generator.randint(1, len(self._said) - 1), text)
        assert self._total is not None
        steps = (*(step + STEP_SEPARATOR for step in self._steps), answer_step(self._total))
        return Problem(" ".join(self._said), str(self._total), steps, KIND)

    def _add(self, part: _Part) -> bool:
        """Write a part; return whether all its numbers stay in range."""
        numbers = self._numbers()
        a, b = self._words["a"], self._words["b"]
        pronoun = "She" if a in _SHE else "He"
        # A pronoun that could mean either is none.
        by_name = not self._said or (a in _SHE) == (b in _SHE) or self._generator.random() < 0.5
        self._said.append(part.text.format(A=a if by_name else pronoun, **numbers, **self._words))
        letters = {**numbers, "t": self._total}
        result: int | None = numbers["n"] if self._total is None else self._total
        for asked, wordings in zip(part.sums, part.steps, strict=True):
            left, right = (letters[letter] if letter in letters else int(letter) for letter in (asked[0], asked[2]))
            result = None if left is None or right is None else compute(left, asked[1], right)
            if result is None:
                return False
            self._say(wordings, f"{left} {asked[1]} {right} = {result}", numbers)
            letters["s"] = result
        self._total = result
        return True

    def _say(self, wordings: Sequence[str], written_sum: str, numbers: dict[str, int]) -> None:
        self._steps.append(self._generator.choice(wordings).format(s=written_sum, **numbers, **self._words))

    def _numbers(self) -> dict[str, int]:
        small, large, start = self._level.small, self._level.large, self._level.start
        draw = self._generator.randint
        return {"k": draw(2, small), "m": draw(3, large), "n": draw(large // 2 + 2, start)}
