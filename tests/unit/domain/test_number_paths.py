import itertools
import random
import time
from collections import Counter
from dataclasses import replace

import pytest
from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.tasks import number_paths
from restmcts.domain.tasks.number_paths import (
    KIND,
    MAX_MOVES,
    MOVE_POOL,
    Move,
    NumberPath,
    SetSizes,
    answer_step,
    check_number_path,
    distance,
    distances_to,
    make_problem_sets,
    move_step,
    parse_question,
)
from restmcts.errors import InputError

QUESTION = "Start: 7  Target: 31  Moves: +3 -5 *2"
# 7 * 2 = 14, 14 * 2 = 28, 28 + 3 = 31: three moves
RIGHT = ("7 * 2 = 14\n", "14 * 2 = 28\n", "28 + 3 = 31\n", "The answer is 31\n")
SMALL = SetSizes(demonstrations=200, iterations=2, searched=150, test=100, validation=50)


def verdict(*steps: str, question: str = QUESTION, answer: str | None = "31") -> Verdict:
    return check_number_path(Check(question, answer, KIND, "".join(steps)))


def test_question_is_read_and_written_back() -> None:
    puzzle = parse_question(QUESTION)
    assert puzzle == NumberPath(7, 31, (Move("+", 3), Move("-", 5), Move("*", 2)))
    assert puzzle.question == QUESTION


@pytest.mark.parametrize(
    "question",
    [
        "",
        "Start: 7 Target: 31 Moves: +3",
        "Start: 70  Target: 31  Moves: +3",
        "Start: 7  Target: 31  Moves:",
        "Start: 7  Target: 31  Moves: /3",
        "Start: 07  Target: 31  Moves: +3",
        QUESTION + "\n",
        QUESTION + " ",
        "Start: ٧  Target: 31  Moves: +3",
    ],
)
def test_what_is_no_question_is_refused_and_left_undecided(question: str) -> None:
    with pytest.raises(InputError, match="not a number path"):
        parse_question(question)
    with pytest.raises(InputError, match="not a number path"):
        distance(question, ())
    assert verdict(*RIGHT, question=question) is Verdict.UNDECIDED


def test_steps_are_written_out() -> None:
    assert move_step(7, Move("*", 2)) == RIGHT[0]
    assert answer_step(31) == RIGHT[-1]
    with pytest.raises(ValueError, match="outside"):
        move_step(49, Move("+", 3))


def test_right_solution() -> None:
    assert verdict(*RIGHT) is Verdict.RIGHT
    assert verdict("".join(RIGHT).removesuffix("\n")) is Verdict.RIGHT
    assert verdict(*RIGHT, answer=None) is Verdict.RIGHT


def test_answer_that_is_not_the_target_is_undecided() -> None:
    assert verdict(*RIGHT, answer="30") is Verdict.UNDECIDED


@pytest.mark.parametrize(
    "steps",
    [
        (),
        ("The answer is 31\n",),
        RIGHT[:3],
        (*RIGHT, "The answer is 31\n"),
        (*RIGHT, "\n"),
        ("\n", *RIGHT),
        (*RIGHT[:3], "The answer is 30\n"),
        (*RIGHT[:2], "28 + 3 = 30\n", "The answer is 31\n"),
        (*RIGHT[:2], "The answer is 31\n"),
        ("7 * 2 = 14\n", "28 + 3 = 31\n", "The answer is 31\n"),
        ("7 + 7 = 14\n", *RIGHT[1:]),
        ("7  * 2 = 14\n", *RIGHT[1:]),
        ("7 *2 = 14\n", *RIGHT[1:]),
        ("7 * 2 = 014\n", *RIGHT[1:]),
        ("7 * 2 = 14\r\n", *RIGHT[1:]),
        ("7 * 2 = 14 \n", *RIGHT[1:]),
        ("7 * 2 = 14\u2028", *RIGHT[1:]),
        ("٧ * 2 = 14\n", *RIGHT[1:]),
        (*RIGHT[:3], "the answer is 31\n"),
        (*RIGHT[:3], "The answer is 31."),
        ("9" * 100_000,),
    ],
)
def test_solution_with_any_wrong_line_is_wrong(steps: tuple[str, ...]) -> None:
    assert verdict(*steps) is Verdict.WRONG


