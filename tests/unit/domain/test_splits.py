"""Held-out problems are chosen by their question: never is one on both sides."""

import hashlib
import time
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.problems import Problem, question_digest
from restmcts.domain.runs.splits import ONE_IN, HeldOut, split_held_out


def problems(*numbers: int) -> list[Problem]:
    return [Problem(f"question {number}", str(place)) for place, number in enumerate(numbers)]


def questions(found: list[Problem]) -> set[str]:
    return {question_digest(problem.question) for problem in found}


def test_one_question_in_ten_is_held_out_until_there_are_enough() -> None:
    given = problems(*range(100))
    held_out, train = split_held_out(given, 200)
    assert held_out == given[ONE_IN - 1 :: ONE_IN] and len(train) == 90
    held_out, train = split_held_out(given, 3)
    assert held_out == given[9:30:10] and len(train) == 97
    assert split_held_out(given, 0) == ([], given)


def test_a_file_in_which_every_question_stands_twice_is_split_as_if_it_stood_once() -> None:
    held_out, train = split_held_out(problems(*range(55), *range(55)), 200)
    assert questions(held_out) == questions(problems(9, 19, 29, 39, 49))
    assert len(held_out) == 10 and len(train) == 100


@given(numbers=st.lists(st.integers(0, 40), max_size=200), most=st.integers(0, 5))
def test_no_question_is_ever_on_both_sides_and_no_problem_is_lost(numbers: list[int], most: int) -> None:
    given = problems(*numbers)
    held_out, train = split_held_out(given, most)
    assert not questions(held_out) & questions(train)
    assert sorted(held_out + train, key=given.index) == given
    assert len(questions(held_out)) == min(most, len(set(numbers)) // ONE_IN)


def test_only_problems_with_answers_are_held_out_where_others_are_trained_on() -> None:
    mixed = [replace(one, answer=None) if number % 3 else one for number, one in enumerate(problems(*range(90)))]
    held_out, train = split_held_out(mixed, 200, needs_answers=True)
    assert held_out == [one for one in mixed if one.answer is not None][ONE_IN - 1 :: ONE_IN]
    assert sorted(held_out + train, key=mixed.index) == mixed
    assert split_held_out(mixed, 200)[0] == mixed[ONE_IN - 1 :: ONE_IN]


@pytest.mark.parametrize("again", ["QUESTION 9", "  question\t9 ", "ｑuestion 9"])
def test_a_question_written_otherwise_goes_where_it_went(again: str) -> None:
    rule = HeldOut(200)
    assert [rule.takes(problem) for problem in problems(*range(10))] == [False] * 9 + [True]
    assert rule.takes(Problem(again, "another answer"))
    assert not rule.takes(Problem("Question 3", "another answer"))


def test_what_is_on_a_side_already_stays_there_and_counts() -> None:
    rule = HeldOut(1, held_out=[question_digest("question 2")], trained=[question_digest("question 9")])
    assert [rule.takes(problem) for problem in problems(*range(40))] == [number == 2 for number in range(40)]


@pytest.mark.parametrize(
    "question",
    [
        "What is 1 + 1?",
        " A\tb\u3000C\n",
        "\uff21\uff22 \ufb01\u00b4x\u0301",
        "\ufdfa \u1e9e e\u0301",
        "\u95ee" * 3000,
        "",
    ],
)
def test_a_digest_is_of_the_text_without_case_width_and_white_space(question: str) -> None:
    plain = " ".join(unicodedata.normalize("NFKC", question).casefold().split())
    assert question_digest(question) == hashlib.sha256(plain.encode()).hexdigest()[:32]


def test_a_digest_of_many_marks_takes_no_longer() -> None:
    before = time.process_time()
    question_digest("\u0345\u0316" * 10**5)
    assert time.process_time() - before < 10
