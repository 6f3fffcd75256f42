"""Sets of real numbers, however they are written: intervals, unions, inequalities, set-builder
notation, differences.
"""

import re
from typing import Any

import sympy

from restmcts.adapters.verification.algebra import numbers_agree, parsed
from restmcts.domain.answers.normalisation import split_top_level
from restmcts.domain.problems import Verdict

MAX_DEPTH = 8
_RELATION = re.compile(r"(\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|\\in(?![a-z])|<=|>=|!=|<|>|=)")
_RELATIONS = {
    r"\le": sympy.Le, "<=": sympy.Le, r"\ge": sympy.Ge, ">=": sympy.Ge, "<": sympy.Lt, ">": sympy.Gt, r"\ne": sympy.Ne,
    "!=": sympy.Ne, "=": sympy.Eq,
}  # fmt: skip
_AND = re.compile(
    r"\\text\s*\{\s*(?:and|with|but)\s*\}|\\(?:land|wedge)(?![a-z])|(?<![a-zA-Z\\])(?:and|but)(?![a-zA-Z])|且"
)
_OR = re.compile(r"\\text\s*\{\s*or\s*\}|\\(?:lor|vee)(?![a-z])|(?<![a-zA-Z\\])or(?![a-zA-Z])|或")
_BUILDER = re.compile(r"\\?\{(.*?)(?::|\\mid(?![a-z])|\|)(.*?)\\?\}", re.DOTALL)


def compare_sets(truth: str, prediction: str) -> Verdict:
    """Return whether two texts describe the same set of real numbers; UNDECIDED where one is not
    read as such a set.
    """
    try:
        first, second = _pieces(_real_set(truth, MAX_DEPTH)), _pieces(_real_set(prediction, MAX_DEPTH))
    except (ValueError, TypeError, NotImplementedError, AttributeError):
        return Verdict.UNDECIDED
    if len(first) != len(second):
        return Verdict.WRONG
    verdicts = {_same_piece(one, other) for one, other in zip(first, second, strict=True)}
    if Verdict.WRONG in verdicts:
        return Verdict.WRONG
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.RIGHT


def _pieces(found: Any) -> list[Any]:
    """Return the intervals that a set consists of, in order; a point is an interval too."""
    if found is sympy.S.EmptySet:
        return []
    if found is sympy.S.Reals:
        return [sympy.Interval(-sympy.oo, sympy.oo)]
    if isinstance(found, sympy.Interval):
        return [found]
    if isinstance(found, sympy.FiniteSet):
        return [_point(value) for value in sorted(found.args, key=float)]
    if isinstance(found, sympy.Union):
        return sorted(
            (piece for part in found.args for piece in _pieces(part)),
            key=lambda piece: float(piece[0] if isinstance(piece, tuple) else piece.start),
        )
    raise ValueError(f"no set of intervals: {found}")


def _point(value: Any) -> tuple[Any, Any]:
    return (value, value)


def _same_piece(first: Any, second: Any) -> Verdict:
    if isinstance(first, tuple) or isinstance(second, tuple):
        both = isinstance(first, tuple) and isinstance(second, tuple)
        return numbers_agree(first[0], second[0]) if both else Verdict.WRONG
    if (first.left_open, first.right_open) != (second.left_open, second.right_open):
        return Verdict.WRONG
    ends = {numbers_agree(first.start, second.start), numbers_agree(first.end, second.end)}
    return Verdict.WRONG if Verdict.WRONG in ends else Verdict.UNDECIDED if Verdict.UNDECIDED in ends else Verdict.RIGHT


def _real_set(text: str, depth: int) -> Any:
    """Return the sympy set that a text describes.

    Raises:
        ValueError: if it describes none that is understood.
    """
    text = text.strip()
    if depth == 0 or not text:
        raise ValueError("nested too deep, or empty")
    for split, join in ((_unions, sympy.Union), (_differences, sympy.Complement), (_common, sympy.Intersection)):
        parts = split(text)
        if len(parts) > 1:
            return join(*(_real_set(part, depth - 1) for part in parts))
    return _one_set(text, depth)


def _unions(text: str) -> list[str]:
    return _outside(re.compile(r"\\cup(?![a-z])|" + _OR.pattern), text)


