"""The time in rows of SQLite; tests/integration/test_clocks_and_locks.py has PostgreSQL's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.errors import StorageError
from sqlalchemy import select, update


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    with database.transaction() as transaction:
        runs.create_run(transaction, "run", "rest-mcts", 0, {})
    yield database
    database.close()


def test_times_are_written_and_read_in_utc(database: Database) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    with database.transaction() as transaction:
        row = transaction.execute(select(RUNS.c.created_at, RUNS.c.finished_at)).one()
        assert before < row.created_at < datetime.now(UTC) + timedelta(seconds=1)
        assert (row.created_at.tzinfo, row.finished_at) == (UTC, None)
        given = datetime(2026, 1, 2, 3, 4, 5, 678, timezone(timedelta(hours=8)))
        transaction.execute(update(RUNS).values(finished_at=given))
        read = transaction.execute(select(RUNS.c.finished_at)).scalar_one()
        assert (read, read.tzinfo) == (given, UTC)


def test_a_time_without_a_zone_is_not_stored(database: Database) -> None:
    with pytest.raises(StorageError, match="no time zone"), database.transaction() as transaction:
        transaction.execute(update(RUNS).values(finished_at=datetime(2026, 1, 2)))


@pytest.mark.parametrize("seconds", [3600.0, 0.25, -0.25, -1e5, 1e-5])
def test_times_of_the_database_compare_with_each_other_and_with_given_ones(database: Database, seconds: float) -> None:
    with database.transaction() as transaction:
        now, then = transaction.execute(select(moment(), moment(seconds))).one()
        assert (then - now).total_seconds() == pytest.approx(seconds, abs=2e-3)
        transaction.execute(update(RUNS).values(finished_at=then + timedelta(microseconds=1)))
        later = RUNS.c.finished_at > moment(seconds - 0.1)
        assert transaction.execute(select(later, RUNS.c.finished_at < moment(seconds + 60))).one() == (True, True)
