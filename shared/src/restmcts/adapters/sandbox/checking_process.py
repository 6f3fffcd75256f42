"""Runs the tests of a program in a process of their own, which the program cannot reach: every call
goes over a pipe, and only plain data comes back.
"""

import ast
import builtins
import contextlib
import json
import os
import sys
import types
import warnings
from collections.abc import Iterator

from restmcts.adapters.sandbox.plain_values import Coded, decode, encode, read_all, receive, send
from restmcts.adapters.sandbox.program_process import MAX_REASON, reason

TESTS, TO_PROGRAM, FROM_PROGRAM, REPORT = 3, 4, 5, 6
_COUNT = "__count_of_tests"
_ENDS_A_LOOP = ("StopIteration", "StopAsyncIteration")


class ProgramEndedError(Exception):
    """The program does not answer any more, or not as it should."""


def run_tests() -> int:
    """Run the tests that descriptor 3 holds, and write what they found to descriptor 6 as JSON:
    how many passed, how many there are, the first failure, and why the tests could not be run.
    """
    entry_point, code = json.loads(read_all(TESTS))
    warnings.simplefilter("ignore")
    count = _Count()
    broken = ""
    try:
        program = _Program()
        tree = ast.parse(code, "<tests>")
        count.num_known = sum(isinstance(node, ast.Assert) for node in ast.walk(tree))
        _run(_counted(tree), entry_point, program, count)
    except BaseException as error:
        count.fail(error)
        broken = _why_broken(error)
    report = {"passed": count.num_passed, "tests": count.num_tests, "failure": count.failure, "broken": broken}
    with os.fdopen(REPORT, "w", encoding="utf-8") as file:
        json.dump(report, file)
    return 0


class _ProgramError(Exception):
    """The program raised something that Python does not know."""


def _why_broken(error: BaseException) -> str:
    """Return why the tests themselves are no tests; empty if it is the program that failed."""
    if isinstance(error, (SyntaxError, ImportError)) and not getattr(error, "of_program", False):
        return reason(error)
    return ""


def _run(tree: ast.Module, entry_point: str, program: "_Program", count: "_Count") -> None:
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    names = module.__dict__
    names[_COUNT] = count
    names["candidate"] = names[entry_point] = program.named(entry_point)
    for name in _names_of_program(tree):
        if name not in names:
            with contextlib.suppress(NameError):
                names[name] = program.named(name)
    exec(compile(tree, "<tests>", "exec", dont_inherit=True), names)
    check = names.get("check")
    if isinstance(check, types.FunctionType) and not _calls(tree, "check"):
        check(names[entry_point])


def _names_of_program(tree: ast.Module) -> Iterator[str]:
    """Yield the names that tests use and do not define: helpers of the program."""
    used: set[str] = set()
    known = {*dir(builtins), _COUNT}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else known).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.alias):
            known.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            known.add(node.name)
    yield from sorted(used - known)


def _calls(tree: ast.Module, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef)
        for node in ast.walk(statement)
    )


class _Count:
    """Counts the assertions of tests as they are reached.

    Attributes:
        num_known: assertions that are in the text.
    """

    def __init__(self) -> None:
        self.num_passed = self.num_failed = self.num_known = 0
        self.failure = ""

    @property
    def num_tests(self) -> int:
        """How many tests there are: those that were reached, and those that should have been."""
        return max(self.num_passed + self.num_failed, self.num_known, 1)

    def passed(self) -> None:
        """Count an assertion that passed."""
        self.num_passed += 1

    def fail(self, error: BaseException) -> None:
        """Count an assertion that failed, or could not be reached."""
        self.num_failed += 1
        self.failure = self.failure or f"test {self.num_passed + self.num_failed}: {reason(error)}"


class _Counting(ast.NodeTransformer):
    """Makes every assertion outside a `try` a test of its own: one that fails ends no other."""

    def visit_Try(self, node: ast.Try) -> ast.Try:
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.Try:
        handler = ast.ExceptHandler(
            type=ast.Name("Exception", ast.Load()),
            name="__error",
            body=[_call("fail", ast.Name("__error", ast.Load()))],
        )
        return ast.Try(body=[node], handlers=[handler], orelse=[_call("passed")], finalbody=[])


def _counted(tree: ast.Module) -> ast.Module:
    counted: ast.Module = _Counting().visit(tree)
    return ast.fix_missing_locations(counted)


