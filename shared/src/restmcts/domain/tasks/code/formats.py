"""Problems of code as the field's data sets write them, as rows of ours: a question, and tests as
its answer. Of the tests a question shows at most those that its data set calls public.
"""

import ast
import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from restmcts.domain.tasks.code.tests import CodeTests, read_tests
from restmcts.errors import InputError

Row = Mapping[str, Any]

MAX_SHOWN = 3
MAX_PRIVATE_BYTES = 512 * 1024**2
_PYTHON3 = 3  # as CodeContests numbers languages
_FORMS = "HumanEval, MBPP, EvalPlus, APPS, TACO, CodeContests, LiveCodeBench"

_SAME = """def _same(found, wanted):
    if isinstance(found, tuple) and isinstance(wanted, list):
        found = list(found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return found == wanted or abs(found - wanted) <= TOLERANCE * max(1.0, abs(wanted))
    return found == wanted
def _same_or_in_list(found, wanted):
    return _same(found, wanted) or (isinstance(wanted, list) and len(wanted) == 1 and _same(found, wanted[0]))
"""


def is_code_row(row: Row) -> bool:
    """Return whether a row without a kind has the fields of one of the known forms."""
    return any(fields <= row.keys() for fields, _ in _READERS)


def common_row(row: Row) -> dict[str, Any]:
    """Return a row with "question", "answer" and perhaps "solution".

    Raises:
        InputError: if it is of none of the known forms, or a field is not as it should be.
    """
    for fields, read in _READERS:
        if fields <= row.keys():
            return read(row)
    if row.get("tests") is None:
        raise InputError(f'no "tests", and no fields of {_FORMS}')
    return {**row, "answer": read_tests(row["tests"]).dumped()}


def _human_eval(row: Row) -> dict[str, Any]:
    """HumanEval, and EvalPlus as data sets of the hub."""
    prompt, name = _text(row, "prompt"), _text(row, "entry_point")
    tests = CodeTests(name, _text(row, "test"), prelude=prompt)
    return _function(f"Write this function:\n```python\n{prompt.strip()}\n```", tests, _reference(row, prompt))


def _eval_plus(row: Row) -> dict[str, Any]:
    """EvalPlus as files: inputs, whose outputs are those of the reference solution."""
    prompt, name = _text(row, "prompt"), _text(row, "entry_point")
    solution = prompt + _text(row, "canonical_solution")
    inputs = [*_list(row, "base_input"), *_list(row, "plus_input")]
    tolerance = row.get("atol") or 1e-6
    code = (
        f"import copy\nTOLERANCE = {float(tolerance)!r}\n{_SAME}\n_names = {{}}\nexec({solution!r}, _names)\n"
        f"_reference = _names[{name!r}]\ndef _check(inputs):\n    for given in inputs:\n"
        f"        assert _same({name}(*copy.deepcopy(given)), _reference(*copy.deepcopy(given)))\n_check({inputs!r})\n"
    )
    question = f"Write this function:\n```python\n{prompt.strip()}\n```"
    return _function(question, CodeTests(name, code, prelude=prompt), solution)


def _mbpp(row: Row) -> dict[str, Any]:
    """MBPP, and MBPP+ as a data set of the hub: its first assertion is shown."""
    assertions = [str(one) for one in _list(row, "test_list")]
    if not assertions:
        raise InputError('"test_list" is empty')
    asked = _text(row, "text" if row.get("text") is not None else "prompt").strip()
    solution = _reference(row, "")
    name = _function_of(assertions[0], solution or "")
    imports = "\n".join(map(str, row.get("test_imports") or ()))
    whole = row.get("test") or "\n".join([*assertions, *map(str, row.get("challenge_test_list") or ())])
    code = "\n".join([imports, str(row.get("test_setup_code") or ""), str(whole)]).strip()
    question = f"{asked}\nThe function must pass this test:\n```python\n{assertions[0]}\n```"
    return _function(question, CodeTests(name, code), solution)


def _apps(row: Row) -> dict[str, Any]:
    """APPS and TACO: inputs and outputs as JSON in a text."""
    cases = _json(row, "input_output")
    if not isinstance(cases, Mapping):
        raise InputError('"input_output" is not an object')
    solutions = _json(row, "solutions") if row.get("solutions") else []
    first = solutions[0] if isinstance(solutions, list) and solutions else None
    question = _with_starter(_text(row, "question"), row.get("starter_code"))
    pairs = list(zip(_list(cases, "inputs"), _list(cases, "outputs"), strict=False))
    if not pairs:
        raise InputError('"input_output" contains no test')
    if cases.get("fn_name"):
        prelude = str(row.get("starter_code") or "") if not first else ""
        # A result may be written as it is, or as the only one of a list.
        return _function(question, _called(str(cases["fn_name"]), pairs, prelude, "_same_or_in_list"), first)
    stdin = tuple((_as_lines(given), _as_lines(wanted)) for given, wanted in pairs)
    return _function(question, read_tests(_dumped(stdin)), first)


def _code_contests(row: Row) -> dict[str, Any]:
    """CodeContests: the public tests are in its description; all of them count."""
    stdin: list[tuple[str, str]] = []
    for name in ("public_tests", "private_tests", "generated_tests"):
        group = row.get(name) or {}
        stdin += zip(map(str, _list(group, "input")), map(str, _list(group, "output")), strict=False) if group else ()
    if not stdin:
        raise InputError("the row contains no test")
    given = row.get("solutions") or {}
    written = zip(given.get("language") or (), given.get("solution") or (), strict=False)
    solution = next((text for language, text in written if language in (_PYTHON3, "PYTHON3")), None)
    return _function(_text(row, "description"), read_tests(_dumped(stdin)), solution)


