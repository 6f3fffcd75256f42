"""Small programs: what is drawn, what tests say of a program, and what small Python is."""

import ast
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.tasks import small_python
from restmcts.domain.tasks.number_paths import ProblemSets, SetSizes
from restmcts.domain.tasks.puzzles import puzzle_named
from restmcts.domain.tasks.small_programs import (
    KIND,
    LINES,
    make_small_program_sets,
    read_tests,
    run_tests,
)
from restmcts.domain.tasks.small_python import SmallPythonError, small_program
from restmcts.errors import InputError

SIZES = SetSizes(demonstrations=60, iterations=2, searched=40, test=40, validation=10, difficulty="3-5")
SETS = make_small_program_sets(random.Random(3), SIZES)
TESTS = read_tests("f([1, 2]) == [2, 1]\nf([3]) == [3]\nf([2, 2]) == [2, 2]\nf([1, 2, 3]) == [3, 2, 1]")


def members(sets: ProblemSets) -> list[Problem]:
    searched = [problem for each in sets.searched for problem in each]
    return [*sets.test, *sets.validation, *sets.demonstrations, *searched]


def test_no_two_sets_share_a_question_and_the_same_seed_gives_the_same() -> None:
    questions = [problem.question for problem in members(SETS)]
    assert len(set(questions)) == len(questions) == 60 + 2 * 40 + 40 + 10
    assert make_small_program_sets(random.Random(3), SIZES) == SETS
    more = make_small_program_sets(random.Random(3), SetSizes(0, 0, 0, 40, 10, "3-5"))
    assert (more.test, more.validation) == (SETS.test, SETS.validation), "held-out problems depend on the seed alone"


def test_every_demonstration_is_right_and_no_other_problem_shows_its_solution() -> None:
    for problem in SETS.demonstrations:
        assert problem.solution is not None
        outcome = run_tests("".join(problem.solution), read_tests(problem.answer or ""))
        assert (outcome.num_passed, outcome.num_tests) == (8, 8)
    assert all(problem.solution is None for problem in (*SETS.test, *SETS.searched[0]))


def test_a_question_shows_two_of_the_tests_and_no_line_of_a_program() -> None:
    for problem in SETS.test:
        tests = (problem.answer or "").splitlines()
        shown, head = problem.question.splitlines()
        given, _, wanted = head.removeprefix("def f(x): # ").partition(" -> ")
        assert [f"f({given}) == {wanted}", shown] == tests[:2]
        assert not any(hidden in problem.question for hidden in tests[2:])
        assert not any(line in problem.question for line in LINES)


def test_the_difficulty_is_the_number_of_lines_of_which_none_can_be_left_out() -> None:
    one = make_small_program_sets(random.Random(0), SetSizes(0, 0, 0, 30, 0, "1"))
    for problem in one.test:
        tests = read_tests(problem.answer or "")
        assert sum(run_tests(f"{line}\nreturn x", tests).num_passed == 8 for line in LINES) == 1
        assert run_tests("return x", tests).num_passed < 8
    with pytest.raises(InputError, match="lines of small programs"):
        make_small_program_sets(random.Random(0), SetSizes(difficulty="6"))


@pytest.mark.parametrize(
    ("solution", "verdict", "score", "reason"),
    [
        ("x = x[::-1] # any comment\nreturn x\n", Verdict.RIGHT, 1.0, "4 of 4 tests passed"),
        ("return x\n", Verdict.WRONG, 0.5, "returns [1, 2], not [2, 1]"),
        ("x = x[::-1]\n", Verdict.WRONG, 0.0, "returns None"),
        ("return sum(x)\n", Verdict.WRONG, 0.0, "returns 3"),
        ("return x[1]\n", Verdict.WRONG, 0.0, "returns 2, not [2, 1]"),
        ("return x[2]\n", Verdict.WRONG, 0.0, "f([1, 2]) fails: list index out of range"),
        ("return [\n", Verdict.WRONG, 0.0, "not Python"),
        ("import os\nreturn x\n", Verdict.WRONG, 0.0, "line 1"),
        ("return x.copy()\n", Verdict.WRONG, 0.0, "x.copy() is outside small Python"),
        ("return open\n", Verdict.WRONG, 0.0, "open is outside small Python"),
        ("pass\n    return x\n", Verdict.WRONG, 0.0, "not Python"),
        ("return x\ndef f(x):\n return x[::-1]", Verdict.WRONG, 0.0, "line 2"),
        ("", Verdict.WRONG, 0.0, "not Python"),
    ],
)
def test_the_score_is_the_share_of_tests_and_right_is_all(
    solution: str, verdict: Verdict, score: float, reason: str
) -> None:
    answer = "\n".join(map(str, TESTS))
    (found,) = AnswerVerifier().judge([Check("", answer, KIND, solution)])
    assert (found.verdict, found.score, found.source) == (verdict, score, "tests")
    assert reason in found.reason


@pytest.mark.parametrize(
    "answer", [None, "", "f([1]) == ", "g([1]) == [1]", "f([1]) == [True]", "f([1]) == [1.0]", "["]
)
def test_without_tests_a_program_is_undecided(answer: str | None) -> None:
    (found,) = AnswerVerifier().judge([Check("", answer, KIND, "return x\n")])
    assert (found.verdict, found.score) == (Verdict.UNDECIDED, None)


@pytest.mark.parametrize(
    "body",
    [
        "\n".join(["y = 999", *["y = y * y"] * 9, "return y"]),
        "\n".join([*["x = x + x"] * 20, "return x"]),
        "return " + "-" * 1900 + "1",
        "x" * 3000,
        "return [v for v in x if 1 < v < 3]",
        "return [w for v in x for w in v]",
        "x, y = x\nreturn y",
        "return sorted(x, reverse=True)",
        "return x * 2",
        "return True",
        "return '7'",
    ],
)
def test_what_grows_or_is_outside_small_python_fails_in_one_way(body: str) -> None:
    with pytest.raises(SmallPythonError):
        small_program(body)([1, 2, 3])


def test_the_task_ends_a_program_at_its_return_and_not_at_a_statement_of_an_answer() -> None:
    task = puzzle_named(KIND)
    assert task.ends("return x\n") and task.ends("  return sum(x)\n") and task.ends("return\n")
    assert not task.ends("x = returned\n") and not task.ends("The answer is 4\n") and not task.ends("\n")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [*LINES, "return x", "return", "x", "y = 1; z = 2", "if x: y = 1", "else: y = 2", "x = [1,", "2]", ""]
            ),
            st.text("xy=[]()#+1 :,;\\\"'\t\x0c\u2028 return", max_size=12),
        ).flatmap(lambda line: st.sampled_from([line, f"{line} # [1] -> [2]", f" {line}", f"{line} \\"])),
        max_size=4,
    )
)
def test_lines_that_are_parsed_alone_are_those_of_the_whole_program(lines: list[str]) -> None:
    body = "\n".join(lines)
    try:
        whole = [(one.lineno - 1, ast.dump(one)) for one in small_python._together(body)]
    except SmallPythonError:
        with pytest.raises(SmallPythonError):
            small_python._statements(body)
    else:
        assert [(line, ast.dump(one)) for line, one in small_python._statements(body)] == whole
