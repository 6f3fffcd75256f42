"""A worker that loses Redis between a message and its acknowledgement goes on taking messages
once Redis is back.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection
from redis import RedisError
from restmcts.adapters.buses.celery_intake import transport_for
from restmcts_cli.processes.stack_processes import Stack

pytestmark = pytest.mark.integration


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, {})
    try:
        stack.start_server("redis")
        yield stack
    finally:
        stack.down()


def refuse(name: str, body: str, reason: str) -> None:
    raise AssertionError(f"{name}: {reason}")


def test_a_message_that_could_not_be_acknowledged_does_not_fill_the_prefetch(own_redis: Stack) -> None:
    url = own_redis.settings["RESTMCTS_REDIS_URL"]
    with Connection(url, transport=transport_for(refuse), transport_options={"visibility_timeout": 300}) as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        with connection.SimpleQueue("search", channel=channel) as queue:
            queue.put({"number": 1})
            message = queue.get(timeout=5)
            assert not channel.qos.can_consume()
            own_redis.kill("redis", signal.SIGKILL)
            own_redis.stop("redis")
            with pytest.raises((RedisError, OSError)):
                message.ack()
            assert channel.qos.can_consume()
            own_redis.start_server("redis")
