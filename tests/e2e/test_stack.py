"""A whole self-training run through workers as processes, PostgreSQL, Redis and S3, by the
command line alone; and what the stack tells of itself meanwhile: every metric that the Grafana
dashboard names, and one trace for each tree.
"""

import json
import re
import subprocess
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from restmcts.adapters.observability.metrics import PORT_FILE
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ScoreSteps
from restmcts.testing.runs import await_end, begin_run, begin_search, faults, small_plan
from restmcts_cli.processes.server_processes import NAME
from restmcts_cli.processes.stack_processes import Stack
from restmcts_prm_scorer.opening import open_scorer
from sqlalchemy import select

Restmcts = Callable[..., subprocess.CompletedProcess[str]]
NEWS = "news.jsonl"
GRAFANA = Path(__file__).parents[2] / "infra/grafana/provisioning/dashboards/restmcts.json"


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
def stack(
    restmcts_anew: Restmcts,
    environment: dict[str, str],
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack") / "stack"
    told = {"RESTMCTS_OTEL_ENDPOINT": f"http://127.0.0.1:{collector.server_port}", "RESTMCTS_RECONCILE_SECONDS": "2"}
    told["RESTMCTS_NOTIFY_COMMAND"] = f"cat >> {folder.parent / NEWS}; echo >> {folder.parent / NEWS}"
    environment.update(told)
    done = restmcts_anew("stack", "up", "--dir", folder, "--workers", "tree-search=2")
    for name in told:
        del environment[name]
    try:
        assert done.returncode == 0, done.stderr
        yield Stack(folder)
    finally:
        done = restmcts_anew("stack", "down", "--dir", folder)
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class EndedRun:
    """A run, its artifacts, and what the workers told when it had ended."""

    database: Database
    artifacts: S3ArtifactStore
    run_id: int
    metrics: str


@pytest.fixture(scope="module")
def ended(
    stack: Stack, puzzles: Sequence[Problem], puzzle_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EndedRun]:
    keys = (stack.settings["RESTMCTS_S3_ACCESS_KEY"], stack.settings["RESTMCTS_S3_SECRET_KEY"])
    cache = tmp_path_factory.mktemp("cache")
    artifacts = S3ArtifactStore(stack.settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, cache, 2**30)
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:12], small_plan(1, num_rounds=3, max_staleness=1))
    assert await_end(database, run_id, seconds=240) == "done"
    ports = [path.read_text() for path in (stack.folder / "workers").glob(f"*/{PORT_FILE}")]
    yield EndedRun(database, artifacts, run_id, "".join(map(scrape, ports)))
    database.close()


def scrape(port: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def value_of(text: str, sample: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample))


def test_a_self_training_run_ends_and_every_tree_is_whole(ended: EndedRun) -> None:
    assert faults(ended.database, ended.run_id) == []
    with ended.database.transaction() as transaction:
        phases = runs.phases_of(transaction, ended.run_id)
        checkpoints = runs.checkpoints_of(transaction, ended.run_id)
        assert transaction.execute(select(DEAD_LETTERS)).all() == []
    assert {phase.state for phase in phases} == {"done"}
    by_name = {phase.name: phase for phase in phases}
    collects = [row for row in phases if row.name.startswith("collect")]
    collected = {row.name: (row.result["trees"], row.spec.get("staleness", 0)) for row in collects}
    assert collected == {"collect-1.1": (4, 0), "collect-1.2": (4, 1), "collect-1": (4, 1)}
    policies = {checkpoint.id: name for name, checkpoint in checkpoints.items()}
    assert [policies[by_name[name].policy_id] for name in collected] == ["base", "base", "policy-1.1"]
    names_of = {
        "policy": ("base", "policy-1.1", "policy-1.2", "policy-1"),
        "value": ("value-0", "value-1.1", "value-1.2"),
    }
    for kind, names in names_of.items():
        weights = {(ended.artifacts.fetch(checkpoints[name].uri) / "model.safetensors").read_bytes() for name in names}
        assert len(weights) == len(names), f"each training of a {kind} model changed its weights"


