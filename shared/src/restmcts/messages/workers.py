"""The kinds of worker, by the one name that people use for each."""

from restmcts.errors import InputError
from restmcts.messages.base import Queue

WORKERS: dict[str, Queue] = {
    "coordinator": Queue.COORDINATOR,
    "policy-generator": Queue.POLICY,
    "prm-scorer": Queue.PRM,
    "tree-search": Queue.SEARCH,
    "value-labeler": Queue.LABELS,
    "trainer": Queue.TRAINER,
}
WORKER_OF_QUEUE: dict[str, str] = {queue.value: worker for worker, queue in WORKERS.items()}


def worker_named(name: str) -> str:
    """Return the kind of worker that a person names, by its name or by that of its queue.

    Raises:
        InputError: if there is no such kind.
    """
    if name in WORKERS:
        return name
    if name in WORKER_OF_QUEUE:
        return WORKER_OF_QUEUE[name]
    raise InputError(f"no kind of worker is named {name!r}; there are {', '.join(WORKERS)}")
