"""Problems of code in the forms of the field's data sets: what is read, what is shown, and that
reference solutions are right and nothing else is.
"""

import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.problem_files import load_problems
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Check, Problem, Verdict

HUMAN_EVAL = {
    "task_id": "HumanEval/x",
    "prompt": (
        "from typing import List\n\n\ndef shift(text: str) -> str:\n    return ''.join(chr(ord(c) + 1) for c in text)\n\n\n"
        'def unshift(text: str) -> str:\n    """Undo shift.\n    >>> unshift(\'b\')\n    \'a\'\n    """\n'
    ),
    "canonical_solution": "    return ''.join(chr(ord(c) - 1) for c in text)\n",
    "test": (
        "METADATA = {'author': 'x'}\n\n\ndef check(candidate):\n    from random import randint\n\n"
        "    for _ in range(5):\n        text = ''.join(chr(randint(97, 122)) for _ in range(9))\n"
        "        assert candidate(shift(text)) == text\n    assert candidate('HIDDEN') == 'GHCCDM'\n"
    ),
    "entry_point": "unshift",
}
EVAL_PLUS = {
    "task_id": "HumanEval/y",
    "prompt": 'def mean(numbers):\n    """Return the mean."""\n',
    "canonical_solution": "    return sum(numbers) / len(numbers)\n",
    "entry_point": "mean",
    "base_input": [[[1.0, 2.0]], [[7]]],
    "plus_input": [[[0.1, 0.2, 977.5]]],
    "atol": 1e-6,
    "contract": "",
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to find the shared elements of two tuples.",
    "code": "def similar(one, two):\r\n  return tuple(set(one) & set(two))",
    "test_list": [
        "assert set(similar((3, 4), (4, 5))) == set((4,))",
        "assert set(similar((1, 2), (977, 1))) == set((1,))",
    ],
    "test_setup_code": "",
    "challenge_test_list": ["assert similar((), ()) == ()"],
}
APPS_SCRIPT = {
    "question": "Read n and print its double.",
    "input_output": json.dumps({"inputs": ["3\n", "977\n"], "outputs": ["6\n", "1954\n"]}),
    "solutions": json.dumps(["n = int(input())\nif n:\n    print(2 * n)\nelse:\n    print(0)"]),
    "starter_code": "",
}
APPS_FUNCTION = {
    "question": "Double a number.",
    "input_output": json.dumps({"fn_name": "double", "inputs": [[3], [977]], "outputs": [[6], [1954]]}),
    "solutions": json.dumps(["class Solution:\n    def double(self, n: int) -> int:\n        return 2 * n"]),
    "starter_code": "class Solution:\n    def double(self, n: int) -> int:\n        ",
}
CODE_CONTESTS = {
    "description": "Print the sum.",
    "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
    "private_tests": {"input": ["977 1\n"], "output": ["978\n"]},
    "generated_tests": {"input": [], "output": []},
    "solutions": {"language": [2, 3], "solution": ["int main() {}", "print(sum(map(int, input().split())))"]},
}
MBPP_PLUS = {
    "task_id": 2,
    "prompt": "Write a function to find the shared elements of two tuples.",
    "code": "def similar(one, two):\n  return tuple(set(one) & set(two))",
    "test_imports": ["import itertools"],
    "test_list": ["assert set(similar((3, 4), (4, 5))) == set((4,))"],
    "test": "for n in itertools.islice(itertools.count(977), 3):\n    assert similar((n,), (n, 1)) == (n,)\n",
}
TACO = {
    "question": "Read n and print its double.",
    "solutions": json.dumps(["n = int(input())\nprint(2 * n)"]),
    "starter_code": "",
    "input_output": json.dumps({"inputs": ["3", "977"], "outputs": ["6", "1954"]}),
    "difficulty": "EASY",
    "raw_tags": "['Math']",
    "name": None,
    "source": "codechef",
    "tags": "['Mathematics']",
    "skill_types": "[]",
    "url": "https://example.org",
    "Expected Auxiliary Space": None,
    "time_limit": "1 seconds",
    "picture_num": "0",
    "memory_limit": None,
}
_PRIVATE = json.dumps([{"input": "[977, 1]\n2", "output": "[977]", "testtype": "functional"}])
LIVE_CODE_BENCH = {
    "question_content": "Return the numbers above a limit.",
    "starter_code": "class Solution:\n    def above(self, numbers: List[int], limit: int) -> List[int]:\n        ",
    "public_test_cases": json.dumps([{"input": "[1, 5]\n2", "output": "[5]", "testtype": "functional"}]),
    "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(_PRIVATE))).decode(),
    "metadata": json.dumps({"func_name": "above"}),
}
LIVE_CODE_BENCH_SCRIPT = {
    "question_content": "Print the sum.",
    "starter_code": "",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "977 1\n", "output": "978\n", "testtype": "stdin"}]),
    "metadata": "{}",
}
LIVE_SCRIPT = "print(sum(map(int, input().split())))\n"
LIVE_SOLUTION = (
    "class Solution:\n    def above(self, numbers, limit):\n        return [n for n in numbers if n > limit]\n"
)

