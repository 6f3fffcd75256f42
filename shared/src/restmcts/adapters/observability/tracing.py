"""OpenTelemetry: one trace for each tree, over all services, without a word in any message.

The ids of a tree's trace and of its first span follow from the tree's number, so every process
knows them. Only with an endpoint is anything recorded, or OpenTelemetry imported.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from restmcts.errors import InputError

NANOSECONDS = 10**9
Attribute = str | int | float | None


class Tracing:
    """Sends spans of trees to an OTLP endpoint (HTTP)."""

    def __init__(self, service: str, endpoint: str, scope: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        except ImportError as error:
            raise InputError(
                f"RESTMCTS_OTEL_ENDPOINT is set, but OpenTelemetry is not installed ({error}): restmcts[stack]"
            ) from error

        ids = self

        class Ids(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                return ids._root[0] if ids._root is not None else super().generate_trace_id()

            def generate_span_id(self) -> int:
                return ids._root[1] if ids._root is not None else super().generate_span_id()

        self._scope = scope
        self._root: tuple[int, int] | None = None
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": f"restmcts-{service}"}), id_generator=Ids()
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("restmcts")

    def _ids(self, tree_id: int) -> tuple[int, int]:
        digest = hashlib.sha256(f"{self._scope} tree {tree_id}".encode()).digest()
        return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")

    def step(self, name: str, tree_ids: Sequence[int], started_ns: int, **attributes: Attribute) -> None:
        """Record work that was done for trees from `started_ns` (Unix time) until now."""
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        end = time.time_ns()
        for tree_id in tree_ids:
            parent = SpanContext(*self._ids(tree_id), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
            context = set_span_in_context(NonRecordingSpan(parent))
            span = self._tracer.start_span(
                name, context, attributes={"restmcts.tree": tree_id, **attributes}, start_time=started_ns
            )
            span.end(end)

    def whole(self, tree_id: int, started: datetime, ended: datetime, **attributes: Attribute) -> None:
        """Record the whole life of a tree: the span that all others are under."""
        from opentelemetry.context import Context

        self._root = self._ids(tree_id)
        try:
            start = int(started.timestamp() * NANOSECONDS)
            span = self._tracer.start_span(
                "tree", Context(), attributes={"restmcts.tree": tree_id, **attributes}, start_time=start
            )
        finally:
            self._root = None
        span.end(int(ended.timestamp() * NANOSECONDS))

    def close(self) -> None:
        """Send what is still to be sent."""
        self._provider.shutdown()


_tracing: Tracing | None = None


def configure(service: str, endpoint: str, scope: str) -> None:
    """Record from now on, if an endpoint is given; `scope` distinguishes one stack's trees from
    another's.

    Raises:
        InputError: if OpenTelemetry is not installed.
    """
    global _tracing
    _tracing = Tracing(service, endpoint, scope) if endpoint else None


def close() -> None:
    """Send what is still to be sent, and record no more."""
    global _tracing
    if _tracing is not None:
        _tracing.close()
        _tracing = None


@contextmanager
def step(name: str, tree_ids: Sequence[int], **attributes: Attribute) -> Iterator[None]:
    """Record the block as a piece of work for trees."""
    started = time.time_ns()
    try:
        yield
    finally:
        if _tracing is not None:
            _tracing.step(name, tree_ids, started, **attributes)


def whole(tree_id: int, started: datetime | None, ended: datetime | None, **attributes: Attribute) -> None:
    """Record the whole life of a tree."""
    if _tracing is not None and started is not None and ended is not None:
        _tracing.whole(tree_id, started, ended, **attributes)