def _differences(text: str) -> list[str]:
    return _outside(re.compile(r"\\(?:setminus|backslash)(?![a-z])|-(?=\s*\\\{)"), text)


def _common(text: str) -> list[str]:
    if _BUILDER.fullmatch(text):
        return [text]
    parts = _outside(re.compile(r"\\cap(?![a-z])|" + _AND.pattern), text)
    if (
        len(parts) == 1
        and len(pieces := split_top_level(text)) > 1
        and all(_RELATION.search(piece) for piece in pieces)
    ):
        return pieces
    return parts


def _outside(separator: re.Pattern[str], text: str) -> list[str]:
    """Split at separators that are outside all brackets of sets."""
    parts, start, depth, place = [], 0, 0, 0
    while place < len(text):
        if text.startswith((r"\{", r"\}"), place):
            depth += 1 if text[place + 1] == "{" else -1
            place += 2
            continue
        found = separator.match(text, place) if depth == 0 else None
        if found:
            parts.append(text[start:place])
            start = place = found.end()
        else:
            place += 1
    return [*parts, text[start:]]


def _one_set(text: str, depth: int) -> Any:
    if text in (r"\reals", r"x\in \reals") or re.fullmatch(r"[a-zA-Z]\s*\\in\s*\\reals", text):
        return sympy.S.Reals
    if text == r"\emptyset":
        return sympy.S.EmptySet
    if builder := _BUILDER.fullmatch(text):
        return _built(builder.group(1), builder.group(2), depth)
    if listed := re.fullmatch(r"\\?\{(.*)\\?\}", text, re.DOTALL):
        return sympy.FiniteSet(*(_number(item) for item in split_top_level(listed.group(1).rstrip("\\"))))
    if interval := re.fullmatch(r"([(\[\]])(.*)([)\]\[])", text, re.DOTALL):
        return _interval(interval.group(1), interval.group(2), interval.group(3), depth)
    return _condition(text, depth)


def _built(variable: str, condition: str, depth: int) -> Any:
    condition_set = _real_set(condition, depth - 1)
    if r"\in" not in variable:
        return condition_set
    return sympy.Intersection(_real_set(variable.split(r"\in", 1)[1], depth - 1), condition_set)


def _interval(opening: str, inside: str, closing: str, depth: int) -> Any:
    ends = split_top_level(inside)
    if len(ends) == 1 and opening == "(":
        return _real_set(inside, depth - 1)
    if len(ends) != 2:
        raise ValueError("an interval has two ends")
    return sympy.Interval(_number(ends[0]), _number(ends[1]), left_open=opening in "(]", right_open=closing in ")[")


def _condition(text: str, depth: int) -> Any:
    pieces = _RELATION.split(text)
    if len(pieces) < 3:
        raise ValueError("no condition")
    if pieces[1] == r"\in" and len(pieces) == 3:
        return _real_set(pieces[2], depth - 1)
    sides = [_term(side) for side in pieces[::2]]
    relations = [_RELATIONS[name] for name in pieces[1::2]]
    links = [_solved(one, relation, other) for one, relation, other in zip(sides, relations, sides[1:], strict=False)]
    return sympy.Intersection(*links)


def _solved(left: Any, relation: Any, right: Any) -> Any:
    """Return where a relation in one variable holds."""
    symbols = (left - right).free_symbols
    if len(symbols) != 1:
        raise ValueError("not a condition on one variable")
    symbol = symbols.pop()
    real = sympy.Symbol("x", real=True)
    condition = relation(left.subs(symbol, real), right.subs(symbol, real))
    if condition in (sympy.true, sympy.false):
        return sympy.S.Reals if condition else sympy.S.EmptySet
    if isinstance(condition, sympy.Eq):
        return sympy.solveset(condition, real, sympy.S.Reals)
    if isinstance(condition, sympy.Ne):
        return sympy.Complement(sympy.S.Reals, sympy.solveset(condition.lhs - condition.rhs, real, sympy.S.Reals))
    return sympy.solve_univariate_inequality(condition, real, relational=False)


def _term(text: str) -> Any:
    found = parsed(text)
    if not isinstance(found, sympy.Expr):
        raise ValueError("not a term")
    return found.doit()


def _number(text: str) -> Any:
    number = _term(text)
    if number.free_symbols or not (number.is_extended_real):
        raise ValueError("not a real number")
    return number
