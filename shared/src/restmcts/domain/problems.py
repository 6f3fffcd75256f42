"""A problem, its true answer, and what a check of a solution can say. Only labelers and graders
may see answers.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

MAX_PART = 1000
"""Characters of a word that are normalised at a time."""


class Verdict(StrEnum):
    """What a verifier says of a solution; `UNDECIDED` is never turned into a label."""

    RIGHT = "right"
    WRONG = "wrong"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        question: its text.
        answer: the true answer; None where the checker of `kind` needs none.
        solution: a given right solution as steps, or None.
        kind: which checker decides ("math" for answers as text, else a task's own name).
    """

    question: str
    answer: str | None
    solution: tuple[str, ...] | None = None
    kind: str = "math"


@dataclass(frozen=True, slots=True)
class Check:
    """A solution to be checked: the problem's question, true answer and kind, and the
    solution's full text.
    """

    question: str
    answer: str | None
    kind: str
    solution: str


def question_digest(question: str) -> str:
    """Return a digest of the question's text, equal for texts that differ only in case, width
    of characters or white space.
    """
    normalised = " ".join(" ".join(map(_normalised, question.split())).split())
    return hashlib.sha256(normalised.encode()).hexdigest()[:32]


def _normalised(word: str) -> str:
    """Return a word without differences of case and width. A part at a time: marks in a row are put
    in order, which takes as long as the square of their number.
    """
    parts = (word[start : start + MAX_PART] for start in range(0, len(word), MAX_PART))
    return "".join(unicodedata.normalize("NFKC", part) for part in parts).casefold()
