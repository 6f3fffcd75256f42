"""What a stack tells of itself: every metric that the Grafana dashboard names, and one trace
for each tree.
"""

import json
import os
import re
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from restmcts.adapters.observability.metrics import PORT_FILE
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.messages.workers import WORKERS
from restmcts.testing.runs import await_end, begin_run, small_plan
from restmcts_cli.processes.server_processes import NAME
from restmcts_cli.processes.stack_processes import Stack

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "infra/grafana/provisioning/dashboards/restmcts.json"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans: (service, name, trace id, span id, parent id)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, bytes, bytes, bytes]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for group in request.resource_spans:
                    service = next(
                        one.value.string_value for one in group.resource.attributes if one.key == "service.name"
                    )
                    for scope in group.scope_spans:
                        collector.spans += [
                            (service, s.name, s.trace_id, s.span_id, s.parent_span_id) for s in scope.spans
                        ]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def scraped(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, puzzles: Sequence[Problem], puzzle_policy: Path
) -> tuple[Stack, str]:
    """The stack after a small run, stopped, and what its workers told before that."""
    folder = tmp_path_factory.mktemp("observed")
    named = {key: value for key, value in os.environ.items() if key.startswith("RESTMCTS_")}
    settings = {"RESTMCTS_OTEL_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    stack = Stack(folder / "stack", {**named, **settings, "RESTMCTS_RECONCILE_SECONDS": "2"})
    try:
        stack.up(dict.fromkeys(WORKERS, 1))
        keys = (stack.settings["RESTMCTS_S3_ACCESS_KEY"], stack.settings["RESTMCTS_S3_SECRET_KEY"])
        artifacts = S3ArtifactStore(stack.settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, folder / "cache", 2**30)
        database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
        run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:4], small_plan(num_iterations=1))
        assert await_end(database, run_id, seconds=200) == "done"
        database.close()
        return stack, "".join(_scrape(stack, f"{kind}-1") for kind in WORKERS)
    finally:
        stack.down()


def _scrape(stack: Stack, worker: str) -> str:
    port = int((stack.folder / "workers" / worker / PORT_FILE).read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def _value(text: str, sample: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample))


def test_every_metric_of_the_grafana_dashboard_is_scraped(scraped: tuple[Stack, str]) -> None:
    _, text = scraped
    dashboard = json.loads(GRAFANA.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in re.findall(r"restmcts_\w+", expression)}
    scraped_names = set(re.findall(r"^(restmcts_\w+)[ {]", text, flags=re.MULTILINE))
    assert len(named) > 25
    assert named - scraped_names == set()


def test_the_numbers_are_those_of_the_run(scraped: tuple[Stack, str]) -> None:
    _, text = scraped
    num_labelled = _value(text, 'restmcts_trees{state="labelled"}')
    assert num_labelled > 0
    assert _value(text, "restmcts_trees_labelled_total") == num_labelled == _value(text, "restmcts_trees_ended_total")
    assert _value(text, 'restmcts_trainings_total{outcome="done"}') == 3
    for sample in ('restmcts_tokens_total{kind="generated"}', "restmcts_expansions_total", "restmcts_verdicts_total"):
        assert _value(text, sample) > 0, sample
    assert _value(text, "restmcts_checkpoint_loads_total") >= 3
    assert _value(text, 'restmcts_messages_total{name="search.advance_trees",outcome="done"}') > 0


def test_a_trace_holds_one_trees_life_over_all_services(scraped: tuple[Stack, str], collector: Collector) -> None:
    traces: dict[bytes, list[tuple[str, str, bytes, bytes, bytes]]] = defaultdict(list)
    for span in collector.spans:
        traces[span[2]].append(span)
    searched = [spans for spans in traces.values() if any(span[1] == "model.score" for span in spans)]
    assert searched
    for spans in searched:
        whole = [span for span in spans if span[1] == "tree"]
        assert len(whole) == 1
        assert {span[1] for span in spans} == {"tree", "search", "model.propose", "model.score", "label"}
        assert {span[0] for span in spans} == {f"restmcts-{queue}" for queue in ("search", "policy", "prm", "labels")}
        assert {span[4] for span in spans if span is not whole[0]} == {whole[0][3]}
