"""Arithmetic word problems in simple English: a puzzle whose steps are free text, so that one thought has many wordings.

`Ann has 12 apples. Ann buys 5 more. Ben has 7 coins. How many apples does Ann have now?` A step is a sentence, most with one sum in
it: `so now Ann has 12 + 5 = 17 apples`; the last one is `The answer is 17`. Numbers are whole, 0 to 49. Some sentences of a question
do not matter. Knows nothing of models or of searches.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from restmcts.domain.number_paths import ANSWER_WORDS, MAX_MISSES, ProblemSets, SetSizes, answer_step
from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.errors import InputError

KIND = "word-problems"
LARGEST_NUMBER = 49
LARGEST_START = 30
LARGEST_CHANGE = 9
NUM_CHANGES = (1, 2, 3)
MAX_STEPS = 10
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
    """How a problem ends: what else it says, what it asks, and the wordings of each further sum; `{m}` stands for its number."""

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
    """Return the result of a sum with the sign +, -, * or /; None if it is not a whole number from 0 to 49."""
    if sign == "/":
        return left // right if right and left % right == 0 else None
    result = {"+": left + right, "-": left - right, "*": left * right}[sign]
    return result if 0 <= result <= LARGEST_NUMBER else None


def check_word_problem(check: Check) -> Verdict:
    """Return whether a solution is right in its answer and in every sum on the way, and states its answer in its last line only.

    Undecided is a problem without a true answer.
    """
    if check.answer is None:
        return Verdict.UNDECIDED
    lines = check.solution.removesuffix(STEP_SEPARATOR).split(STEP_SEPARATOR)
    answers = [match[1] for match in map(_ANSWER_LINE.fullmatch, lines) if match is not None]
    last = _ANSWER_LINE.fullmatch(lines[-1])
    sums_are_right = all(compute(int(m[1]), m[2], int(m[3])) == int(m[4]) for line in lines for m in _SUM.finditer(line))
    is_right = last is not None and len(answers) == 1 and last[1] == check.answer.strip() and sums_are_right
    return Verdict.RIGHT if is_right else Verdict.WRONG


def make_word_problem_sets(generator: random.Random, sizes: SetSizes | None = None) -> ProblemSets:
    """Return the sets that a whole run needs, of which no two share a question; the same generator state gives the same sets.

    The held-out sets are drawn first, so that they do not depend on how many others are wanted. Demonstrations come with a solution,
    in wordings drawn at random; all are of the same kinds.
    """
    sizes = sizes or SetSizes()
    used: set[str] = set()

    def draw(count: int, solved: bool = False) -> tuple[Problem, ...]:
        return tuple(_draw(generator, used, solved) for _ in range(count))

    test, validation = draw(sizes.test), draw(sizes.validation)
    demonstrations = draw(sizes.demonstrations, solved=True)
    return ProblemSets(demonstrations, tuple(draw(sizes.searched) for _ in range(sizes.iterations)), test, validation)


def all_words() -> tuple[str, ...]:
    """Return every word and mark of questions and solutions but the numbers, each once, in a fixed order."""
    texts = [*_START, *_DISTRACTIONS, *_CHANGE_STEPS, *_REMARKS, *NAMES, *ITEMS, *_TIMES.values(), ANSWER_WORDS]
    texts += [text for texts_of_sign in _CHANGES.values() for text in texts_of_sign]
    texts += [text for e in _ENDINGS for text in (e.sentence, e.question, *(words for step in e.steps for words in step))]
    words = re.findall(r"[A-Za-z]+|[.?]", re.sub(r"\{[a-z]\}", "", " ".join(texts)))
    return tuple(dict.fromkeys([*words, *"+-*/="]))


def _draw(generator: random.Random, used: set[str], solved: bool) -> Problem:
    for _ in range(MAX_MISSES):
        drawn = _attempt(generator)
        if drawn is not None and drawn.question not in used:
            used.add(drawn.question)
            return drawn if solved else Problem(drawn.question, drawn.answer, kind=KIND)
    raise InputError(f"no new word problem is found after {len(used)}; ask for fewer")


def _attempt(generator: random.Random) -> Problem | None:
    """Return a problem with a solution, or None if a number on the way leaves 0 to 49."""
    a, b = generator.sample(NAMES, 2)
    i, j = generator.sample(ITEMS, 2)
    total = first = generator.randint(2, LARGEST_START)
    said = [generator.choice(_START).format(a=a, n=first, i=i)]
    steps: list[str] = []
    for _ in range(generator.choice(NUM_CHANGES)):
        sign = generator.choice("++--*")
        amount = generator.choice((2, 3)) if sign == "*" else generator.randint(2, LARGEST_CHANGE)
        said.append(generator.choice(_CHANGES[sign]).format(a=a, n=amount, i=i, t=_TIMES.get(amount, "")))
        result = compute(total, sign, amount)
        if result is None:
            return None
        steps.append(generator.choice(_CHANGE_STEPS).format(a=a, i=i, s=f"{total} {sign} {amount} = {result}"))
        total = result
    ending = generator.choice(_ENDINGS)
    amount = generator.randint(2, LARGEST_CHANGE)
    last, before = total, total
    for sign, wordings in zip(ending.signs, ending.steps, strict=True):
        left, right, sign = (before, last, "+") if sign == "t" else (last, amount, sign)
        result = compute(left, sign, right)
        if result is None:
            return None
        steps.append(generator.choice(wordings).format(a=a, b=b, i=i, s=f"{left} {sign} {right} = {result}"))
        last = result
    if generator.random() < DISTRACTION_RATE:
        distraction = generator.choice(_DISTRACTIONS).format(a=a, b=b, j=j, n=generator.randint(2, LARGEST_NUMBER))
        said.insert(generator.randint(1, len(said)), distraction)
    if generator.random() < REMARK_RATE:
        steps.insert(0, generator.choice(_REMARKS).format(a=a, n=first, i=i))
    said += [text for text in (ending.sentence, ending.question) if text]
    question = " ".join([*said[:-2], *(text.format(a=a, b=b, i=i, m=amount) for text in said[-2:])])
    solution = (*(step + STEP_SEPARATOR for step in steps), answer_step(last))
    return Problem(question, str(last), solution, KIND)
