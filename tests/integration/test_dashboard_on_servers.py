"""The dashboard over PostgreSQL and Redis: it reads only, and what is retried is in its queue."""

import dataclasses

import pytest
from pydantic import SecretStr
from restmcts.adapters.broker import queue_lengths
from restmcts.adapters.sql import control, runs
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.runs import DEAD_LETTERS
from restmcts.adapters.sql.trees import RUNS
from restmcts.domain.problems import Problem
from restmcts.errors import StorageError
from restmcts.messages.commands import AdvanceRun
from restmcts.settings import Settings
from restmcts_cli.stack_processes import Stack
from restmcts_dashboard.run_reads import read_run, value_quality
from restmcts_dashboard.serving import stack_source
from sqlalchemy import select, update


@pytest.fixture
def settings(servers: Stack) -> Settings:
    named = {name.removeprefix("RESTMCTS_").lower(): value for name, value in servers.settings.items()}
    return Settings(**{**named, "dashboard_token": SecretStr("token")})  # type: ignore[arg-type]


def test_it_reads_and_only_a_retry_changes_anything(servers: Stack, settings: Settings, database: Database) -> None:
    source = stack_source(settings)
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "seen in a browser", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "train", [Problem("1 + 1", "2")])
        runs.add_dead_letter(transaction, "coordinator", AdvanceRun.name, f'{{"run_id": {run_id}}}', "was away")
    with source.database.transaction() as transaction:
        assert read_run(transaction, run_id).run.name == "seen in a browser"
        assert value_quality(transaction, run_id, {}) == {}
        letter = transaction.execute(select(DEAD_LETTERS.c.id).order_by(DEAD_LETTERS.c.id.desc())).scalar()
    with pytest.raises(StorageError, match="read-only"), source.database.transaction() as transaction:
        transaction.execute(update(RUNS).values(name="changed"))

    servers.up({"coordinator": 0})
    before = queue_lengths(settings.redis_url.get_secret_value())["coordinator"]
    assert source.may_change
    assert source.writable is not None
    with source.writable.transaction() as transaction:
        control.retry_dead_letter(transaction, letter)
    assert source.queue_lengths()["coordinator"] == before + 1
    assert dataclasses.replace(source, redis_url="redis://127.0.0.1:1/0").queue_lengths() == {"broker": None}
    source.writable.close()
    source.database.close()
