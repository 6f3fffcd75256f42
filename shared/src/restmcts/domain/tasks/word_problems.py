"""Arithmetic word problems in simple English: a puzzle whose steps are free text, so that one
thought has many wordings.

`Ann has 12 apples. Ann buys 5 more. Ben has 7 coins. How many apples does Ann have now?` A step is
a sentence, most with one sum in it: `so now Ann has 12 + 5 = 17 apples`; the last one is `The
answer is 17`. Numbers are whole, 0 to 49. Some sentences of a question do not matter. Knows nothing
of models or of searches.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
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

KIND = "word-problems"
LARGEST_NUMBER = 49
LARGEST_START = 30
LARGEST_CHANGE = 9
EASY = "1-3"
MOST_CHANGES = 5
_MEASURE = "changes in word problems"
DISTRACTION_RATE = 0.5
REMARK_RATE = 0.3

NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gia", "Hugo")
ITEMS = ("apples", "books", "cards", "coins", "shells", "stamps")
_TIMES = {2: "twice", 3: "three times"}

_START = ("{a} has {n} {i}.", "{a} starts with {n} {i}.", "There are {n} {i} on the table of {a}.")
_CHANGES = {
    "+": ("{a} buys {n} more.", "{a} finds {n} more {i}.", "A friend gives {a} {n} {i}."),
    "-": ("{a} loses {n} of them.", "{a} gives {n} {i} to a friend.", "{a} sells {n} {i}."),
    "*": ("Then {a} has {t} as many.", "After a while {a} has {t} as many {i}."),
}
_DISTRACTIONS = ("{b} has {n} {j}.", "{a} also has {n} {j}.", "{b} is {n} years old.")
_CHANGE_STEPS = ("so now {a} has {s} {i}", "then there are {s} {i}", "{a} has {s}", "now that makes {s} {i}")
_REMARKS = ("at first {a} has {n} {i}", "we begin with {n} {i}", "we count only the {i}")

_SUM = re.compile(r"(?<![0-9])(0|[1-9][0-9]?) ([-+*/]) (0|[1-9][0-9]?) = (0|[1-9][0-9]?)(?![0-9])")
_ANSWER_LINE = re.compile(rf"{ANSWER_WORDS} (0|[1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a problem ends: what else it says, what it asks, and the wordings of each further sum.

    Its number is `{m}`; `signs` are those of the sums, t for one that adds what there was before
    the ending.
    """

    sentence: str
    question: str
    signs: str
    steps: tuple[tuple[str, ...], ...]


_ENDINGS = (
    _Ending("", "How many {i} does {a} have now?", "", ()),
    _Ending(
        "{a} puts them into {m} equal boxes.",
        "How many {i} are in one box?",
        "/",
        (("each box holds {s} {i}", "so in one box there are {s}", "then one box has {s} {i}"),),
    ),
    _Ending(
        "{b} has {m} more {i} than {a}.",
        "How many {i} do they have together?",
        "+t",
        (("so {b} has {s} {i}", "{b} has {s}"), ("together they have {s} {i}", "so in all there are {s}")),
    ),
    _Ending(
        "{b} has {m} fewer {i} than {a}.",
        "How many {i} do they have together?",
        "-t",
        (("so {b} has {s} {i}", "{b} has {s}"), ("together they have {s} {i}", "so in all there are {s}")),
    ),
)


def compute(left: int, sign: str, right: int) -> int | None:
    """Return the result of a sum with the sign +, -, * or /; None if it is not a whole number
    from 0 to 49.
    """
    if sign == "/":
        return left // right if right and left % right == 0 else None
    result = {"+": left + right, "-": left - right, "*": left * right}[sign]
    return result if 0 <= result <= LARGEST_NUMBER else None


def check_word_problem(check: Check) -> Verdict:
    """Return whether a solution is right in its answer and in every sum on the way, and states its
    answer in its last line only.

    Undecided is a problem without a true answer.
    """
    if check.answer is None:
        return Verdict.UNDECIDED
    lines = check.solution.removesuffix(STEP_SEPARATOR).split(STEP_SEPARATOR)
    answers = [match[1] for match in map(_ANSWER_LINE.fullmatch, lines) if match is not None]
    last = _ANSWER_LINE.fullmatch(lines[-1])
    sums_are_right = all(
        compute(int(m[1]), m[2], int(m[3])) == int(m[4]) for line in lines for m in _SUM.finditer(line)
    )
    is_right = last is not None and len(answers) == 1 and last[1] == check.answer.strip() and sums_are_right
    return Verdict.RIGHT if is_right else Verdict.WRONG


