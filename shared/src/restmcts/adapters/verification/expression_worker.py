"""The child process that compares expressions with math-verify: one JSON line in, one JSON line
out.

Runs what hostile text may blow up (computer algebra), so it bounds its own memory and ends itself
when a check overruns, even if its parent is gone. Started by
`restmcts.adapters.verification.verifier` only; reads nothing but its standard input.
"""

import json
import logging
import math
import os
import resource
import signal
import sys
from fractions import Fraction
from typing import Any, TextIO

import sympy
from math_verify import LatexExtractionConfig, parse, verify

from restmcts.domain.answers.quantities import Quantity, equal_quantities, is_close, parse_quantity
from restmcts.domain.problems import Verdict

EVALUATION_DIGITS = 30
SAMPLE_POINTS = (Fraction(37, 29), Fraction(101, 43), Fraction(13, 53))
MAX_EXPONENT = 10_000
GRACE_SECONDS = 1.0


def compare_expressions(truth: str, prediction: str, relative_tolerance: float | None) -> Verdict:
    """Return whether two LaTeX expressions are equal; UNDECIDED if either cannot be parsed or
    the algebra gives up.
    """
    gold, candidate = _parsed(truth), _parsed(prediction)
    if gold is None or candidate is None:
        return Verdict.UNDECIDED
    if _is_beyond_evaluation(gold) or _is_beyond_evaluation(candidate):
        return Verdict.UNDECIDED
    if relative_tolerance is not None:
        return _compare_values(gold, candidate, relative_tolerance)
    for written, other in ((parse_quantity(truth), candidate), (parse_quantity(prediction), gold)):
        if written is not None and written.num_decimals > 0:
            return _compare_with_decimal(written, other)
    if verify(gold, candidate, timeout_seconds=None, raise_on_error=True) or _agree_at_points(gold, candidate):
        return Verdict.RIGHT
    return Verdict.WRONG


def _parsed(latex: str) -> Any:
    """Return the sympy object that a formula denotes, or None."""
    found = parse(f"${latex}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def _is_beyond_evaluation(expression: Any) -> bool:
    """Tell whether an expression holds a power or factorial of numbers with too many digits to
    write down.
    """
    powers = (part for part in sympy.preorder_traversal(expression) if isinstance(part, (sympy.Pow, sympy.factorial)))
    return any(_magnitude(part.args[-1]) > MAX_EXPONENT for part in powers if part.args[0] not in (0, 1, -1))


def _magnitude(expression: Any) -> float:
    """Return the rough absolute value of a number or tower of numbers (infinite where it
    overflows), 0 for anything else.
    """
    try:
        if expression.is_Number:
            return abs(float(expression))
        if isinstance(expression, sympy.Pow):
            return math.pow(_magnitude(expression.base), _magnitude(expression.exp))
        if isinstance(expression, sympy.factorial):
            return _magnitude(expression.args[0]) ** 2
        return max([_magnitude(part) for part in expression.args], default=0.0)
    except OverflowError:
        return float("inf")


def _value(expression: Any) -> Fraction | None:
    """Return an expression's value to `EVALUATION_DIGITS` digits, or None if it is no real
    number.
    """
    number = sympy.N(expression.doit(), EVALUATION_DIGITS)
    if not getattr(number, "is_real", False) or not number.is_finite or not number.is_number:
        return None
    return Fraction(str(number))


def _compare_values(gold: Any, candidate: Any, relative_tolerance: float) -> Verdict:
    true_value, value = _value(gold), _value(candidate)
    if true_value is None or value is None:
        return Verdict.UNDECIDED if true_value is None else Verdict.WRONG
    return Verdict.RIGHT if is_close(true_value, value, relative_tolerance) else Verdict.WRONG


def _compare_with_decimal(written: Quantity, other: Any) -> Verdict:
    """Compare a decimal number with an expression, which it may give rounded."""
    value = _value(other)
    return Verdict.RIGHT if value is not None and equal_quantities(written, Quantity(value)) else Verdict.WRONG


def _agree_at_points(gold: Any, candidate: Any) -> bool:
    """Tell whether two expressions in the same variables agree at several points, where
    simplifying did not show it.
    """
    if (
        not isinstance(gold, sympy.Expr)
        or not isinstance(candidate, sympy.Expr)
        or gold.free_symbols != candidate.free_symbols
    ):
        return False
    symbols = sorted(gold.free_symbols, key=str)
    for point in SAMPLE_POINTS:
        values = {
            symbol: sympy.Rational(point.numerator + 3 * place, point.denominator)
            for place, symbol in enumerate(symbols)
        }
        first, second = (sympy.N(one.doit().subs(values), EVALUATION_DIGITS) for one in (gold, candidate))
        if not (first.is_number and second.is_number and first.is_finite and second.is_finite):
            return False
        if abs(first - second) > abs(first) * sympy.Float("1e-18") + sympy.Float("1e-24"):
            return False
    return True


def main(requests: TextIO, answers: TextIO, memory_bytes: int) -> None:
    """Answer requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    # The libraries do much of their work on first use; that must not count against the first
    # check's time.
    compare_expressions("\\sqrt{2}", "2^{1/2}", None)
    answers.write("ready\n")
    answers.flush()
    for line in requests:
        request = json.loads(line)
        # The default action of the alarm ends the process in whatever code it is stuck: an orphan
        # must not compute for ever.
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + GRACE_SECONDS)
        verdict, out_of_memory = _answer(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(f"{verdict}\n")
        answers.flush()
        if out_of_memory:
            return


def _answer(request: dict[str, Any]) -> tuple[Verdict, bool]:
    try:
        return compare_expressions(request["truth"], request["prediction"], request["relative_tolerance"]), False
    except MemoryError:
        return Verdict.UNDECIDED, True
    except Exception:
        # Whatever the algebra raises on hostile text, the check is undecided.
        return Verdict.UNDECIDED, False


if __name__ == "__main__":
    # Libraries may print: the answers get their own descriptor, and standard output leads nowhere.
    answers_descriptor = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with os.fdopen(answers_descriptor, "w", encoding="utf-8") as answers_stream:
        main(sys.stdin, answers_stream, int(sys.argv[1]))
