"""What people ask of Redis: the lengths of the queues, and whether the server keeps what it is
given.
"""

from restmcts.errors import StorageError
from restmcts.messages.base import Queue

# kombu keeps a list for each of these priorities; the first has no suffix
PRIORITIES = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"
TIMEOUT_SECONDS = 5.0


def queue_lengths(redis_url: str) -> dict[str, int]:
    """Return how many messages wait in each queue, over all priorities; those that a worker holds
    are not among them.

    Raises:
        StorageError: if Redis does not answer.
    """
    from redis import Redis, RedisError

    try:
        with Redis.from_url(
            redis_url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS
        ) as server:
            return {queue.value: sum(int(server.llen(key)) for key in _keys(queue)) for queue in Queue}
    except RedisError as error:
        raise StorageError(f"redis: {error}") from error


def server_options(redis_url: str, names: tuple[str, ...]) -> dict[str, str | None]:
    """Return options of the server by name; None for one that it does not return.

    Raises:
        StorageError: if Redis does not answer.
    """
    from redis import Redis, RedisError, ResponseError

    found: dict[str, str | None] = {}
    try:
        with Redis.from_url(
            redis_url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS, decode_responses=True
        ) as server:
            server.ping()
            for name in names:
                try:
                    found[name] = dict(server.config_get(name)).get(name)
                except ResponseError:
                    found[name] = None
    except RedisError as error:
        raise StorageError(f"redis: {error}") from error
    return found


def _keys(queue: Queue) -> list[str]:
    return [f"{queue.value}{SEPARATOR}{priority}" if priority else queue.value for priority in PRIORITIES]
