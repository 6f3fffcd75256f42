"""Story problems: drawn alike from a seed, solved rightly by their demonstrations, checked in every
sum, and the harder the level, the longer.
"""

import random
import re
from statistics import mean

import pytest
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.number_paths import SetSizes
from restmcts.domain.tasks.puzzles import puzzle_named
from restmcts.domain.tasks.story_problems import (
    KIND,
    LARGEST_NUMBER,
    LEVELS,
    check_story_problem,
    make_story_problem_sets,
)
from restmcts.errors import InputError

SIZES = SetSizes(demonstrations=200, iterations=2, searched=50, test=100, validation=20)


def verdict(solution: str, answer: str | None = "96") -> Verdict:
    return check_story_problem(Check("How many?", answer, KIND, solution))


def test_the_same_seed_gives_the_same_sets_and_no_question_comes_twice() -> None:
    sets = make_story_problem_sets(random.Random(5), SIZES)
    assert sets == make_story_problem_sets(random.Random(5), SIZES)
    assert sets.test != make_story_problem_sets(random.Random(6), SIZES).test
    everything = [*sets.demonstrations, *sets.test, *sets.validation, *(p for part in sets.searched for p in part)]
    assert len(everything) == len({problem.question for problem in everything}) == 420
    fewer = make_story_problem_sets(random.Random(5), SetSizes(0, 0, 0, 100, 0))
    assert fewer.test == sets.test, "the held-out set does not depend on the others"


@pytest.mark.parametrize("difficulty", ["1", "2", "3", "4", "5", "1-5"])
def test_demonstrations_are_right_and_name_every_number_that_they_use(difficulty: str) -> None:
    sizes = SetSizes(200, 1, 5, 5, 5, difficulty)
    sets = puzzle_named(KIND).make_sets(random.Random(0), sizes)
    for problem in sets.demonstrations:
        assert problem.solution is not None and "{" not in problem.question + "".join(problem.solution)
        check = Check(problem.question, problem.answer, KIND, "".join(problem.solution))
        assert check_story_problem(check) == Verdict.RIGHT
        known = {*map(int, re.findall(r"\d+", problem.question)), 2, 3}
        for left, right, result in re.findall(r"(\d+) [-+*/] (\d+) = (\d+)", check.solution):
            assert {int(left), int(right)} <= known and int(result) <= LARGEST_NUMBER
            known.add(int(result))
    assert all(problem.solution is None for problem in (*sets.test, *sets.validation, *sets.searched[0]))


def test_harder_problems_take_more_sums() -> None:
    def sums(difficulty: int) -> float:
        sets = make_story_problem_sets(random.Random(0), SetSizes(200, 0, 0, 0, 0, str(difficulty)))
        return mean(len(problem.solution or ()) for problem in sets.demonstrations)

    lengths = [sums(difficulty) for difficulty in range(1, len(LEVELS) + 1)]
    assert lengths == sorted(lengths) and lengths[-1] > 1.5 * lengths[0]


@pytest.mark.parametrize("difficulty", ["0", "6", "4-6", "hard"])
def test_a_difficulty_that_there_is_not_is_refused(difficulty: str) -> None:
    with pytest.raises(InputError, match="levels of story problems are a range from 1 to 5 such as 2-5, not"):
        puzzle_named(KIND).make_sets(random.Random(0), SetSizes(1, 1, 1, 1, 1, difficulty))


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("The boxes hold 4 * 15 = 60 stamps.\nShe has 60 + 36 = 96 stamps.\nThe answer is 96\n", Verdict.RIGHT),
        ("The boxes hold 4 x 15 = 60 stamps.\n\n60+36=96\nThe answer is 96.", Verdict.RIGHT),
        ("They cost $4 * 24 = $96.\nThe answer is $96", Verdict.RIGHT),
        ("The answer is 96", Verdict.RIGHT),
        ("The boxes hold 4 * 15 = 61 stamps.\nThe answer is 96", Verdict.WRONG),
        ("The boxes hold 4 x 15 = 61 stamps.\nThe answer is 96", Verdict.WRONG),
        ("60+36=97\nThe answer is 96", Verdict.WRONG),
        ("The answer is 96\nThe answer is 96", Verdict.WRONG),
        ("The answer is 95", Verdict.WRONG),
        ("She has 60 + 36 = 96 stamps.", Verdict.WRONG),
        ("", Verdict.WRONG),
    ],
)
def test_a_solution_is_checked_in_every_sum(solution: str, expected: Verdict) -> None:
    assert verdict(solution) == expected


def test_a_sum_of_three_numbers_is_read_as_no_sum_of_its_last_two() -> None:
    assert verdict("In all 20 + 36 + 40 = 96.\n20+36+40=96\nThe answer is 96") == Verdict.RIGHT


def test_without_a_true_answer_nothing_is_decided() -> None:
    assert verdict("The answer is 96\n", None) == Verdict.UNDECIDED