def _live_code_bench(row: Row) -> dict[str, Any]:
    """LiveCodeBench: public and private tests, of a function or a script."""
    cases = [*_cases(row, "public_test_cases"), *_cases(row, "private_test_cases")]
    if not cases:
        raise InputError("the row contains no test")
    question = _with_starter(_text(row, "question_content"), row.get("starter_code"))
    metadata = _json(row, "metadata") if row.get("metadata") else {}
    name = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    if any(case.get("testtype") == "functional" for case in cases):
        if not isinstance(name, str):
            raise InputError('"metadata" names no "func_name"')
        pairs = [(_arguments(case), _loaded(str(case["output"]), "output")) for case in cases]
        return _function(question, _called(name, pairs, ""), None)
    stdin = [(str(case["input"]), str(case["output"])) for case in cases]
    return _function(question, read_tests(_dumped(stdin)), None)


_READERS: tuple[tuple[frozenset[str], Callable[[Row], dict[str, Any]]], ...] = (
    (frozenset(("prompt", "entry_point", "test")), _human_eval),
    (frozenset(("prompt", "entry_point", "base_input", "canonical_solution")), _eval_plus),
    (frozenset(("test_list",)), _mbpp),
    (frozenset(("input_output", "question")), _apps),
    (frozenset(("description", "public_tests")), _code_contests),
    (frozenset(("question_content", "public_test_cases")), _live_code_bench),
)


def _function(question: str, tests: CodeTests, solution: str | None) -> dict[str, Any]:
    row = {"question": question, "answer": tests.dumped()}
    return row if solution is None else {**row, "solution": solution}


def _dumped(stdin: Sequence[tuple[str, str]]) -> str:
    return CodeTests(stdin=tuple(stdin)).dumped()


def _reference(row: Row, prompt: str) -> str | None:
    """Return the reference solution that a row brings, whole."""
    if row.get("canonical_solution") is not None:
        return prompt + _text(row, "canonical_solution")
    return _text(row, "code") if row.get("code") else None


def _called(name: str, pairs: Sequence[tuple[object, object]], prelude: str, same: str = "_same") -> CodeTests:
    """Return tests that call a function with lists of arguments."""
    calls = "\n".join(f"assert {same}({name}(*{_list_of(given)!r}), {wanted!r})" for given, wanted in pairs)
    return CodeTests(name, f"TOLERANCE = 1e-6\n{_SAME}\n{calls}\n", prelude)


def _list_of(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]


def _as_lines(text: object) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _with_starter(question: str, starter: object) -> str:
    code = starter.strip() if isinstance(starter, str) else ""
    return f"{question.strip()}\n\nBegin with:\n```python\n{code}\n```" if code else question.strip()


def _function_of(assertion: str, solution: str) -> str:
    """Return the function that an assertion is about: the first that it calls and the solution
    defines, else the first that is not Python's own.
    """
    try:
        called = list(_called_names(ast.parse(assertion)))
        defined = {node.name for node in ast.walk(ast.parse(solution)) if isinstance(node, ast.FunctionDef)}
    except (SyntaxError, ValueError, RecursionError):
        called, defined = [], set()
    for names in ([name for name in called if name in defined], [name for name in called if name not in _BUILTINS]):
        if names:
            return names[0]
    raise InputError(f'the test {assertion[:80]!r} of "test_list" calls no function')


_BUILTINS = frozenset(
    ("abs", "all", "any", "dict", "float", "int", "len", "list", "round", "set", "sorted", "str", "tuple")
)


def _called_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                yield function.id


def _cases(row: Row, name: str) -> list[Mapping[str, Any]]:
    """Return the tests of a field: JSON, or JSON that was pickled, compressed and encoded. Nothing
    of the pickle is run: only the text in it is looked at.
    """
    given = row.get(name) or "[]"
    if isinstance(given, str) and not given.lstrip().startswith("["):
        try:
            unpacked = zlib.decompressobj().decompress(base64.b64decode(given), MAX_PRIVATE_BYTES)
            texts = (found for _, found, _ in pickletools.genops(unpacked) if isinstance(found, str))
            given = next(texts, "[]")
        except (binascii.Error, zlib.error, ValueError):
            raise InputError(f'"{name}" is neither JSON nor what LiveCodeBench packs it in') from None
    cases = _loaded(given, name) if isinstance(given, str) else given
    if not isinstance(cases, list) or not all(
        isinstance(one, Mapping) and {"input", "output"} <= one.keys() for one in cases
    ):
        raise InputError(f'"{name}" is not a list of objects with "input" and "output"')
    return cases


def _arguments(case: Mapping[str, Any]) -> list[object]:
    return [_loaded(line, "input") for line in str(case["input"]).splitlines() if line.strip()]


def _loaded(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f'"{name}" is not JSON') from None


def _json(row: Row, name: str) -> Any:
    return _loaded(row[name], name) if isinstance(row[name], str) else row[name]


def _list(row: Row, name: str) -> list[Any]:
    if not isinstance(row.get(name), list):
        raise InputError(f'"{name}" is not a list')
    return list(row[name])


def _text(row: Row, name: str) -> str:
    if not isinstance(row.get(name), str) or not row[name].strip():
        raise InputError(f'"{name}" is not text')
    return str(row[name])
