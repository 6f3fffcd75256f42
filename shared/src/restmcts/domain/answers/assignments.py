"""Answers that name their values: a=1, b=2; (x, y) = (1, 2); f(x) = 2x + 1.

Knows how names and values are written and in which order names go, not when two values are the
same.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.answers.changing_words import changes_number
from restmcts.domain.answers.normalisation import split_top_level
from restmcts.domain.answers.parts import SYMBOL, enumerated, equation_sides, inside_brackets

_MULTIPLE_OF_NAME = re.compile(r"-?\d+(?:\.\d+)?\s*\\?[a-zA-Z]+")
_FUNCTION = re.compile(r"([a-zA-Z])(?:\s*\(\s*([a-zA-Z])\s*\))?")


@dataclass(frozen=True, slots=True)
class Assignments:
    """Values of distinct names, as written.

    Attributes:
        values: by name.
        indexed: whether the names differ in their subscript alone (x_1, x_2), so that their order
            means little.
    """

    values: dict[str, str]
    indexed: bool

    def in_order(self) -> list[str] | None:
        """Return the values as a tuple would list them: in alphabetical order of the names where
        these are neighbours (x, y) or are so; None where it is anybody's guess.
        """
        names = list(self.values)
        ordered = sorted(names)
        neighbours = all(len(name) == 1 for name in names) and all(
            ord(second) - ord(first) == 1 for first, second in itertools.pairwise(ordered)
        )
        return [self.values[name] for name in ordered] if neighbours or names == ordered else None


def assignments_of(text: str) -> Assignments | None:
    """Return the values that an answer of at least two distinct names gives, or None."""
    pairs = _pairs_of_tuples(text) or _pairs_of_list(text)
    if pairs is None or len(pairs) < 2 or len({name for name, _ in pairs}) < len(pairs):
        return None
    bases = {re.sub(r"_.*", "", name) for name, _ in pairs}
    return Assignments(dict(pairs), len(bases) == 1)


def _pairs_of_tuples(text: str) -> list[tuple[str, str]] | None:
    sides = equation_sides(text)
    if len(sides) != 2:
        return None
    names, values = (inside_brackets(side.strip()) for side in sides)
    if names is None or values is None:
        return None
    first, second = split_top_level(names), split_top_level(values)
    if len(first) != len(second) or not all(SYMBOL.fullmatch(name) for name in first):
        return None
    return [(_name(name), value) for name, value in zip(first, second, strict=True)]


def _pairs_of_list(text: str) -> list[tuple[str, str]] | None:
    inner = inside_brackets(text)
    sides = [equation_sides(item) for item in enumerated(text if inner is None else inner)]
    if not all(len(one) == 2 and SYMBOL.fullmatch(one[0].strip()) for one in sides):
        return None
    return [(_name(name), value.strip()) for name, value in sides]


def gives_one_name(text: str) -> bool:
    """Return whether a text enumerates values of one name (x = 1 or x = 2)."""
    pairs = _pairs_of_list(text)
    return pairs is not None and len(pairs) > 1 and len({name for name, _ in pairs}) == 1


def is_said_of_another(sides: Sequence[str]) -> bool:
    """Return whether an equation gives a value to a term in one unknown (-x, 2x, x^2, x + 1) and
    not to the unknown, or words before it change what it says (unless x = 3).
    """
    first = sides[0].strip()
    if changes_number(re.sub(r"\\[a-zA-Z]+", "", first)):
        return True
    if len(sides) != 2 or SYMBOL.fullmatch(first):
        return False
    letters = re.findall(r"\\?[a-zA-Z]+", re.sub(r"\\(?:frac|sqrt|cdot|times)(?![a-z])", "", first))
    in_one_letter = len(set(letters)) == 1 and re.fullmatch("[a-z]", letters[0]) is not None
    return in_one_letter or _MULTIPLE_OF_NAME.fullmatch(first) is not None


def _name(text: str) -> str:
    return re.sub(r"[\s{}\\]", "", text)


def function_of(text: str) -> tuple[str, str | None, str] | None:
    """Return the name, the variable (None in y = ...) and the term of a function, or None."""
    sides = equation_sides(text)
    found = _FUNCTION.fullmatch(sides[0].strip()) if len(sides) == 2 else None
    return (found.group(1), found.group(2), sides[1].strip()) if found else None


def with_variable(term: str, old: str, new: str) -> str:
    """Return a term in another variable."""
    return re.sub(rf"(?<![a-zA-Z\\]){old}(?![a-zA-Z])", new, term)
