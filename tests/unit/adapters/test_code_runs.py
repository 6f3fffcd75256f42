"""Programs under their tests: verdicts, shares, and what is nobody's fault."""

from collections.abc import Iterator

import pytest
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.requests import CallTool
from restmcts.domain.tasks.code.tests import CodeTests
from restmcts.domain.tasks.task import Judgement

SUM = CodeTests(stdin=(("1 2\n", "3\n"), ("5 6\n", "11\n"), ("0 0\n", "0\n"), ("-1 1\n", "0\n")))
FIRST = CodeTests(
    "first",
    "def check(candidate):\n    assert candidate([1, 2]) == 1\n    assert candidate('ab') == 'a'\n"
    "    for n in range(3):\n        assert candidate((n,)) == n\n",
)


@pytest.fixture(scope="module")
def verifier() -> Iterator[AnswerVerifier]:
    with AnswerVerifier(time_limit_seconds=2.0) as one:
        yield one


def judged(verifier: AnswerVerifier, program: str, tests: CodeTests) -> Judgement:
    return verifier.judge([Check("?", tests.dumped(), "code", program)])[0]


@pytest.mark.parametrize(
    ("program", "score"),
    [
        ("print(sum(map(int, input().split())))", 1.0),
        ("import sys\nprint(sum(map(int, sys.stdin.read().split())))\nsys.exit()", 1.0),
        ("def main():\n    a, b = map(int, open(0).read().split())\n    print(a + b)\nif __name__ == '__main__':\n    main()", 1.0),
        ("a, b = map(int, input().split())\nprint(abs(a + b) if a else 1)", 0.75),
        ("print(0)", 0.5),
        ("print(3)\nimport os\nos._exit(1)", 0.0),
        ("print(int(input()))", 0.0),
        ("a, b = map(int, input().split())\nprint(a + b", 0.0),
    ],
)  # fmt: skip
def test_a_script_has_the_share_of_its_tests(verifier: AnswerVerifier, program: str, score: float) -> None:
    found = judged(verifier, program, SUM)
    assert (found.score, found.source) == (score, "tests")
    assert found.verdict is (Verdict.RIGHT if score == 1.0 else Verdict.WRONG)


def test_a_script_without_end_passes_nothing() -> None:
    with AnswerVerifier(time_limit_seconds=0.3) as verifier:
        found = judged(verifier, "while True:\n    pass", SUM)
    assert (found.verdict, found.score, found.reason) == (
        Verdict.WRONG,
        0.0,
        "0 of 4 tests passed; test 1: longer than 0.3 s",
    )


PRINTS = "import atexit, os, sys, threading\ndef main():\n    print(sum(map(int, input().split())), flush=True)\n"


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(main())",
        "main()\nexit()",
        "main()\nquit(0)",
        "main()\nraise SystemExit",
        "def leave():\n    main()\n    sys.exit()\n    print(9)\nif __name__ == '__main__':\n    leave()",
        "try:\n    main()\nexcept EOFError:\n    print(0)\nelse:\n    sys.exit(0)",
        "try:\n    int('x')\nexcept ValueError:\n    main()\n    sys.exit(0)",
        "threading.stack_size(2**26)\nthreading.Thread(target=lambda: (threading.Event().wait(0.1), main())).start()",
        "def later():\n    one = threading.Thread(target=main)\n    one.start()\nthreading.Thread(target=later).start()",
        "atexit.register(main)",
        "import io\nsys.stdout = io.StringIO()\nmain()\nsys.__stdout__.write(sys.stdout.getvalue())",
        "main()\nsys.stdout = None",
        "open(1, 'w').write(str(sum(map(int, input().split()))))",
    ],
)
def test_a_script_may_end_as_scripts_do(verifier: AnswerVerifier, end: str) -> None:
    found = judged(verifier, PRINTS + end, SUM)
    assert (found.verdict, found.reason) == (Verdict.RIGHT, "4 of 4 tests passed")


@pytest.mark.parametrize(
    "end",
    [
        "main()\nsys.exit(0)\nprint(9)",
        "main(); sys.exit(0); print(9)",
        "main()\nexit()\nx = 1",
        "if True:\n    main()\n    sys.exit()\n    print(9)",
        "if True:\n    main()\n    sys.exit()\nelse:\n    pass\nprint(9)",
        "try:\n    main()\n    sys.exit()\nfinally:\n    x = 1",
        "def leave():\n    main()\n    sys.exit()\nleave()\nprint(9)",
        "main()\nraise SystemExit\nprint(9)",
        "main()\nos._exit(0)",
        "main()\nos._exit(0)\nprint(9)",
        "main()\nsys.exit(77)",
        "main()\nsys.exit(256)",
        "main()\nsys.exit('no')",
        "main()\nos.close(1)\nprint(9)",
        "main()\nsys.stdout.close()\nprint(9)",
        "main()\nsys.stdout.close()",
        "main()\nraise KeyboardInterrupt",
        "main()\nos.abort()",
        "exec('main()\\nsys.exit(0)')\nprint(9)",
    ],
)
def test_a_script_that_ends_early_passes_nothing(verifier: AnswerVerifier, end: str) -> None:
    found = judged(verifier, PRINTS + end, SUM)
    assert (found.verdict, found.score) == (Verdict.WRONG, 0.0)


