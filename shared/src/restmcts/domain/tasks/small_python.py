"""Small Python: the part of Python that small programs are written in, with its interpreter.

A program is the body of a function of one list, `x`: assignments to names, and `return`. Values are
whole numbers and lists of them. A program means what Python says it means; what is outside this
part of Python, or grows too large, fails.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

ARGUMENT = "x"
HEAD = f"def f({ARGUMENT}):"
MAX_CHARACTERS = 2000
MAX_LENGTH = 1000
MAX_NUMBER = 10**12

_UNSPLIT = frozenset("\"'\\")
"""With one of these a text may go on behind what looks like a comment or the end of a line."""

Value = int | list[int] | None

_ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: Mapping[str, Callable[[list[int]], Value]] = {
    "sorted": sorted,
    "sum": sum,
    "len": len,
    "max": max,
    "min": min,
}


class SmallPythonError(Exception):
    """A program is outside small Python, or fails as it would in Python."""


class SmallProgram:
    """A program that can be called."""

    def __init__(self, statements: list[ast.stmt]) -> None:
        self._statements = statements

    def __call__(self, argument: list[int]) -> Value:
        """Return what the program returns; None if it does not say.

        Raises:
            SmallPythonError: if it fails, or does what is outside small Python.
        """
        names: dict[str, Value] = {ARGUMENT: argument}
        try:
            for statement in self._statements:
                if isinstance(statement, ast.Return):
                    return None if statement.value is None else _value(statement.value, names)
                names[_target(statement)] = _value(_assigned(statement), names)
        except (ValueError, IndexError, ZeroDivisionError, RecursionError) as error:
            raise SmallPythonError(str(error)) from None
        return None


@lru_cache(maxsize=8192)
def small_program(body: str) -> SmallProgram:
    """Return the program with this body, of lines that are not indented.

    Raises:
        SmallPythonError: if it is not Python, too long, or has another kind of statement.
    """
    if len(body) > MAX_CHARACTERS:
        raise SmallPythonError("the program is too long")
    statements = _statements(body)
    for line, statement in statements:
        if not isinstance(statement, ast.Return):
            _target(statement, line)
    return SmallProgram([statement for _, statement in statements])


def _statements(body: str) -> list[tuple[int, ast.stmt]]:
    """Return the statements of a program, each with the number of its line. Where each line is a
    statement they are parsed alone: the same few lines come again in many programs.
    """
    lines = body.splitlines()
    if lines and _UNSPLIT.isdisjoint(body):
        alone = [_alone(line.partition("#")[0].rstrip()) for line in lines]
        found = [(number, one) for number, one in enumerate(alone, start=1) if one is not None]
        if len(found) == len(lines):
            return found
    return [(statement.lineno - 1, statement) for statement in _together(body)]


@lru_cache(maxsize=8192)
def _alone(text: str) -> ast.stmt | None:
    """Return the statement that a line is, without its comment; None if it is not exactly one."""
    try:
        (statement,) = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return statement


def _together(body: str) -> list[ast.stmt]:
    try:
        function = ast.parse(program_text(body)).body[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SmallPythonError(f"not Python: {error}") from None
    assert isinstance(function, ast.FunctionDef)
    return function.body


def program_text(body: str) -> str:
    """Return the program as Python reads it: the function `f`, its body indented."""
    return "\n".join([HEAD, *(f"    {line}" for line in body.splitlines())]) + "\n"


def _target(statement: ast.stmt, line: int = 0) -> str:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            return target.id
    raise SmallPythonError(f"line {line} is neither an assignment to a name nor a return")


def _assigned(statement: ast.stmt) -> ast.expr:
    assert isinstance(statement, ast.Assign)
    return statement.value


def _value(node: ast.expr, names: Mapping[str, Value]) -> Value:
    """Return the value of an expression.

    Raises:
        SmallPythonError: if small Python has no such expression, or it grows too large.
    """
    match node:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            found: Value = number
        case ast.Name(id=name) if name in names:
            found = names[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right) if isinstance(first := _value(left, names), list):
            found = [*first, *_list(right, names)]
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            found = _ARITHMETIC[type(sign)](_number(left, names), _number(right, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            found = -_number(operand, names)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS and name not in names:
            found = _FUNCTIONS[name](_list(argument, names))
        case ast.Subscript(value=of, slice=place):
            found = _part(_list(of, names), place, names)
        case ast.ListComp(elt=each, generators=[one]):
            found = _comprehension(each, one, names)
        case _:
            raise SmallPythonError(f"{ast.unparse(node)[:40]} is outside small Python")
    return _bounded(found)


def _bounded(found: Value) -> Value:
    numbers = found if isinstance(found, list) else [found or 0]
    if len(numbers) > MAX_LENGTH or any(abs(number) > MAX_NUMBER for number in numbers):
        raise SmallPythonError("a value grows too large")
    return found


def _number(node: ast.expr, names: Mapping[str, Value]) -> int:
    found = _value(node, names)
    if not isinstance(found, int):
        raise SmallPythonError(f"{ast.unparse(node)[:40]} is no number")
    return found


def _list(node: ast.expr, names: Mapping[str, Value]) -> list[int]:
    found = _value(node, names)
    if not isinstance(found, list):
        raise SmallPythonError(f"{ast.unparse(node)[:40]} is no list")
    return found


def _part(of: list[int], place: ast.expr, names: Mapping[str, Value]) -> Value:
    if not isinstance(place, ast.Slice):
        return of[_number(place, names)]
    first, last, step = (None if one is None else _number(one, names) for one in (place.lower, place.upper, place.step))
    return of[first:last:step]


def _comprehension(each: ast.expr, one: ast.comprehension, names: Mapping[str, Value]) -> list[int]:
    if not isinstance(one.target, ast.Name) or one.is_async:
        raise SmallPythonError("a comprehension over more than one name is outside small Python")
    found = []
    for number in _list(one.iter, names):
        inside = {**names, one.target.id: number}
        if all(_holds(condition, inside) for condition in one.ifs):
            found.append(_number(each, inside))
    return found


def _holds(node: ast.expr, names: Mapping[str, Value]) -> bool:
    match node:
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _COMPARISONS:
            return _COMPARISONS[type(sign)](_number(left, names), _number(right, names))
    raise SmallPythonError(f"{ast.unparse(node)[:40]} is outside small Python")
