"""Tools that a line of a solution calls by its first word: a calculator, `calc: 3*(4+5)`, and
Python, `python: print(2**10)`. Their answer is the line after it, `result: 27`.

The calculator is exact and pure; Python runs where the sandbox is.
"""

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

from restmcts.domain.tasks.task import Observed, ProgramOutput

MAX_EXPRESSION_CHARS = 400
MAX_BITS = 4096
MAX_EXPONENT = 1024
CALCULATOR, PYTHON = "calc", "python"

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class _CallError(Exception):
    """What is wrong with an expression, in words for the policy."""


def called_tool(step: str) -> str | None:
    """Return the tool that a step calls, "calc" or "python"; None if it calls none."""
    name, colon, argument = step.strip().partition(":")
    return name if colon and name in (CALCULATOR, PYTHON) and argument.strip() else None


def tool_result(step: str, run_program: Callable[[str], ProgramOutput]) -> Observed:
    """Return the answer to a step that calls a tool."""
    argument = step.strip().partition(":")[2].strip()
    if called_tool(step) == CALCULATOR:
        return Observed(f"result: {calculate(argument)}")
    found = run_program(argument)
    if not found.is_known:
        return Observed(f"not answered: {found.failure}", is_known=False)
    printed = " | ".join(line for line in found.text.splitlines() if line.strip())
    parts = [printed, f"error: {found.failure}" if found.failure else ""]
    return Observed("result: " + (" | ".join(filter(None, parts)) or "nothing was printed"))


def calculate(expression: str) -> str:
    """Return the exact value of an arithmetic expression of numbers, + - * / // % ** and
    parentheses: a whole number, a decimal number, or a fraction; or "error: " and what is wrong.
    """
    if len(expression) > MAX_EXPRESSION_CHARS:
        return f"error: longer than {MAX_EXPRESSION_CHARS} characters"
    try:
        text = expression.replace("^", "**")
        return _written(_value(ast.parse(text, mode="eval").body, text))
    except _CallError as error:
        return f"error: {error}"
    except ZeroDivisionError:
        return "error: division by zero"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "error: this is no arithmetic expression"


def _value(node: ast.expr, text: str) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _number(ast.get_source_segment(text, node) or "")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, text)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, text)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, text), _value(right, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _bounded(Fraction(_OPERATORS[type(op)](_value(left, text), _value(right, text))))
    raise _CallError("only numbers, + - * / // % ** and parentheses are known")


def _number(written: str) -> Fraction:
    exponent = written.lower().partition("e")[2]
    if exponent and abs(int(exponent)) > MAX_EXPONENT:
        raise _CallError("the result is too large")
    return _bounded(Fraction(written))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise _CallError("an exponent must be a whole number")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_EXPONENT or size * abs(exponent) > MAX_BITS:
        raise _CallError("the result is too large")
    return _bounded(Fraction(base ** int(exponent)))


def _bounded(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
        raise _CallError("the result is too large")
    return number


def _written(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    rest, places = number.denominator, 0
    while rest % 10 == 0 or rest % 2 == 0 or rest % 5 == 0:
        rest = rest // 10 if rest % 10 == 0 else rest // 2 if rest % 2 == 0 else rest // 5
        places += 1
    if rest != 1:
        return f"{number.numerator}/{number.denominator}"
    scaled = abs(number.numerator) * 10**places // number.denominator
    digits = str(scaled).rjust(places + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"
