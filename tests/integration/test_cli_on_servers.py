"""The command line on real servers, without workers: what it stores, what it sends, and what
the doctor finds.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from restmcts.adapters.sql import migrate
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import stack_queries
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.workers import forget_silent, report
from restmcts.adapters.workers.heartbeat import Heartbeat
from restmcts.adapters.workers.presence import Presence
from restmcts.errors import InputError
from restmcts.messages.base import Queue
from restmcts.messages.commands import AdvanceRun, TrainPolicy
from restmcts.messages.routes import body_of
from restmcts.usecases import steer
from restmcts_cli.main import app
from restmcts_cli.processes.stack_processes import SERVERS, Stack
from typer.testing import CliRunner, Result

from tests.unit.adapters.test_earlier_runs import ARGUMENTS, FIRST_ITERATION, store_run

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), {})
    try:
        for name in SERVERS:
            stack.start_server(name)
        migrate.upgrade(stack.settings["RESTMCTS_DATABASE_URL"])
        yield stack
    finally:
        stack.down()


@pytest.fixture
def call(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Call the command line with the settings of the stack."""
    monkeypatch.chdir(tmp_path)
    for name, value in stack.settings.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def document(result: Result) -> Any:
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def waiting(call: Call, worker: str) -> int:
    """Return how many messages wait for a kind of worker."""
    rows = {row["worker"]: row for row in document(call("workers", "list", "--json"))["kinds"]}
    return int(rows[worker]["messages"])