ROWS: dict[str, dict[str, Any]] = {
    "HumanEval": HUMAN_EVAL,
    "EvalPlus": EVAL_PLUS,
    "MBPP": MBPP,
    "MBPP+": MBPP_PLUS,
    "APPS, a script": APPS_SCRIPT,
    "APPS, a function": APPS_FUNCTION,
    "TACO": TACO,
    "CodeContests": CODE_CONTESTS,
    "LiveCodeBench, a function": LIVE_CODE_BENCH,
    "LiveCodeBench, a script": LIVE_CODE_BENCH_SCRIPT,
}
WRONG = ("", "pass", "```python\n```", "import sys\nsys.exit(0)", "def double(n):\n    return 0", "print('977')")


@pytest.fixture(scope="module")
def verifier() -> Iterator[AnswerVerifier]:
    with AnswerVerifier() as one:
        yield one


def read(row: dict[str, Any], folder: Path) -> Problem:
    file = folder / "problems.jsonl"
    file.write_text(json.dumps(row) + "\n")
    (problem,), bad = load_problems(file)
    assert bad == []
    return problem


@pytest.mark.parametrize("name", ROWS)
def test_a_reference_solution_is_right_and_nothing_else_is(name: str, tmp_path: Path, verifier: AnswerVerifier) -> None:
    problem = read(ROWS[name], tmp_path)
    assert problem.kind == "code"
    written = LIVE_SCRIPT if name.endswith("a script") else LIVE_SOLUTION
    solution = "".join(problem.solution) if problem.solution else f"```python\n{written}```"
    found = verifier.judge([Check(problem.question, problem.answer, "code", text) for text in (solution, *WRONG)])
    assert found[0].verdict is Verdict.RIGHT, found[0].reason
    assert {one.verdict for one in found[1:]} == {Verdict.WRONG}


@pytest.mark.parametrize("name", ROWS)
def test_hidden_tests_are_not_in_the_question(name: str, tmp_path: Path) -> None:
    problem = read(ROWS[name], tmp_path)
    assert problem.answer is not None
    assert any(mark in problem.answer for mark in ("977", "HIDDEN"))
    assert not any(mark in problem.question for mark in ("977", "HIDDEN"))


def test_a_given_program_has_its_logical_lines_as_steps(tmp_path: Path) -> None:
    row = {
        **MBPP,
        "code": "def similar(one,\n            two):\n\n    return tuple(\n        set(one) & set(two)\n    )\n",
    }
    assert read(row, tmp_path).solution == (
        "```python\n",
        "def similar(one,\n            two):\n",
        "    return tuple(\n        set(one) & set(two)\n    )\n",
        "```\n",
    )


def test_what_is_read_is_read_again_from_what_is_written(tmp_path: Path) -> None:
    problem = read(MBPP, tmp_path)
    again = {"question": problem.question, "answer": problem.answer, "solution": problem.solution, "kind": problem.kind}
    assert read(again, tmp_path) == problem


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**MBPP, "test_list": []}, '"test_list" is empty'),
        ({**MBPP, "test_list": ["assert 1"], "code": ""}, "calls no function"),
        ({**APPS_SCRIPT, "input_output": "{"}, '"input_output" is not JSON'),
        ({**APPS_SCRIPT, "input_output": "{}"}, '"inputs" is not a list'),
        ({**LIVE_CODE_BENCH, "private_test_cases": "%%%"}, "neither JSON nor"),
        ({**LIVE_CODE_BENCH, "metadata": "{}"}, "func_name"),
        ({"question": "?", "kind": "code"}, 'no "tests"'),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(MBPP) + "\n")
    problems, bad = load_problems(file)
    assert len(problems) == 1
    assert message in bad[0].reason


class Explodes:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was run')",))


def test_a_pickle_is_looked_at_and_never_run(tmp_path: Path) -> None:
    packed = base64.b64encode(zlib.compress(pickle.dumps(Explodes()))).decode()
    file = tmp_path / "problems.jsonl"
    file.write_text(json.dumps({**LIVE_CODE_BENCH, "private_test_cases": packed}) + "\n" + json.dumps(MBPP))
    problems, bad = load_problems(file)
    assert len(problems) == len(bad) == 1
