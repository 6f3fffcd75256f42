"""A run is stored whole or not at all, and its problems go to the sets that it uses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.errors import InputError
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run, enqueue_problems

CONFIG = {"bootstrap_set": "bootstrap", "held_out_set": "held-out", "gate": {"num_problems": 3}}


def search(name: str, purpose: Any, problem_set: str) -> SearchPhase:
    return SearchPhase(name, 1, purpose, problem_set, "base", None, CotSettings())


PHASES = (
    search("samples", "bootstrap", "bootstrap"),
    search("collect", "collect", "train"),
    search("judged", "held-out", "held-out"),
)


def problems(first: int, last: int) -> list[Problem]:
    return [Problem(f"question {number}", str(number)) for number in range(first, last)]


@pytest.fixture
def sent() -> list[Message]:
    return []


@pytest.fixture
def database(tmp_path: Path, sent: list[Message]) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}", lambda messages, _: sent.extend(messages))
    database.create_tables()
    yield database
    database.close()


def create(database: Database, **fields: Any) -> dict[str, int]:
    with database.transaction() as transaction:
        new = NewRun(**{"name": "run", "method": "rest-mcts", "seed": 7, "phases": PHASES, "config": CONFIG} | fields)
        return dict(create_run(transaction, new).num_problems)


def sets(database: Database) -> dict[str, list[str]]:
    with database.transaction() as transaction:
        return {
            name: [row.question.removeprefix("question ") for row in runs.problems_of(transaction, 1, name)]
            for name in ("train", "bootstrap", "held-out")
        }


def test_training_problems_fill_the_sets_that_the_run_uses(database: Database, sent: list[Message]) -> None:
    assert create(database, problems={"train": problems(0, 20)}) == {"train": 18, "bootstrap": 18, "held-out": 2}
    assert sets(database)["held-out"] == ["9", "19"]
    assert sent == [AdvanceRun(run_id=1)]


def test_a_run_that_votes_holds_out_problems_with_answers_alone(database: Database) -> None:
    mixed = [replace(one, answer=None) if number < 25 else one for number, one in enumerate(problems(0, 40))]
    config = {**CONFIG, "truth": {"source": "votes"}}
    assert create(database, problems={"train": mixed}, config=config)["train"] == 39
    assert sets(database)["held-out"] == ["34"]


def test_sets_that_are_given_are_stored_as_they_are(database: Database) -> None:
    given = {"train": problems(0, 20), "held-out": problems(30, 32)}
    assert create(database, problems=given) == {"train": 20, "held-out": 2}


def test_problems_that_come_later_go_where_their_question_went(database: Database) -> None:
    create(database, problems={"train": problems(0, 20)}, paused=True)
    with database.transaction() as transaction:
        added = enqueue_problems(transaction, "run", "train", problems(5, 45))
    assert added == {"train": 37, "bootstrap": 37, "held-out": 3}
    found = sets(database)
    assert found["held-out"] == ["9", "19", "9", "19", "29"]
    assert not set(found["held-out"]) & set(found["train"])


def test_a_paused_run_wakes_nobody(database: Database, sent: list[Message]) -> None:
    create(database, paused=True)
    with database.transaction() as transaction:
        assert runs.state_of(transaction, 1) == RunState.PAUSED
    assert sent == []


def test_a_run_whose_problems_cannot_be_read_is_not_stored(database: Database, sent: list[Message]) -> None:
    def broken() -> Iterator[Problem]:
        yield Problem("question", "1")
        raise InputError("line 2: not JSON")

    with pytest.raises(InputError, match="line 2"):
        create(database, problems={"train": broken()})
    with database.transaction() as transaction:
        assert runs.find_run(transaction, "run") is None
    assert sent == []
    create(database)
    with pytest.raises(InputError, match="exists already"):
        create(database)


@pytest.mark.parametrize(("field", "what"), [("seed", "seed"), ("max_tokens", "token budget")])
def test_a_number_that_no_database_holds_is_named(database: Database, field: str, what: str) -> None:
    with pytest.raises(InputError, match=f"the {what} of a run is {2**63}: at most {2**63 - 1} can be stored"):
        create(database, **{field: 2**63})
    create(database, **{field: 2**63 - 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("question", "a\0b"),
        ("question", "half \ud800"),
        ("answer", "5\0"),
        ("solution", ("a step\n", "a\0step\n")),
        ("solution", ("\udfff\n",)),
        ("kind", "math\0"),
    ],
)
def test_a_problem_that_no_database_holds_is_named_and_nothing_is_stored(
    database: Database, field: str, value: Any
) -> None:
    poisoned = replace(Problem("question 2", "2"), **{field: value})
    for fill in (
        lambda: create(database, problems={"train": [*problems(0, 2), poisoned]}),
        lambda: create(database, problems={"test": [*problems(0, 2), poisoned]}),
    ):
        with pytest.raises(InputError, match=f'problem 3: "{field}" (contains a NUL|is not valid)'):
            fill()
    create(database, problems={"train": problems(0, 2)})
    with pytest.raises(InputError, match=f'problem 1: "{field}"'), database.transaction() as transaction:
        enqueue_problems(transaction, "run", "train", [poisoned])
    assert sets(database) == {"train": ["0", "1"], "bootstrap": ["0", "1"], "held-out": []}


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        (NewCheckpoint("policy", "someone/model"), "someone/model"),
        (NewCheckpoint("policy", "artifact:checkpoints/0123"), "0123"),
        (NewCheckpoint("policy", "artifact:checkpoints/0123", "4567"), "4567"),
    ],
)
def test_a_checkpoint_is_known_by_the_digest_of_its_files_or_by_its_uri(
    database: Database, given: NewCheckpoint, digest: str
) -> None:
    create(database, checkpoints={"base": given})
    with database.transaction() as transaction:
        row = runs.checkpoints_of(transaction, 1)["base"]
    assert (row.kind, row.uri, row.digest) == ("policy", given.uri, digest)


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "\x1b[31mred", "nul\0", "n" * 5000, "lone \ud800"])
def test_a_run_name_that_cannot_be_typed_or_printed_stores_nothing(database: Database, name: str) -> None:
    with pytest.raises(InputError, match="the name of a run") as refused:
        create(database, name=name)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300
    assert create(database, name="it's a näme / 7") == {}
