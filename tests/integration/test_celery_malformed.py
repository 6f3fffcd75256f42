"""Whatever lies in a queue, the worker of that queue lives, and what it cannot handle is kept
with its reason.
"""

import base64
import json
import time
from typing import Any

import pytest
from redis import Redis
from restmcts.adapters.buses.celery_bus import celery_app
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.messages.base import Queue
from restmcts.messages.routes import MESSAGES, queue_of
from restmcts.messages.workers import WORKER_OF_QUEUE
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import delete, select

WAIT_SECONDS = 30.0


def envelope(queue: str, headers: Any, body: Any, **changes: Any) -> str:
    """Return a message as kombu lays it into Redis."""
    encoded = base64.b64encode(json.dumps(body).encode()).decode()
    properties = {
        "delivery_tag": f"test-{time.monotonic_ns()}",
        "delivery_info": {"exchange": "", "routing_key": queue},
        "body_encoding": "base64",
    }
    message = {"body": encoded, "content-type": "application/json", "content-encoding": "utf-8"}
    return json.dumps({**message, "headers": headers, "properties": properties, **changes})


def name_of(queue: Queue) -> str:
    return next(name for name in MESSAGES if queue_of(name) == queue)


def malformed(queue: Queue) -> dict[str, str]:
    """Return malformed messages by the text that their reason must hold."""
    name, task = name_of(queue), {"id": "1", "task": name_of(queue)}
    other = next(name for name in MESSAGES if queue_of(name) != queue)
    return {
        "not JSON: Expecting value": "this is no message",
        "nested too deeply": "[" * 100_000,
        "no envelope": "[1, 2]",
        "no delivery_tag": json.dumps({"properties": {}}),
        "not base64": envelope(queue, task, []).replace(base64.b64encode(b"[]").decode(), "a"),
        "no task's name": envelope(queue, {}, [[], {}, {}]),
        "no task's name and id": envelope(queue, {"task": name}, [[], {}, {}]),
        "no message is named": envelope(queue, {"id": "1", "task": f"{queue}.no_such_task"}, [[], {}, {}]),
        "the body is not": envelope(queue, task, {"task": name}),
        f"message {name}: ": envelope(queue, task, [[], {"no_such_field": "\0"}, {}]),
        "does not belong": envelope(queue, {"id": "1", "task": other}, [[], fields_of(other), {}]),
        "content": envelope(queue, task, [], **{"content-type": "application/x-python-serialize"}),
        "a time to be handled at": envelope(queue, {**task, "eta": "tomorrow"}, [[], fields_of(name), {}]),
    }


def fields_of(name: str) -> dict[str, Any]:
    """Return fields of a message about things that do not exist."""
    given = {"tree_ids": [10**9], "run_id": 10**9, "phase_id": 10**9}
    return {field: given[field] for field in MESSAGES[name].model_fields if field in given}


@pytest.mark.parametrize("queue", list(Queue), ids=str)
def test_a_malformed_message_is_kept_and_the_worker_lives(stack: Stack, database: Database, queue: Queue) -> None:
    with database.transaction() as transaction:
        transaction.execute(delete(DEAD_LETTERS))
    before = {member.name: member.pid for member in stack.members()}
    messages = malformed(queue)
    with Redis.from_url(stack.settings["RESTMCTS_REDIS_URL"]) as redis:
        redis.lpush(queue.value, *messages.values())
        celery_app(stack.settings["RESTMCTS_REDIS_URL"]).send_task(name_of(queue), kwargs=fields_of(name_of(queue)))
        rows = await_dead_letters(database, len(messages))
        deadline = time.monotonic() + WAIT_SECONDS
        while redis.llen(queue.value) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert redis.llen(queue.value) == 0, "the good message after the bad ones was not taken"
    assert {row.queue for row in rows} == {queue.value}
    reasons = [row.reason for row in rows]
    assert [text for text in messages if not any(text in reason for reason in reasons)] == [], reasons
    assert {member.name: member.pid for member in stack.members()} == before
    assert stack.faults()[f"{WORKER_OF_QUEUE[queue]}-1"] is None


def await_dead_letters(database: Database, count: int) -> list[Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with database.transaction() as transaction:
            rows = list(transaction.execute(select(DEAD_LETTERS)).all())
        if len(rows) >= count or time.monotonic() > deadline:
            return rows
        time.sleep(0.1)
