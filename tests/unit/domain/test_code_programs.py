"""Where a solution holds its program, and what its tests are."""

import json

import pytest
from restmcts.domain.tasks.code.programs import programs_in
from restmcts.domain.tasks.code.steps import is_whole_line, logical_lines
from restmcts.domain.tasks.code.tests import CodeTests, is_same_output, read_tests
from restmcts.errors import InputError

PROGRAM = "def add(a, b):\n    return a + b\n"
HEAD = "from typing import List\n\ndef add(a: int, b: int) -> int:\n    '''Add.'''\n"


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{PROGRAM}```",
        f"Here it is:\n```py\n{PROGRAM}```\nIt adds.",
        f"```\n{PROGRAM}```",
        f"~~~python\n{PROGRAM}~~~",
        f"````python\n{PROGRAM}````",
        f"程序如下：\n```python\n{PROGRAM}```\n完毕。",
        f"<think>\n```python\nwrong()\n```\n</think>\n```python\n{PROGRAM}```",
        f"I thought of it.</think>```bash\nls\n```\n```python\n{PROGRAM}```",
        f"```python\n{PROGRAM}```\nRun it:\n```python\nprint(1)\n```",
        f"```python\n{PROGRAM}",
    ],
)
def test_a_program_is_found_in_its_fence(text: str) -> None:
    assert programs_in(text, entry_point="add") == (PROGRAM,)


@pytest.mark.parametrize("text", ["", "  \n", "<think>for ever\n```python\nx = 1\n```", "```python\n```"])
def test_a_text_without_a_program_holds_none(text: str) -> None:
    assert programs_in(text) == ()


def test_of_several_fences_of_a_script_the_last_is_taken() -> None:
    assert programs_in("```\nprint(1)\n```\n```python\nprint(2)\n```\n```json\n{}\n```") == ("print(2)\n",)


def test_a_completion_follows_the_head_of_its_function_and_stops_where_other_things_begin() -> None:
    found = programs_in("    return a + b\n\nprint(add(1, 2))\n", HEAD, "add")
    spaces = []
    for one in found:
        names: dict[str, object] = {}
        try:
            exec(one, names)
        except SyntaxError:
            continue
        spaces.append(names)
    assert spaces and all(names["add"](20, 3) == 23 for names in spaces)  # type: ignore[operator]


def test_a_whole_function_has_the_imports_of_its_prompt() -> None:
    program = programs_in("```python\ndef add(a: List, b):\n    return a + b\n```", HEAD, "add")[0]
    names: dict[str, object] = {}
    exec(program, names)
    assert names["add"]([1], [2]) == [1, 2]  # type: ignore[operator]


def test_tests_come_back_from_their_text() -> None:
    of_function = CodeTests("add", "assert add(1, 2) == 3", prelude="import math\n")
    of_script = CodeTests(stdin=(("1 2\n", "3\n"), ("", "x")))
    for tests in (of_function, of_script, CodeTests("add", "assert add(0, 0) == 0")):
        assert read_tests(tests.dumped()) == tests
        assert read_tests(json.loads(tests.dumped())) == tests


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "is not an object"),
        ([], "is not an object"),
        ("{", "not JSON"),
        ({}, 'no "entry_point"'),
        ({"entry_point": "add"}, 'no "code"'),
        ({"entry_point": "add", "code": " "}, "is blank"),
        ({"entry_point": "a b", "code": "x"}, "not the name of a function"),
        ({"entry_point": 3, "code": "x"}, "is not text"),
        ({"stdin": []}, "is not a list"),
        ({"stdin": [{"input": ""}]}, 'no "output" in test 1'),
        ({"stdin": [{"input": "", "output": "1"}, 3]}, "test 2"),
        ({"stdin": [{"input": "", "output": " \n"}]}, "has an output"),
    ],
)
def test_tests_that_are_none_say_why(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_tests(given)


@pytest.mark.parametrize(
    ("wanted", "printed", "same"),
    [
        ("3\n", "3", True),
        ("1 2\n3\n", "1  2 \n3\n\n", True),
        ("1 2\n3", "1 2 3", False),
        ("0.5", "0.5000000001", True),
        ("0.5", "0.51", False),
        ("1e-3", "0.001", True),
        ("10", "10.0", False),
        ("YES", "yes", False),
        ("0.5", "nan", False),
        ("0.5", "half", False),
        ("3", "", False),
        ("3", "3\n4", False),
    ],
)
def test_outputs_are_compared_by_line_and_word(wanted: str, printed: str, same: bool) -> None:
    assert is_same_output(wanted, printed) is same


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("x = 1\n", True),
        ("x = f(1,\n", False),
        ("x = f(1,\n      2)\n", True),
        ("x = [\n", False),
        ("'''a doc\n", False),
        ("'''a doc\n'''\n", True),
        ('s = "(["\n', True),
        ("s = 'it\\'s ('\n", True),
        ("x = 1 + \\\n", False),
        ("# a remark (of no end\n", True),
        ("Don't stop (yet)\n", True),
        ("```python\n", True),
        ("x = 1)\n", True),
        ('f"""{x}\n', False),
    ],
)
def test_a_step_of_code_is_a_logical_line(text: str, whole: bool) -> None:
    assert is_whole_line(text) is whole


def test_logical_lines_join_to_their_program() -> None:
    program = "def f(a,\n      b):\n    return {\n        'a': a,  # }\n    }\n\nprint(f(1, 2))\n"
    assert logical_lines(program) == [
        "def f(a,\n      b):",
        "    return {\n        'a': a,  # }\n    }",
        "print(f(1, 2))",
    ]
