"""Runs a program of a stranger in the confined process: as a script that reads and prints, or as a
module whose functions are called by tests in another process.

Nothing here is believed: a program may do with this process what it likes.
"""

import ast
import atexit
import io
import json
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence

from restmcts.adapters.sandbox.plain_values import Coded, decode, encode, read_all, receive, send

SOURCE, REQUESTS, ANSWERS = 3, 4, 5
MAX_REASON = 300
MAX_ITEMS = 1_000_000
FILE_NAME = "<program>"
AT_ITS_END = 77
"""Exit status of a script that came to its end; one that ends early has another."""

ENDED_EARLY = "the program ended before its last statement"


def run_script() -> int:
    """Run the program that descriptor 3 holds, with standard input and output; return `AT_ITS_END`
    if it got there and ended well, else another status.
    """
    sources: list[str] = json.loads(read_all(SOURCE))
    sys.stdin = sys.__stdin__ = _stream(io.BufferedReader(io.FileIO(0, "r", closefd=False)))  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))  # type: ignore[misc]
    output = sys.stdout
    try:
        status = _run_to_its_end(*_compiled(sources, None))
        _end_as_python_does()
        output.flush()
    except BaseException as error:
        os.write(2, reason(error).encode(errors="replace"))
        return 1
    return status


def _stream(buffer: io.BufferedReader | io.BufferedWriter) -> io.TextIOWrapper:
    return io.TextIOWrapper(buffer, encoding="utf-8")


def _run_to_its_end(tree: ast.Module, code: types.CodeType) -> int:
    """Run a script; it may end itself in its last statement, and not before."""
    try:
        exec(code, _module("__main__").__dict__)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status:
            return status & 0xFF if status & 0xFF not in (0, AT_ITS_END) else 1
        if not _is_in_last_statement(end.__traceback__, tree):
            os.write(2, ENDED_EARLY.encode())
            return 1
    return AT_ITS_END


def _is_in_last_statement(trace: types.TracebackType | None, tree: ast.Module) -> bool:
    """Return whether the module itself was in a last statement when an exception left it."""
    while trace is not None and trace.tb_frame.f_code.co_filename != FILE_NAME:
        trace = trace.tb_next
    if trace is None:
        return False
    line, _, column, _ = list(trace.tb_frame.f_code.co_positions())[trace.tb_lasti // 2]
    if line is None or column is None:
        return False
    return any(
        (node.lineno, node.col_offset) <= (line, column) < (node.end_lineno or 0, node.end_col_offset or 0)
        for node in _last_statements(tree.body)
    )


def _last_statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements after which nothing of a body comes: the last ones of its branches."""
    if not body:
        return
    last = body[-1]
    if isinstance(last, ast.If):
        yield from _last_statements(last.body)
        yield from _last_statements(last.orelse)
    elif isinstance(last, (ast.With, ast.Try)):
        after = [*last.orelse, *last.finalbody] if isinstance(last, ast.Try) else []
        yield from _last_statements(after or last.body)
        for handler in last.handlers if isinstance(last, ast.Try) and not last.finalbody else ():
            yield from _last_statements(handler.body)
    else:
        yield last


def _end_as_python_does() -> None:
    """Wait for the threads of a script, call what it wants to be called, write what it printed."""
    while others := [one for one in threading.enumerate() if one is not threading.current_thread() and not one.daemon]:
        for thread in others:
            if thread.is_alive():  # else it is about to be
                thread.join()
    atexit._run_exitfuncs()
    if sys.stdout is not None:
        sys.stdout.flush()


def serve_calls() -> int:
    """Import the program that descriptor 3 holds, then answer requests until they end."""
    sources, entry_point = json.loads(read_all(SOURCE))
    try:
        module = _module("program")
        exec(_compiled(sources, entry_point)[1], module.__dict__)
    except BaseException as error:
        send(ANSWERS, _failure(error))
        return 1
    send(ANSWERS, {"value": None})
    server = _Server(module)
    while True:
        try:
            request = receive(REQUESTS)
        except EOFError:
            return 0
        send(ANSWERS, server.answer(request))


def reason(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MAX_REASON].removesuffix(": ")


def _failure(error: BaseException) -> Coded:
    names = [kind.__name__ for kind in type(error).__mro__]
    return {"error": [list[Coded](names), " ".join(str(error).split())[:MAX_REASON]]}


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(exit=sys.exit, quit=sys.exit)  # as Python's own start has them
    sys.modules[name] = module
    return module


def _compiled(sources: list[str], entry_point: str | None) -> tuple[ast.Module, types.CodeType]:
    """Return the first source that is Python, and defines the entry point, if there is one, as its
    tree and as code.

    Raises:
        SyntaxError: if none is.
    """
    error: Exception = SyntaxError("no program")
    warnings.simplefilter("ignore")
    for source in sources:
        try:
            tree = ast.parse(source, FILE_NAME)
            if entry_point is None or _defines(tree, entry_point):
                return tree, compile(tree, FILE_NAME, "exec", dont_inherit=True)
            error = NameError(f"name '{entry_point}' is not defined")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as failure:
            error = failure
    raise error


def _defines(tree: ast.Module, name: str) -> bool:
    """Return whether a module may define a name at its top, or a class Solution has it."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == name:
            return True
    return False


def _called(given: list[object]) -> object:
    function, arguments, named = given
    assert callable(function) and isinstance(arguments, list) and isinstance(named, dict)
    return function(*arguments, **named)


class _Server:
    """Answers requests about the objects of one module."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._objects: list[object] = []
        self._answers: dict[str, Callable[[list[object]], object]] = {
            "name": lambda given: self._named(str(given[0])),
            "call": _called,
            "get": lambda given: getattr(given[0], str(given[1])),
            "set": lambda given: setattr(given[0], str(given[1]), given[2]),
            "list": lambda given: [one for one, _ in zip(given[0], range(MAX_ITEMS), strict=False)],  # type: ignore[call-overload]
        }

    def answer(self, request: Coded) -> Coded:
        """Return the answer to one request: a value or an error, and for a call also what became
        of its arguments.
        """
        try:
            assert isinstance(request, list)
            name, *given = request
            arguments = [decode(one, self._object) for one in given]
            value = encode(self._answers[str(name)](arguments), self._refer)
            if name == "call":
                return {"value": value, "arguments": encode(arguments[1], self._refer)}
            return {"value": value}
        except BaseException as error:
            return _failure(error)

    def _named(self, name: str) -> object:
        if name in self._module.__dict__:
            return self._module.__dict__[name]
        solution = self._module.__dict__.get("Solution")
        if isinstance(solution, type) and hasattr(solution, name):
            return getattr(solution(), name)
        raise NameError(f"name '{name}' is not defined")

    def _object(self, number: Coded) -> object:
        return self._objects[int(number)]  # type: ignore[arg-type]

    def _refer(self, value: object) -> Coded:
        self._objects.append(value)
        return {"ref": len(self._objects) - 1}
