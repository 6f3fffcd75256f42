"""The tests of a problem of code: functions to be called, or inputs to be read and outputs to be
printed. They are the problem's true answer, written as JSON.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from restmcts.errors import InputError

MAX_TESTS = 10_000
RELATIVE_TOLERANCE = ABSOLUTE_TOLERANCE = 1e-6
_DECIMAL = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class CodeTests:
    """The tests of one problem: either of a function or of a script, and at least one.

    Attributes:
        entry_point: the function that `code` calls, also as `candidate`.
        code: assertions, or a function `check(candidate)` that holds them.
        prelude: what is before a solution of a function: imports, helpers, its head.
        stdin: (input, output) of a script.
    """

    __test__ = False

    entry_point: str | None = None
    code: str = ""
    prelude: str = ""
    stdin: tuple[tuple[str, str], ...] = ()

    def dumped(self) -> str:
        """Return the tests as JSON; equal tests give equal text."""
        if self.entry_point is None:
            return json.dumps({"stdin": [{"input": given, "output": wanted} for given, wanted in self.stdin]})
        prelude = {"prelude": self.prelude} if self.prelude else {}
        return json.dumps({"entry_point": self.entry_point, "code": self.code, **prelude})


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """What running the tests of one program came to.

    Attributes:
        num_passed: of `num_tests`, which is at least 1.
        reason: the first failure in a line, or why nothing can be said; may be empty.
        is_known: false where the tests could not be run, for no fault of the program.
    """

    __test__ = False

    num_passed: int
    num_tests: int
    reason: str = ""
    is_known: bool = True


def read_tests(given: object) -> CodeTests:
    """Return the tests that a row holds: {"entry_point", "code"} or {"stdin": [{"input", "output"},
    …]}, as an object or as its JSON.

    Raises:
        InputError: saying what is missing or of the wrong type.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise InputError('"tests" is text that is not JSON') from None
    if not isinstance(given, Mapping):
        raise InputError('"tests" is not an object with "entry_point" and "code", or with "stdin"')
    if "stdin" in given:
        return CodeTests(stdin=_pairs(given["stdin"]))
    entry_point = _text(given, "entry_point").strip()
    if not entry_point.isidentifier():
        raise InputError('"entry_point" of "tests" is not the name of a function')
    code = _text(given, "code")
    if not code.strip():
        raise InputError('"code" of "tests" is blank')
    return CodeTests(entry_point, code, _text(given, "prelude") if given.get("prelude") is not None else "")


def _pairs(given: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, list) or not given:
        raise InputError('"stdin" of "tests" is not a list of objects with "input" and "output"')
    if len(given) > MAX_TESTS:
        raise InputError(f'"stdin" of "tests" contains more than {MAX_TESTS:,} tests')
    pairs = []
    for number, one in enumerate(given, start=1):
        if not isinstance(one, Mapping):
            raise InputError(f'test {number} of "stdin" is not an object with "input" and "output"')
        pairs.append((_text(one, "input", number), _text(one, "output", number)))
    if all(not wanted.strip() for _, wanted in pairs):
        raise InputError('no test of "stdin" has an output')
    return tuple(pairs)


def _text(given: Mapping[str, Any], name: str, number: int = 0) -> str:
    where = f'test {number} of "stdin"' if number else '"tests"'
    if given.get(name) is None:
        raise InputError(f'no "{name}" in {where}')
    if not isinstance(given[name], str):
        raise InputError(f'"{name}" of {where} is not text')
    return str(given[name])


def is_same_output(wanted: str, printed: str) -> bool:
    """Return whether a script printed what it should: the same words in the same lines; numbers
    with a decimal point may differ by a millionth.
    """
    wanted_lines, lines = wanted.strip().splitlines(), printed.strip().splitlines()
    return len(wanted_lines) == len(lines) and all(map(_is_same_line, wanted_lines, lines))


def _is_same_line(wanted: str, printed: str) -> bool:
    if wanted.strip() == printed.strip():
        return True
    wanted_words, words = wanted.split(), printed.split()
    return len(wanted_words) == len(words) and all(map(_is_same_word, wanted_words, words))


def _is_same_word(wanted: str, printed: str) -> bool:
    if wanted == printed or not _DECIMAL.fullmatch(wanted):
        return wanted == printed
    try:
        number = float(printed)
    except ValueError:
        return False
    return math.isclose(number, float(wanted), rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