def model_folder(folder: Path) -> Path:
    path = folder / "model"
    path.mkdir()
    (path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    return path


def test_a_run_is_stored_and_rung_for(call: Call, tmp_path: Path) -> None:
    before = waiting(call, "coordinator")
    made = document(call("runs", "create", "first", "demo:20", "--policy", model_folder(tmp_path), "--json"))
    assert (made["state"], made["problems"]) == ("running", {"train": 18, "held-out": 2})
    assert waiting(call, "coordinator") == before + 1
    (base,) = document(call("checkpoints", "list", "first", "--json"))
    assert base["uri"] == f"artifact:checkpoints/{base['digest']}"
    document(call("checkpoints", "pull", "first", "base", tmp_path / "pulled", "--json"))
    assert (tmp_path / "pulled" / "config.json").read_text() == (tmp_path / "model" / "config.json").read_text()
    assert document(call("runs", "cancel", "first", "--json"))["state"] == "cancelled"


@pytest.mark.parametrize("asked", [("runs", "show", "a\0b"), ("runs", "show", "\udcff"), ("trees", "show", 10**30)])
def test_what_no_database_can_be_asked_is_one_line(call: Call, asked: tuple[object, ...]) -> None:
    result = call(*asked)
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    assert "\n" not in str(result.exception)


def test_a_paused_run_is_not_rung_for_until_it_is_resumed(call: Call) -> None:
    before = waiting(call, "coordinator")
    document(call("runs", "create", "second", "--policy", "someone/model", "--json"))
    document(call("problems", "enqueue", "second", "demo:20", "--json"))
    assert waiting(call, "coordinator") == before
    document(call("runs", "resume", "second", "--json"))
    assert waiting(call, "coordinator") == before + 1


def test_a_run_is_forecast_from_the_runs_of_the_stack_and_nothing_is_stored(call: Call, stack: Stack) -> None:
    before = document(call("runs", "list", "--json"))
    dry = ("runs", "create", "forecast", *ARGUMENTS, "--dry-run", "--json")
    first = document(call(*dry))
    assert (first["source"], first["seconds"], first["calls"]) == ("limits", None, None)
    assert document(call("runs", "list", "--json")) == before
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    store_run(database, "forecast from", num_done=None)
    store_run(database, "half done", num_done=len(FIRST_ITERATION))
    database.close()
    found = document(call(*dry))
    assert found["source"] == "earlier runs" and "the run forecast from" in found["basis"]
    assert "those of its workers then" in found["sentences"][-1]
    assert found["tokens"]["expected"] == 2 * (4 + 2 * (36 + 4))
    half, done = (
        document(call("runs", "resume", name, "--dry-run", "--json")) for name in ("half done", "forecast from")
    )
    assert (half["phases"][0]["name"], half["phases"][0]["num_trees"]) == ("collect-2", 33)
    assert half["tokens"]["expected"] == 2 * (33 + 4)
    assert done["sentences"] == ["Nothing is left: run forecast from is finished."]
    taken = call("runs", "create", "half done", *ARGUMENTS, "--dry-run")
    assert "exists already" in str(taken.exception)
    document(call("runs", "cancel", "half done", "--json"))
    for name in ("half done", "forecast from"):
        assert call("runs", "delete", name, "--yes").exit_code == 0


def test_a_dead_letter_is_sent_again(call: Call, stack: Stack) -> None:
    message = AdvanceRun(run_id=77)
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    with database.transaction() as transaction:
        runs.add_dead_letter(transaction, "coordinator", message.name, body_of(message), "the disk was full")
    database.close()
    before = waiting(call, "coordinator")
    found = {
        check["part"]: check["found"]
        for check in json.loads(call("doctor", "--json").stdout)["checks"]
        if not check["right"]
    }
    assert found["dead letters"] == "1"
    assert len(document(call("dead-letters", "retry", "--all", "--json"))["retried"]) == 1
    assert document(call("dead-letters", "list", "--json")) == []
    assert waiting(call, "coordinator") == before + 1


@pytest.fixture
def workers(stack: Stack, tmp_path: Path) -> Iterator[list[Presence]]:
    """One of each kind that tells of itself, all in this process."""
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    present = []
    for queue in Queue:
        heartbeat = Heartbeat(tmp_path)
        if queue == Queue.TRAINER:
            heartbeat.progress()
            heartbeat.begin(TrainPolicy.name)
        present.append(Presence(database, queue, heartbeat))
        present[-1].start()
    deadline = time.monotonic() + 10
    while len(listed(database)) < len(present) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield present
    for presence in present:
        presence.stop()
    assert listed(database) == []
    database.close()


def listed(database: Database) -> list[stack_queries.WorkerProcess]:
    with database.transaction() as transaction:
        return stack_queries.list_workers(transaction)


def test_each_process_is_listed_with_what_it_does(call: Call, stack: Stack, workers: list[Presence]) -> None:
    processes = {row["worker"]: row for row in document(call("workers", "list", "--json"))["processes"]}
    assert len(processes) == len(workers) == len(Queue)
    assert {row["pid"] for row in processes.values()} == {os.getpid()}
    trainer = processes["trainer"]
    assert (trainer["state"], trainer["doing"], trainer["num_done"]) == ("busy", "trainer.train_policy", 1)
    assert processes["tree-search"]["state"] == "idle"
    workers[0].stop()
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    seen = listed(database)[0]
    with database.transaction() as transaction:
        report(transaction, {**asdict(seen), "id": "killed", "seen_at": seen.seen_at - timedelta(seconds=60)})
    assert [row["state"] for row in document(call("workers", "list", "--json"))["processes"]].count("silent") == 1
    with database.transaction() as transaction:
        forget_silent(transaction, 30.0)
    assert len(listed(database)) == len(Queue) - 1
    database.close()


def test_the_doctor_misses_workers(call: Call) -> None:
    result = call("doctor")
    assert result.exit_code == 1
    assert "WRONG  workers" in result.stdout and "0 trainer" in result.stdout


@pytest.mark.usefixtures("workers")
def test_the_doctor_knows_what_is_wrong(call: Call, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    found = document(call("doctor", "--json"))
    assert [check["part"] for check in found["checks"] if check["right"]] == [
        "sandbox",
        "settings",
        "database",
        "tables",
        "redis",
        "bucket",
        "workers",
        "queues",
        "requests",
        "outbox",
        "dead letters",
    ]
    with Redis.from_url(stack.settings["RESTMCTS_REDIS_URL"]) as server:
        server.config_set("maxmemory-policy", "allkeys-lru")
        result = call("doctor")
        server.config_set("maxmemory-policy", "noeviction")
    assert result.exit_code == 1
    assert "WRONG  redis" in result.stdout
    assert "config set maxmemory-policy noeviction" in result.stdout
    monkeypatch.setenv("RESTMCTS_S3_BUCKET", "no-such-bucket")
    assert "WRONG  bucket" in call("doctor").stdout


def test_the_doctor_finds_a_database_without_tables(call: Call, stack: Stack) -> None:
    migrate.downgrade(stack.settings["RESTMCTS_DATABASE_URL"])
    result = call("doctor")
    assert "WRONG  tables" in result.stdout and "fix: restmcts db upgrade" in result.stdout
    assert call("db", "upgrade").exit_code == 0
    assert "WRONG  tables" not in call("doctor").stdout


def test_watching_outlives_a_restart_of_the_database(call: Call, stack: Stack, tmp_path: Path) -> None:
    document(call("runs", "create", "watched", "demo:3", "--policy", model_folder(tmp_path), "--json"))

    def restart_and_cancel() -> None:
        time.sleep(1.5)
        stack.kill("postgres", signal.SIGQUIT)
        time.sleep(3.0)
        stack.start_server("postgres")
        time.sleep(2.0)
        database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
        with database.transaction() as transaction:
            steer.cancel(transaction, "watched")
        database.close()

    thread = threading.Thread(target=restart_and_cancel)
    thread.start()
    result = call("runs", "watch", "watched", "--json")
    thread.join()
    assert json.loads(result.stdout)["state"] == "cancelled"
    assert result.stderr.count("does not answer") == 1
    assert "answers again" in result.stderr
