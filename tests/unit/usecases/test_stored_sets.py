"""A run that is stored keeps the division of its problems, whatever rule divides them now."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.domain.problems import Problem
from restmcts.domain.runs.splits import split_held_out
from restmcts.usecases.create import NewRun, create_run
from restmcts.usecases.stored_sets import divided_as_stored

# The sixth question is the first again: by place, other problems are the tenth and the twentieth.
GIVEN = [
    Problem(f"question {0 if number == 5 else number}", "1", ("a step",) if number % 2 else None)
    for number in range(22)
]
Sets = Mapping[str, Sequence[Problem]]


def by_place() -> dict[str, list[Problem]]:
    train = [problem for number, problem in enumerate(GIVEN) if number % 10 != 9]
    held_out = [problem for number, problem in enumerate(GIVEN) if number % 10 == 9]
    return named(train, held_out)


def by_question(given: Sequence[Problem]) -> dict[str, list[Problem]]:
    held_out, train = split_held_out(given, 200)
    return named(train, held_out)


def named(train: list[Problem], held_out: list[Problem]) -> dict[str, list[Problem]]:
    return {
        "train": train,
        "held-out": held_out,
        "bootstrap": train,
        "seeds": [problem for problem in train if problem.solution],
        "test": [Problem("another", "2")],
    }


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}", lambda messages, _: None)
    database.create_tables()
    with database.transaction() as transaction:
        create_run(transaction, NewRun("run", "rest-mcts", 0, (), problems=by_place()))
    yield database
    database.close()


def divided(database: Database, sets: Sets) -> Sets:
    with database.transaction() as transaction:
        return divided_as_stored(transaction, 1, sets)


def test_problems_that_another_rule_divided_are_those_of_the_stored_run(database: Database) -> None:
    asked = by_question(GIVEN)
    assert asked["held-out"] != by_place()["held-out"]
    assert divided(database, asked) == by_place()
    assert divided(database, by_question(GIVEN[::-1])) == by_place()


def test_a_test_set_stays_as_it_is_asked_for(database: Database) -> None:
    asked = {**by_question(GIVEN), "test": [Problem("a third", "3")]}
    assert divided(database, asked)["test"] == asked["test"]


@pytest.mark.parametrize(
    "given",
    [GIVEN[:-1], [*GIVEN, GIVEN[0]], [Problem("question 0", "7"), *GIVEN[1:]]],
    ids=["fewer", "one more of a question that is there", "another answer"],
)
def test_other_problems_are_not_taken_for_the_stored_ones(database: Database, given: list[Problem]) -> None:
    asked = by_question(given)
    assert divided(database, asked) == asked


def test_a_run_with_sets_of_its_own_is_left_alone(database: Database) -> None:
    drawn = {"searched-1": GIVEN}
    assert divided(database, drawn) == drawn
