"""When two formulas are equal: exact arithmetic where it is possible, else so many digits that a
difference between closed forms of that size shows.

Formulas come as LaTeX in one spelling; the parser is that of math-verify, whose own comparison
rounds and is not used. Equality of formulas in variables is tested at points: rational
ones of both signs, at which the difference must vanish exactly or to all digits.
"""

import math
from collections.abc import Sequence
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from sympy.core.function import AppliedUndef

from restmcts.domain.answers.formulas import parsable_formula
from restmcts.domain.problems import Verdict

MAX_EXPONENT = 10_000
MAX_MAGNITUDE_DIGITS = 4_000
MAX_NODES = 2_000
MIN_DIGITS = 60
SLACK_DIGITS = 20
_POSITIVE = ((37, 29), (101, 43), (13, 53))
_MIXED = ((-17, 23), (-61, 19))
_WHOLE = ((2, 1), (3, 1), (7, 1))
_GROWING = (sympy.Pow, sympy.factorial, sympy.factorial2, sympy.binomial)
_CONVERSION = ConversionConfig(lowercase_symbols=False)


def parsed(latex: str) -> Any:
    """Return the sympy object that a formula denotes, or None where it cannot be read or is too
    large to work with.
    """
    text = parsable_formula(latex)
    if text is None:
        return None
    try:
        found = latex2sympy(text, normalization_config=None, conversion_config=_CONVERSION)
    except MemoryError:
        raise
    except Exception:
        # The parser refuses what it cannot read with exceptions of any kind.
        return None
    if isinstance(found, sympy.MatrixBase):
        return found.applyfunc(_with_constants)
    if not isinstance(found, sympy.Basic) or is_beyond_evaluation(found):
        return None
    return _with_constants(found)


def _with_constants(expression: Any) -> Any:
    """Read i as the imaginary unit wherever it is not an index."""
    imaginary = sympy.Symbol("i")
    if imaginary not in expression.free_symbols or expression.has(sympy.Sum, sympy.Product):
        return expression
    return expression.subs(imaginary, sympy.I)


def is_beyond_evaluation(expression: Any) -> bool:
    """Return whether an expression is too long, or holds a power or factorial of numbers with too
    many digits to write down.
    """
    for count, part in enumerate(sympy.preorder_traversal(expression)):
        if count > MAX_NODES:
            return True
        if isinstance(part, _GROWING) and part.args[0] not in (0, 1, -1) and _size(part.args[-1]) > MAX_EXPONENT:
            return True
        if isinstance(part, (sympy.Sum, sympy.Product)) and any(_size(limit) > MAX_EXPONENT for limit in _limits(part)):
            return True
    return False


def _limits(series: Any) -> list[Any]:
    return [bound for limits in series.limits for bound in limits[1:] if bound.is_number and bound.is_finite]


def _size(expression: Any) -> float:
    """Return the rough absolute value of a number or tower of numbers (infinite where it
    overflows), 0 for anything else.
    """
    try:
        if expression.is_Number:
            return abs(float(expression))
        if isinstance(expression, sympy.Pow):
            return math.pow(_size(expression.base), _size(expression.exp))
        if isinstance(expression, sympy.factorial):
            return _size(expression.args[0]) ** 2
        return max([_size(part) for part in expression.args], default=0.0)
    except OverflowError:
        return float("inf")
    except ValueError:
        return 0.0


def compare(gold: Any, candidate: Any) -> Verdict:
    """Return whether two parsed formulas denote the same: numbers, terms in variables,
    equations, inequalities or matrices.
    """
    if gold == candidate:
        return Verdict.RIGHT
    if isinstance(gold, sympy.MatrixBase) or isinstance(candidate, sympy.MatrixBase):
        return _compare_matrices(gold, candidate)
    if isinstance(gold, sympy.core.relational.Relational) and isinstance(candidate, sympy.core.relational.Relational):
        return _compare_relations(gold, candidate)
    if isinstance(gold, sympy.Expr) and isinstance(candidate, sympy.Expr):
        return _compare_terms(gold, candidate)
    return Verdict.UNDECIDED


def _compare_matrices(gold: Any, candidate: Any) -> Verdict:
    if not (isinstance(gold, sympy.MatrixBase) and isinstance(candidate, sympy.MatrixBase)):
        return (
            Verdict.WRONG
            if getattr(gold, "is_number", False) or getattr(candidate, "is_number", False)
            else Verdict.UNDECIDED
        )
    if gold.shape != candidate.shape:
        return Verdict.WRONG
    verdicts = {compare(first, second) for first, second in zip(gold, candidate, strict=True)}
    if Verdict.WRONG in verdicts:
        return Verdict.WRONG
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.RIGHT