def test_numbers_may_not_leave_the_range() -> None:
    high = "Start: 40  Target: 42  Moves: +7 -5 *2"
    steps = ("40 + 7 = 47\n", "47 + 7 = 54\n", "54 - 5 = 49\n", "49 - 5 = 44\n")
    assert verdict(*steps, "The answer is 44\n", question=high.replace("42", "44"), answer="44") is Verdict.WRONG
    low = "Start: 3  Target: 1  Moves: +3 -5 *2"
    assert verdict("3 - 5 = -2\n", "-2 + 3 = 1\n", "The answer is 1\n", question=low, answer="1") is Verdict.WRONG


def test_at_most_eight_moves() -> None:
    question = "Start: 0  Target: {}  Moves: +3 -2 *2"
    steps = [f"{3 * k} + 3 = {3 * k + 3}\n" for k in range(9)]
    eight, nine = question.format(24), question.format(27)
    assert verdict(*steps[:8], "The answer is 24\n", question=eight, answer="24") is Verdict.RIGHT
    assert verdict(*steps, "The answer is 27\n", question=nine, answer="27") is Verdict.WRONG


def test_passing_through_the_target_is_allowed() -> None:
    question = "Start: 5  Target: 8  Moves: +3 +7 -5"
    steps = ("5 + 3 = 8\n", "8 + 3 = 11\n", "11 + 7 = 18\n", "18 - 5 = 13\n", "13 - 5 = 8\n")
    assert [distance(question, steps[:k]) for k in range(6)] == [1, 0, 3, 2, 1, 0]
    assert verdict(*steps, "The answer is 8\n", question=question, answer="8") is Verdict.RIGHT


def test_distance_along_a_right_solution_falls_to_zero() -> None:
    assert [distance(QUESTION, RIGHT[:k]) for k in range(5)] == [3, 2, 1, 0, 0]
    assert distance(QUESTION, [step.removesuffix("\n") for step in RIGHT]) == 0


def test_distance_of_what_cannot_be_solved() -> None:
    assert distance(QUESTION, ("7 * 2 = 15\n",)) is None
    assert distance(QUESTION, (*RIGHT[:2], "The answer is 31\n")) is None
    assert distance("Start: 1  Target: 0  Moves: +3 +7 *2", ()) is None
    there_and_back = ("7 + 3 = 10\n", "10 - 5 = 5\n", "5 + 3 = 8\n", "8 - 5 = 3\n", "3 + 3 = 6\n", "6 + 3 = 9\n")
    assert distances_to(31, parse_question(QUESTION).moves)[9] == 3
    assert distance(QUESTION, there_and_back) is None


def test_distances_agree_with_trying_everything() -> None:
    moves = (MOVE_POOL[0], MOVE_POOL[3], MOVE_POOL[4])
    for start, target in ((7, 31), (0, 1), (44, 2)):
        reached, fewest = {start}, 0 if start == target else None
        for step in itertools.count(1):
            reached = {r for n in reached for m in moves if (r := m.apply(n)) is not None}
            if fewest is None and target in reached:
                fewest = step
            if step == MAX_MOVES:
                break
        exact = distances_to(target, moves)[start]
        assert exact == fewest or (fewest is None and (exact is None or exact > MAX_MOVES))


def test_sets_are_disjoint_and_of_the_sizes_asked_for() -> None:
    sets = make_problem_sets(random.Random(0), SMALL)
    groups = [sets.demonstrations, *sets.searched, sets.test, sets.validation]
    assert [len(group) for group in groups] == [200, 150, 150, 100, 50]
    questions = [problem.question for group in groups for problem in group]
    assert len(set(questions)) == len(questions)