def make_word_problem_sets(generator: random.Random, sizes: SetSizes | None = None) -> ProblemSets:
    """Return the sets that a whole run needs, of which no two share a question; the same generator
    state gives the same sets.

    The held-out sets are drawn first, so that they do not depend on how many others are wanted.
    Demonstrations come with a solution, in wordings drawn at random. The difficulty is the number
    of changes, "1-3" unless it is given; that of demonstrations is always "1-3".

    Raises:
        InputError: if no new problem is found, or there is no such difficulty.
    """
    sizes = sizes or SetSizes()
    used: set[str] = set()
    easy, wanted = (difficulties(text, MOST_CHANGES, _MEASURE) for text in (EASY, sizes.difficulty or EASY))

    def draw(count: int) -> tuple[Problem, ...]:
        return tuple(Problem(p.question, p.answer, kind=KIND) for p in _draw(generator, used, wanted, count))

    test, validation = draw(sizes.test), draw(sizes.validation)
    demonstrations = tuple(_draw(generator, used, easy, sizes.demonstrations))
    return ProblemSets(demonstrations, tuple(draw(sizes.searched) for _ in range(sizes.iterations)), test, validation)


def all_words() -> tuple[str, ...]:
    """Return every word and mark of questions and solutions but the numbers, each once, in a
    fixed order.
    """
    texts = [*_START, *_DISTRACTIONS, *_CHANGE_STEPS, *_REMARKS, *NAMES, *ITEMS, *_TIMES.values(), ANSWER_WORDS]
    texts += [text for texts_of_sign in _CHANGES.values() for text in texts_of_sign]
    texts += [
        text for e in _ENDINGS for text in (e.sentence, e.question, *(words for step in e.steps for words in step))
    ]
    words = re.findall(r"[A-Za-z]+|[.?]", re.sub(r"\{[a-z]\}", "", " ".join(texts)))
    return tuple(dict.fromkeys([*words, *"+-*/="]))


def _draw(generator: random.Random, used: set[str], num_changes: tuple[int, ...], count: int) -> Iterator[Problem]:
    """Yield new problems with their solutions."""
    for _ in range(count):
        attempts = (_attempt(generator, num_changes) for _ in range(MAX_MISSES))
        drawn = next((found for found in attempts if found is not None and found.question not in used), None)
        if drawn is None:
            raise InputError(f"no new word problem is found after {len(used)}; ask for fewer")
        used.add(drawn.question)
        yield drawn


def _attempt(generator: random.Random, num_changes: tuple[int, ...]) -> Problem | None:
    """Return a problem with a solution, or None if a number on the way leaves 0 to 49."""
    a, b = generator.sample(NAMES, 2)
    i, j = generator.sample(ITEMS, 2)
    ending, amount = generator.choice(_ENDINGS), generator.randint(2, LARGEST_CHANGE)
    words = {"a": a, "b": b, "i": i, "j": j, "m": amount}
    first = generator.randint(2, LARGEST_START)
    said = [generator.choice(_START).format(n=first, **words)]
    solution = _Solution(generator, words, first)
    for _ in range(generator.choice(num_changes)):
        sign = generator.choice("++--*")
        change = generator.choice(tuple(_TIMES)) if sign == "*" else generator.randint(2, LARGEST_CHANGE)
        said.append(generator.choice(_CHANGES[sign]).format(n=change, t=_TIMES.get(change), **words))
        solution.add(sign, change, _CHANGE_STEPS)
    before = solution.total
    for sign, wordings in zip(ending.signs, ending.steps, strict=True):
        solution.add(*(("+", before) if sign == "t" else (sign, amount)), wordings)
    if solution.total is None:
        return None
    if generator.random() < DISTRACTION_RATE:
        distraction = generator.choice(_DISTRACTIONS).format(n=generator.randint(2, LARGEST_NUMBER), **words)
        said.insert(generator.randint(1, len(said)), distraction)
    if generator.random() < REMARK_RATE:
        solution.steps.insert(0, generator.choice(_REMARKS).format(n=first, **words) + STEP_SEPARATOR)
    said += [text.format(**words) for text in (ending.sentence, ending.question) if text]
    return Problem(" ".join(said), str(solution.total), (*solution.steps, answer_step(solution.total)), KIND)


class _Solution:
    """Steps so far and the number reached; None once a number has left the range."""

    def __init__(self, generator: random.Random, words: Mapping[str, object], total: int) -> None:
        self._generator = generator
        self._words = words
        self.total: int | None = total
        self.steps: list[str] = []

    def add(self, sign: str, amount: int | None, wordings: Sequence[str]) -> None:
        if self.total is None or amount is None:
            return
        result = compute(self.total, sign, amount)
        text = self._generator.choice(wordings).format(s=f"{self.total} {sign} {amount} = {result}", **self._words)
        self.steps.append(text + STEP_SEPARATOR)
        self.total = result
