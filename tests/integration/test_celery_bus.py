"""What is emitted in a transaction reaches Redis after it, or stays in the outbox until it does."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from redis import Redis
from restmcts.adapters.buses.celery_bus import CeleryBus, celery_app
from restmcts.adapters.sql.database import OUTBOX, Database
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.messages.base import Queue
from restmcts.messages.commands import AdvanceTrees, ProposeWaitingSteps
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import delete, insert, select, update

NOWHERE = "redis://127.0.0.1:1/0"
WAKE_UP = ProposeWaitingSteps()
TREES = AdvanceTrees(tree_ids=(10**9,))
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def redis(idle_servers: Stack, database: Database) -> Iterator[Redis]:
    """Redis and an outbox, both empty, and no worker that takes anything out."""
    with database.transaction() as transaction:
        transaction.execute(delete(OUTBOX))
        transaction.execute(delete(DEAD_LETTERS))
    with Redis.from_url(idle_servers.settings["RESTMCTS_REDIS_URL"]) as client:
        client.flushdb()
        yield client
        client.flushdb()


def bus_of(url: str, database: Database) -> CeleryBus:
    bus = CeleryBus(celery_app(url), url, database)
    database.publish = bus.publish
    return bus


def unsent(database: Database) -> int:
    with database.transaction() as transaction:
        return len(transaction.execute(select(OUTBOX.c.id)).all())


def grow_old(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute(update(OUTBOX).values(created_at=LONG_AGO))


def test_what_commits_is_sent_and_what_does_not_is_not(servers: Stack, database: Database, redis: Redis) -> None:
    bus_of(servers.settings["RESTMCTS_REDIS_URL"], database)
    with database.transaction() as transaction:
        transaction.emit(TREES)
        assert redis.llen("search") == 0
    assert (redis.llen("search"), unsent(database)) == (1, 0)
    with pytest.raises(ZeroDivisionError), database.transaction() as transaction:
        transaction.emit(TREES)
        _ = 1 / 0
    assert (redis.llen("search"), unsent(database)) == (1, 0)


def test_without_redis_messages_stay_until_the_relay(servers: Stack, database: Database, redis: Redis) -> None:
    bus_of(NOWHERE, database)
    with database.transaction() as transaction:
        transaction.emit(TREES, WAKE_UP)
    assert unsent(database) == 2
    bus = bus_of(servers.settings["RESTMCTS_REDIS_URL"], database)
    assert bus.relay(older_than_seconds=60.0) == 0
    grow_old(database)
    assert bus.relay(older_than_seconds=60.0) == 2
    assert (redis.llen("search"), redis.llen("policy"), unsent(database)) == (1, 1, 0)


def test_a_row_of_the_outbox_that_is_no_message_is_a_dead_letter(
    servers: Stack, database: Database, redis: Redis
) -> None:
    bus = bus_of(servers.settings["RESTMCTS_REDIS_URL"], database)
    with database.transaction() as transaction:
        transaction.execute(insert(OUTBOX).values(name="search.no_such", body="{}", created_at=LONG_AGO))
    assert bus.relay(older_than_seconds=60.0) == 1
    with database.transaction() as transaction:
        assert [row.reason for row in transaction.execute(select(DEAD_LETTERS)).all()] == [
            "no message is named 'search.no_such'"
        ]
    assert unsent(database) == 0


def test_equal_wake_ups_wait_once_until_one_is_taken(servers: Stack, database: Database, redis: Redis) -> None:
    bus = bus_of(servers.settings["RESTMCTS_REDIS_URL"], database)
    bus.publish([WAKE_UP, WAKE_UP])
    assert redis.llen("policy") == 1
    assert not bus.is_drained(Queue.POLICY)
    bus.hear(WAKE_UP)
    bus.publish([WAKE_UP])
    assert redis.llen("policy") == 2
    assert bus.is_drained(Queue.PRM)
