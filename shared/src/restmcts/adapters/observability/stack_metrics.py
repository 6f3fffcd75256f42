"""What the database and the broker say of the whole stack, read anew at every scrape; the
coordinator serves it.
"""

import logging
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from restmcts.adapters.buses.broker import queue_lengths
from restmcts.adapters.sql.database import OUTBOX, Database, Transaction
from restmcts.adapters.sql.reads import stack_queries
from restmcts.adapters.sql.state import blocks
from restmcts.adapters.sql.state.requests import REQUESTS, WAITING
from restmcts.adapters.sql.state.trees import RUNS, TREES
from restmcts.adapters.sql.tables import RequestKind, RunState, TreeState
from restmcts.errors import StorageError
from restmcts.messages.base import Queue

log = logging.getLogger(__name__)


class StackCollector(Collector):
    """Gauges of trees, runs, requests, queues and the outbox. A server that is away leaves its
    gauges out.
    """

    def __init__(self, database: Database, redis_url: str) -> None:
        self._database = database
        self._redis_url = redis_url

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        try:
            with self._database.transaction() as transaction:
                yield from _stored(transaction)
            yield _labelled(
                "restmcts_queue_messages", "Messages that wait.", "queue", queue_lengths(self._redis_url), list(Queue)
            )
        except StorageError as error:
            log.warning("metrics of the stack are left out (%s)", error)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the registry then asks no server when the collector is registered."""
        return []


def _stored(transaction: Transaction) -> Iterable[Metric]:
    by_state = {
        row[0]: int(row[1]) for row in transaction.execute(select(TREES.c.state, func.count()).group_by(TREES.c.state))
    }
    yield _labelled("restmcts_trees", "Trees of all runs.", "state", by_state, list(TreeState))
    shown = select(blocks.SHOWN_STATE).select_from(RUNS).subquery()
    by_state = {
        row[0]: int(row[1]) for row in transaction.execute(select(shown.c.state, func.count()).group_by(shown.c.state))
    }
    yield _labelled("restmcts_runs", "Runs.", "state", by_state, [*RunState, blocks.BLOCKED])
    requests = {row.kind: row for row in stack_queries.open_requests(transaction)}
    for state, meaning in (
        ("waiting", "wait"),
        ("leased", "are leased by a worker"),
        ("overdue", "are leased for longer than their lease lasts"),
    ):
        counts = {kind: getattr(row, state) for kind, row in requests.items()}
        yield _labelled(f"restmcts_requests_{state}", f"Requests that {meaning}.", "kind", counts, list(RequestKind))
    yield _labelled(
        "restmcts_queue_age_seconds",
        "Time since the tree of the longest waiting request went on.",
        "kind",
        _ages(transaction),
        list(RequestKind),
    )
    yield _plain(
        "restmcts_outbox_age_seconds",
        "Age of the oldest unsent message.",
        stack_queries.outbox_age_seconds(transaction),
    )
    number = transaction.execute(select(func.count()).select_from(OUTBOX)).scalar_one()
    yield _plain("restmcts_outbox_messages", "Unsent messages.", number)
    yield _plain(
        "restmcts_dead_letters", "Dead letters that nobody has decided on.", stack_queries.num_dead_letters(transaction)
    )


def _ages(transaction: Transaction) -> dict[str, float]:
    statement = (
        select(REQUESTS.c.kind, func.min(TREES.c.updated_at))
        .join(TREES, TREES.c.id == REQUESTS.c.tree_id)
        .where(WAITING)
        .group_by(REQUESTS.c.kind)
    )
    now, rows = transaction.now(), transaction.execute(statement)
    return {kind: max((now - oldest).total_seconds(), 0.0) for kind, oldest in rows if oldest is not None}


def _labelled(
    name: str, text: str, label: str, values: dict[str, int] | dict[str, float], known: Iterable[str]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value in known:
        family.add_metric([str(value)], values.get(value, 0))
    return family


def _plain(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