def _call(method: str, *arguments: ast.expr) -> ast.Expr:
    function = ast.Attribute(ast.Name(_COUNT, ast.Load()), method, ast.Load())
    return ast.Expr(ast.Call(function, list(arguments), []))


class _Program:
    """The program, seen from its tests."""

    def __init__(self) -> None:
        self._is_there = False

    def named(self, name: str) -> object:
        """Return what the program calls so.

        Raises:
            ProgramEndedError: if it does not get so far.
        """
        if not self._is_there:
            self._answer()
            self._is_there = True
        return self.ask("name", name)

    def ask(self, kind: str, *given: object) -> object:
        """Return the program's answer; what it changed in the arguments of a call is changed here.

        Raises:
            ProgramEndedError: if it gives none.
            Exception: what it raised, where that is of a class of Python's own.
        """
        try:
            send(TO_PROGRAM, [kind, *(encode(one, _refer) for one in given)])
        except (OSError, ValueError) as error:
            raise ProgramEndedError(f"the program cannot be asked: {error}") from None
        answer = self._answer()
        if kind == "call" and isinstance(given[1], (list, tuple)):
            after = self._decoded(answer.get("arguments"))
            if isinstance(after, (list, tuple)) and len(after) == len(given[1]):
                for before, now in zip(given[1], after, strict=True):
                    _bring_up_to_date(before, now)
        return self._decoded(answer.get("value"))

    def _answer(self) -> dict[str, Coded]:
        try:
            answer = receive(FROM_PROGRAM)
        except (EOFError, OSError, ValueError):
            raise ProgramEndedError("the program ended before its tests did") from None
        if not isinstance(answer, dict):
            raise ProgramEndedError("the program's answer cannot be read")
        if "error" in answer:
            raise _raised(answer["error"])
        return answer

    def _decoded(self, coded: Coded) -> object:
        try:
            return decode(coded, lambda number: Remote(self, number))
        except Exception:
            raise ProgramEndedError("the program's answer cannot be read") from None


def _raised(error: Coded) -> Exception:
    """Return what the program raised: an exception of Python's own, if it is one of these."""
    if not isinstance(error, list) or len(error) != 2 or not isinstance(error[0], list):
        return ProgramEndedError("the program's answer cannot be read")
    known, text = [str(name) for name in error[0]], error[1]
    for name in known:
        kind = getattr(builtins, name, None)
        if name in ("Exception", *_ENDS_A_LOOP) or not isinstance(kind, type) or not issubclass(kind, Exception):
            continue
        try:
            found: Exception = kind(str(text)[:MAX_REASON])
        except TypeError:
            continue
        found.of_program = True  # type: ignore[attr-defined]
        return found
    return _ProgramError(f"{known[0] if known else 'an error'}: {text}")


def _bring_up_to_date(before: object, now: object) -> None:
    if type(before) is not type(now) or before == now:
        return
    if isinstance(before, list) and isinstance(now, list):
        before[:] = now
    elif isinstance(before, (dict, set)) and isinstance(now, (dict, set)):
        before.clear()
        before.update(now)


def _refer(value: object) -> Coded:
    if isinstance(value, Remote):
        return {"ref": value.__dict__["_remote"][1]}
    raise TypeError(f"a {type(value).__name__} cannot be given to a program")


class Remote:
    """An object of the program that is no plain data. It is equal to itself alone, whatever the
    program says, and neither true nor false.
    """

    def __init__(self, program: _Program, number: Coded) -> None:
        self.__dict__["_remote"] = (program, number)

    def _ask(self, kind: str, *given: object) -> object:
        program: _Program = self.__dict__["_remote"][0]
        return program.ask(kind, self, *given)

    def __call__(self, *arguments: object, **named: object) -> object:
        return self._ask("call", list(arguments), named)

    def __getattr__(self, name: str) -> object:
        return self._ask("get", name)

    def __setattr__(self, name: str, value: object) -> None:
        self._ask("set", name, value)

    def __iter__(self) -> Iterator[object]:
        items = self._ask("list")
        return iter(items if isinstance(items, list) else ())

    def __len__(self) -> int:
        try:
            length = self._ask("get", "__len__")
        except AttributeError:
            raise TypeError("it has no length") from None
        return int(length())  # type: ignore[operator]

    def __getitem__(self, key: object) -> object:
        getter = self._ask("get", "__getitem__")
        return getter(key)  # type: ignore[operator]

    def __bool__(self) -> bool:
        raise TypeError("what the program returned is not a plain value")