@pytest.mark.parametrize(
    ("program", "score"),
    [
        ("def first(x):\n    return x[0]", 1.0),
        ("first = lambda x: next(iter(x))", 1.0),
        ("class Solution:\n    def first(self, x):\n        return x[0]", 1.0),
        ("def first(x):\n    return x[0] if x else None\nprint('noise')", 1.0),
        ("def first(x):\n    return x[0] if isinstance(x, list) else 0", 0.4),
        ("def first(x):\n    if x == 'ab':\n        while True:\n            pass\n    return x[0]", 0.2),
        ("def last(x):\n    return x[0]", 0.0),
        ("import sys\nsys.exit(0)", 0.0),
    ],
)
def test_a_function_has_the_share_of_its_assertions(verifier: AnswerVerifier, program: str, score: float) -> None:
    found = judged(verifier, program, FIRST)
    assert found.score == pytest.approx(score)
    assert found.verdict is (Verdict.RIGHT if score == 1.0 else Verdict.WRONG)


def test_what_tests_do_with_a_function_goes_over_to_it(verifier: AnswerVerifier) -> None:
    """Helpers, objects of the program's own classes, changed arguments, exceptions, generators."""
    program = (
        "import collections\nclass Node:\n    def __init__(self, value):\n        self.value = value\n        self.left = None\n"
        "def depth(node):\n    return 0 if node is None else 1 + depth(node.left)\n"
        "def twice(x):\n    return 2 * x\ndef put(items, x):\n    items.append(x)\n"
        "def count(x):\n    return collections.Counter(x)\ndef some():\n    yield from (1, 2)\n"
        "def fail():\n    raise KeyError('no')\n"
    )
    tests = (
        "root = Node(1)\nroot.left = Node(2)\nassert depth(root) == 2\nassert root.left.value == 2\n"
        "assert twice(2 ** 80) == 2 ** 81\n"
        "items = [1]\nput(items, 2)\nassert items == [1, 2]\nassert count('aab') == {'a': 2, 'b': 1}\n"
        "assert list(some()) == [1, 2]\n"
        "assert twice((1, {2})[0]) == 2 and twice(1.5) == 3.0 and twice(b'a') == b'aa' and twice(1j) == 2j\n"
        "def raises():\n    try:\n        fail()\n    except KeyError:\n        return True\nassert raises()\n"
    )
    assert judged(verifier, program, CodeTests("depth", tests)) == Judgement(
        Verdict.RIGHT, 1.0, "tests", "8 of 8 tests passed"
    )


def test_broken_tests_are_nobodys_fault(verifier: AnswerVerifier) -> None:
    for tests in ("assert first(", "import a_module_that_is_not_there\nassert first([1]) == 1"):
        found = judged(verifier, "def first(x):\n    return x[0]", CodeTests("first", tests))
        assert (found.verdict, found.score) == (Verdict.UNDECIDED, None)
        assert "the tests themselves cannot be run" in found.reason


def test_a_machine_that_cannot_confine_runs_nothing(verifier: AnswerVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnswerVerifier() as another:
        assert judged(another, "print(3)", CodeTests(stdin=(("", "3"),))).verdict is Verdict.RIGHT
        monkeypatch.setattr(another._code._sandbox, "_missing", ("Landlock",))
        found = judged(another, "print(4)", CodeTests(stdin=(("", "4"),)))
        assert (found.verdict, found.reason) == (Verdict.UNDECIDED, "no program is run here; missing: Landlock")
        monkeypatch.undo()
        assert judged(another, "print(4)", CodeTests(stdin=(("", "4"),))).verdict is Verdict.RIGHT


def test_a_server_that_was_killed_is_started_again(verifier: AnswerVerifier) -> None:
    assert judged(verifier, "print(5)", CodeTests(stdin=(("", "5"),))).verdict is Verdict.RIGHT
    server = verifier._code._sandbox._server
    assert server is not None
    server.kill()
    server.wait()
    assert judged(verifier, "print(6)", CodeTests(stdin=(("", "6"),))).verdict is Verdict.RIGHT


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("print(2**10)", "result: 1024"),
        ("print('a'); print('b')", "result: a | b"),
        ("print(1); 1/0", "result: error: ZeroDivisionError: division by zero"),
        ("open('/etc/passwd')", "result: error: PermissionError: [Errno 13] Permission denied: '/etc/passwd'"),
        ("pass", "result: nothing was printed"),
    ],
)
def test_python_that_a_step_calls_is_answered_with_what_it_printed(
    verifier: AnswerVerifier, program: str, answer: str
) -> None:
    found = verifier.answer_call(CallTool(1, ("first\n", f"python: {program}\n"), "math", 200))
    assert (found.text, found.is_known) == (answer, True)


def test_python_is_not_answered_where_it_cannot_be_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    with AnswerVerifier() as another:
        assert another.answer_call(CallTool(1, ("python: print(1)\n",), "math", 200)).is_known
        monkeypatch.setattr(another._code._sandbox, "_missing", ("Landlock",))
        found = another.answer_call(CallTool(1, ("python: print(2)\n",), "math", 200))
    assert (found.text, found.is_known) == ("not answered: no program is run here; missing: Landlock", False)