def test_the_coordinator_notifies_of_the_end_once(stack: Stack, ended: EndedRun) -> None:
    news = stack.folder.parent / NEWS
    for _ in range(100):
        if news.is_file() and news.read_text().endswith("\n"):
            break
        time.sleep(0.1)
    (sent,) = map(json.loads, news.read_text().splitlines())
    with ended.database.transaction() as transaction:
        assert runs.find_run(transaction, sent["run"]).notified_state == "done"  # type: ignore[union-attr]
    assert sent["state"] == "done"
    assert sent["accuracy_last"]["problems"] == 12
    assert sent["command"] == f"restmcts runs show {sent['run']}"


def test_every_metric_of_the_grafana_dashboard_is_scraped(ended: EndedRun) -> None:
    dashboard = json.loads(GRAFANA.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in re.findall(r"restmcts_\w+", expression)}
    scraped_names = set(re.findall(r"^(restmcts_\w+)[ {]", ended.metrics, flags=re.MULTILINE))
    assert len(named) > 25
    assert named - scraped_names == set()


def test_the_numbers_are_those_of_the_run(ended: EndedRun) -> None:
    with ended.database.transaction() as transaction:
        trainings = [row for row in runs.phases_of(transaction, ended.run_id) if row.kind.startswith("train-")]
    num_labelled = value_of(ended.metrics, 'restmcts_trees{state="labelled"}')
    assert num_labelled > 0
    assert (
        value_of(ended.metrics, "restmcts_trees_labelled_total")
        == num_labelled
        == value_of(ended.metrics, "restmcts_trees_ended_total")
    )
    assert value_of(ended.metrics, 'restmcts_trainings_total{outcome="done"}') == len(trainings) > 3
    for sample in ('restmcts_tokens_total{kind="generated"}', "restmcts_expansions_total", "restmcts_verdicts_total"):
        assert value_of(ended.metrics, sample) > 0, sample
    assert value_of(ended.metrics, "restmcts_checkpoint_loads_total") >= 3
    assert value_of(ended.metrics, 'restmcts_messages_total{name="search.advance_trees",outcome="done"}') > 0


def test_an_ensembles_values_guide_a_search(ended: EndedRun) -> None:
    with ended.database.transaction() as transaction:
        known = runs.checkpoints_of(transaction, ended.run_id)
    uri = f"ensemble+{known['value-0'].uri},{known['value-1.1'].uri}?penalty=0.5"
    run_id = begin_search(ended.database, known["base"].uri, uri, 2)
    assert await_end(ended.database, run_id, seconds=120) == "done"
    with ended.database.transaction() as transaction:
        trees = queries.list_trees(transaction, run_id)
        nodes = [queries.tree_with_nodes(transaction, tree.id).nodes for tree in trees]
    steps = [
        (tree.question, node) for tree, listed in zip(trees, nodes, strict=True) for node in listed if node.depth == 1
    ]
    scorer = open_scorer(uri, ended.artifacts, WorkerModelSettings())
    requests = [ScoreSteps(number, (), ((node.step,),)) for number, (_, node) in enumerate(steps)]
    answers = scorer.score([question for question, _ in steps], requests)
    assert len(steps) > 2
    assert [node.model_value for _, node in steps] == pytest.approx(
        [answer.values[0][0] for answer in answers], abs=1e-4
    )


def test_up_again_stops_what_is_too_much_and_leaves_the_rest(restmcts_anew: Restmcts, stack: Stack) -> None:
    again = restmcts_anew("stack", "up", "--dir", stack.folder, "--workers", "search=1")
    assert again.returncode == 0, again.stderr
    status = restmcts_anew("stack", "status", "--dir", stack.folder, "--json")
    pids = {row["name"]: row["pid"] for row in json.loads(status.stdout)}
    assert pids == {member.name: member.pid for member in stack.members() if member.name != "tree-search-2"}


def test_a_trace_holds_one_trees_life_over_all_services(
    restmcts_anew: Restmcts, stack: Stack, ended: EndedRun, collector: Collector
) -> None:
    assert restmcts_anew("stack", "down", "--dir", stack.folder).returncode == 0, "they tell the rest as they end"
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