def test_demonstrations_are_right_and_longer_than_needed() -> None:
    for problem in make_problem_sets(random.Random(1), SMALL).demonstrations:
        assert problem.solution is not None and problem.kind == KIND
        assert verdict(*problem.solution, question=problem.question, answer=problem.answer) is Verdict.RIGHT
        num_moves = len(problem.solution) - 1
        shortest = distance(problem.question, ())
        assert 4 <= num_moves <= 8 and shortest is not None and shortest < num_moves
        numbers = [step.split(" ")[0] for step in problem.solution[:-1]] + [problem.answer]
        assert len(set(numbers)) == len(numbers)


def test_searched_problems_have_distances_spread_over_three_to_six() -> None:
    problems = make_problem_sets(random.Random(2), replace(SMALL, searched=600)).searched[0]
    assert all(problem.solution is None for problem in problems)
    counts = Counter(distance(problem.question, ()) for problem in problems)
    assert set(counts) == {3, 4, 5, 6} and min(counts.values()) > 100


@pytest.mark.parametrize(("difficulty", "distances"), [("5-8", {5, 6, 7, 8}), ("6-8", {6, 7, 8}), ("2", {2})])
def test_a_difficulty_is_a_range_of_distances(difficulty: str, distances: set[int]) -> None:
    sets = make_problem_sets(random.Random(2), replace(SMALL, difficulty=difficulty))
    drawn = [*sets.test, *sets.validation, *sets.searched[0], *sets.searched[1]]
    assert {distance(problem.question, ()) for problem in drawn} == distances
    assert make_problem_sets(random.Random(2), SMALL) == make_problem_sets(
        random.Random(2), replace(SMALL, difficulty="3-6")
    )


@pytest.mark.parametrize("difficulty", ["0-3", "6-5", "5-9", "-3", "3-", "hard", "٣-٥", "3 - 5"])
def test_what_is_no_difficulty_is_refused(difficulty: str) -> None:
    with pytest.raises(InputError, match="a range from 1 to 8 such as 2-8"):
        make_problem_sets(random.Random(0), replace(SMALL, difficulty=difficulty))


def test_more_hard_puzzles_than_there_are_is_said_with_their_number() -> None:
    with pytest.raises(InputError, match=r"there are 1,205 number paths of distance 8, and more are asked for"):
        make_problem_sets(random.Random(0), replace(SMALL, difficulty="8", searched=700))


def test_a_distance_that_is_used_up_leaves_the_others() -> None:
    """What is drawn before that does not change: the held-out puzzles are the same."""
    few, many = (
        make_problem_sets(random.Random(0), replace(SMALL, difficulty="7-8", searched=searched))
        for searched in (100, 1250)
    )
    assert (few.test, few.validation) == (many.test, many.validation)
    counts = Counter(distance(problem.question, ()) for problem in (*many.test, *many.validation, *many.searched[0]))
    assert counts[8] == pytest.approx(counts[7], rel=0.2)
    drawn = [problem for part in (many.test, many.validation, *many.searched) for problem in part]
    assert Counter(distance(problem.question, ()) for problem in drawn)[8] == 1205


def test_same_seed_same_sets_and_held_out_sets_do_not_depend_on_the_others() -> None:
    first, again = (make_problem_sets(random.Random(7), SMALL) for _ in range(2))
    other = make_problem_sets(random.Random(7), replace(SMALL, iterations=1, demonstrations=10))
    assert first == again
    assert (first.test, first.validation) == (other.test, other.validation)
    assert first.test != make_problem_sets(random.Random(8), SMALL).test


@pytest.mark.parametrize("sizes", [replace(SMALL, searched=20_000), replace(SMALL, demonstrations=20_000)])
def test_a_space_that_runs_dry_is_an_error_not_a_loop(sizes: SetSizes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_paths, "MAX_MISSES", 8)
    with pytest.raises(InputError, match="ask for fewer"):
        make_problem_sets(random.Random(0), sizes)


def test_full_size_takes_a_moment() -> None:
    started = time.process_time()
    sets = make_problem_sets(random.Random(0))
    problems: list[Problem] = [*sets.demonstrations, *sets.test, *sets.validation, *sets.searched[0], *sets.searched[1]]
    assert len(problems) == 1500 + 1000 + 600 + 2 * 2200
    assert time.process_time() - started < 5
