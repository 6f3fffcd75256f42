"""Word problems: drawn alike from a seed, solved rightly by their demonstrations, and checked
in every sum.
"""

import random
import re
from dataclasses import replace

import pytest
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.number_paths import SetSizes
from restmcts.domain.tasks.word_problems import (
    KIND,
    LARGEST_NUMBER,
    all_words,
    check_word_problem,
    compute,
    make_word_problem_sets,
)
from restmcts.errors import InputError

SIZES = SetSizes(demonstrations=200, iterations=2, searched=50, test=100, validation=20)
QUESTION = "Ann has 12 apples. Ann buys 5 more. How many apples does Ann have now?"


def verdict(solution: str, answer: str | None = "17") -> Verdict:
    return check_word_problem(Check(QUESTION, answer, KIND, solution))


def test_the_same_seed_gives_the_same_sets_and_no_question_comes_twice() -> None:
    sets = make_word_problem_sets(random.Random(5), SIZES)
    assert sets == make_word_problem_sets(random.Random(5), SIZES)
    assert sets.test != make_word_problem_sets(random.Random(6), SIZES).test
    everything = [*sets.demonstrations, *sets.test, *sets.validation, *(p for part in sets.searched for p in part)]
    assert len(everything) == len({problem.question for problem in everything}) == 420
    fewer = make_word_problem_sets(random.Random(5), SetSizes(0, 0, 0, 100, 0))
    assert fewer.test == sets.test, "the held-out set does not depend on the others"


def test_demonstrations_are_right_and_all_others_keep_their_solution_to_themselves() -> None:
    sets = make_word_problem_sets(random.Random(0), SIZES)
    for problem in sets.demonstrations:
        assert problem.solution is not None and problem.kind == KIND
        solution = "".join(problem.solution)
        assert check_word_problem(Check(problem.question, problem.answer, KIND, solution)) == Verdict.RIGHT
        assert all(int(number) <= LARGEST_NUMBER for number in re.findall("[0-9]+", problem.question + solution))
    assert all(problem.solution is None for problem in (*sets.test, *sets.validation, *sets.searched[0]))


def test_every_word_is_listed() -> None:
    listed = set(all_words())
    for problem in make_word_problem_sets(random.Random(1), SIZES).demonstrations:
        text = " ".join((problem.question, *(problem.solution or ())))
        assert set(re.findall(r"[A-Za-z]+|[^\sA-Za-z0-9]", text)) <= listed


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("so now Ann has 12 + 5 = 17 apples\nThe answer is 17\n", Verdict.RIGHT),
        ("The answer is 17\n", Verdict.RIGHT),
        ("so now Ann has 12 + 5 = 18 apples\nThe answer is 17\n", Verdict.WRONG),
        ("so now Ann has 12 + 5 = 18 apples\nThe answer is 18\n", Verdict.WRONG),
        ("The answer is 17\nso now Ann has 12 + 5 = 17 apples\n", Verdict.WRONG),
        ("The answer is 16\nThe answer is 17\n", Verdict.WRONG),
        ("so now Ann has 12 + 5 = 17 apples\n", Verdict.WRONG),
        ("", Verdict.WRONG),
    ],
)
def test_a_solution_is_checked_in_every_sum(solution: str, expected: Verdict) -> None:
    assert verdict(solution) == expected


def test_without_a_true_answer_nothing_is_decided() -> None:
    assert verdict("The answer is 17\n", None) == Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("left", "sign", "right", "result"),
    [
        (12, "+", 5, 17),
        (12, "-", 13, None),
        (12, "*", 4, 48),
        (12, "*", 5, None),
        (12, "/", 4, 3),
        (12, "/", 5, None),
        (3, "/", 0, None),
    ],
)
def test_sums_stay_whole_and_in_range(left: int, sign: str, right: int, result: int | None) -> None:
    assert compute(left, sign, right) == result


def test_a_difficulty_is_the_number_of_changes_and_leaves_the_demonstrations_as_they_are() -> None:
    """A problem of four or five changes says at least five sentences; of one, at most five."""
    hard = make_word_problem_sets(random.Random(5), replace(SIZES, difficulty="4-5"))
    assert min(problem.question.count(".") for problem in hard.test) >= 5
    assert min(problem.question.count(".") for problem in hard.demonstrations) <= 3
    with pytest.raises(InputError, match="changes in word problems are a range from 1 to 5 such as 2-5, not '6'"):
        make_word_problem_sets(random.Random(5), replace(SIZES, difficulty="6"))