def _compare_relations(gold: Any, candidate: Any) -> Verdict:
    """Compare equations and inequalities by the zeros and signs of left minus right side: one
    must be a constant multiple of the other.
    """
    gold, candidate = (one.reversed if isinstance(one, (sympy.Ge, sympy.Gt)) else one for one in (gold, candidate))
    if gold.func is not candidate.func:
        return Verdict.WRONG
    first, second = (_plain(one.lhs - one.rhs) for one in (gold, candidate))
    if first is None or second is None:
        return Verdict.UNDECIDED
    symbols = _symbols(first, second)
    if first.free_symbols != second.free_symbols or not symbols:
        return Verdict.WRONG if symbols else Verdict.UNDECIDED
    origin = _at(symbols, _POSITIVE[0])
    scale, other = first.subs(origin), second.subs(origin)
    if not isinstance(gold, sympy.Eq) and not (scale / other).is_positive:
        return Verdict.WRONG
    return _terms_agree(first * other, second * scale, symbols)


def _compare_terms(gold: Any, candidate: Any) -> Verdict:
    first, second = _plain(gold), _plain(candidate)
    if first is None or second is None:
        return Verdict.UNDECIDED
    return _terms_agree(first, second, _symbols(first, second))


def _plain(expression: Any) -> Any:
    """Carry out sums, integrals, limits and derivatives; None where one cannot be."""
    done = expression.doit()
    calls = {call: sympy.Symbol(str(call)) for call in done.atoms(AppliedUndef)}
    done = done.xreplace(calls)
    if done.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative, sympy.nan, sympy.zoo):
        return None
    return done


def _symbols(*expressions: Any) -> list[Any]:
    return sorted(set().union(*(one.free_symbols for one in expressions)), key=str)


def _at(symbols: Sequence[Any], point: tuple[int, int]) -> dict[Any, Any]:
    return {symbol: sympy.Rational(point[0] + 3 * place, point[1]) for place, symbol in enumerate(symbols)}


def _terms_agree(first: Any, second: Any, symbols: list[Any]) -> Verdict:
    """Compare at every point: equal formulas agree at all where both are defined."""
    if not symbols:
        return numbers_agree(first, second)
    positive = [_agree_at(first, second, _at(symbols, point)) for point in _POSITIVE]
    if Verdict.WRONG in positive:
        # (-1)^{2n} is 1 for whole numbers only: nobody said what n is.
        whole = [_agree_at(first, second, _at(symbols, point)) for point in _WHOLE]
        return Verdict.UNDECIDED if set(whole) == {Verdict.RIGHT} else Verdict.WRONG
    mixed = [_agree_at(first, second, _at(symbols, point), real_only=True) for point in _MIXED]
    if positive.count(Verdict.RIGHT) < 2 or Verdict.WRONG in mixed:
        return Verdict.UNDECIDED
    return Verdict.RIGHT


def _agree_at(first: Any, second: Any, point: dict[Any, Any], real_only: bool = False) -> Verdict:
    values = [one.subs(point) for one in (first, second)]
    if any(value.has(sympy.nan, sympy.zoo, sympy.oo) for value in values):
        return Verdict.UNDECIDED
    if real_only and not all(abs(sympy.im(sympy.N(value, 30))) < sympy.Float("1e-25") for value in values):
        return Verdict.UNDECIDED
    return numbers_agree(*values)


def numbers_agree(first: Any, second: Any) -> Verdict:
    """Return whether two numbers are equal: exactly where their difference is rational, else to
    more digits than their parts together have.
    """
    if first.has(sympy.oo, -sympy.oo) or second.has(sympy.oo, -sympy.oo):
        return Verdict.RIGHT if first == second else Verdict.WRONG
    difference = (first - second).doit()
    if difference.is_Rational:
        return Verdict.RIGHT if difference == 0 else Verdict.WRONG
    magnitude = _digits(first) + _digits(second)
    if magnitude > MAX_MAGNITUDE_DIGITS:
        return Verdict.UNDECIDED
    digits = MIN_DIGITS + 2 * int(magnitude)
    one, other = sympy.N(first, digits), sympy.N(second, digits)
    if not (one.is_number and other.is_number and one.is_finite and other.is_finite) or one.has(sympy.Function):
        return Verdict.UNDECIDED
    tolerance = max(sympy.Integer(1), abs(one), abs(other)) * sympy.Float(10) ** (SLACK_DIGITS - digits)
    return Verdict.RIGHT if abs(one - other) <= tolerance else Verdict.WRONG


def _digits(expression: Any) -> float:
    """Return how many digits, before or after the point, the parts of a number have together."""
    total = 0.0
    for part in sympy.preorder_traversal(expression):
        if isinstance(part, sympy.Rational):
            total += math.log10(max(abs(part.p), 1)) + math.log10(part.q)
        elif isinstance(part, sympy.Pow) and part.is_number:
            total += float(abs(sympy.log(abs(sympy.N(part, 15)), 10))) if part != 0 else 0.0
    return total


def real_value(expression: Any, digits: int = 30) -> Any:
    """Return a number's value as a sympy rational of so many digits, or None if it is no real
    number.
    """
    number = sympy.N(expression.doit(), digits)
    if number.is_number and not number.is_real:
        real, imaginary = number.as_real_imag()
        number = real if abs(imaginary) <= abs(real) * sympy.Float("1e-20") else number
    if not getattr(number, "is_real", False) or not number.is_finite or not number.is_Number:
        return None
    return sympy.Rational(str(number))
