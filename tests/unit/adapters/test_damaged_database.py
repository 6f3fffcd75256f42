"""A database file with flipped bits: whatever SQLite makes of it, people are told in one line."""

import random
import sqlite3
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.domain.problems import Problem
from restmcts.errors import RestMctsError, StorageError, UnstorableError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a database with a run in it."""
    path = tmp_path_factory.mktemp("whole") / "run.db"
    database = Database(f"sqlite:///{path}")
    database.create_tables()
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "run", "test", 0, {"an": "object"})
        runs.add_problems(transaction, run_id, "set", [Problem(f"question {number}", "1") for number in range(200)])
    database.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.read_bytes()


def read(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    try:
        database.check_version()
        with database.transaction() as transaction:
            run = queries.run_named(transaction, "run")
            queries.list_runs(transaction)
            runs.problems_of(transaction, run.id, "set")
    finally:
        database.close()


def test_flipped_bits_are_one_line(whole: bytes, tmp_path: Path) -> None:
    generator, num_noticed = random.Random(0), 0
    for number in range(60):
        damaged = bytearray(whole)
        for _ in range(generator.choice((1, 20, 400))):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        try:
            read(path)
        except RestMctsError as error:
            num_noticed += isinstance(error, StorageError)
            assert len(str(error).splitlines()) == 1
    assert num_noticed > 10


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_has_not_is_refused_and_damages_nothing(tmp_path: Path, value: float) -> None:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    with pytest.raises(UnstorableError, match="JSON compliant"), database.transaction() as transaction:
        runs.create_run(transaction, "run", "test", 0, {"temperature": value})
    with database.transaction() as transaction:
        assert queries.list_runs(transaction) == []
    database.close()
