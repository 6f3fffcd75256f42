"""The command line on real servers, without workers: what it stores, what it sends, and what the doctor finds."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from restmcts.adapters.sql import migrate, runs
from restmcts.adapters.sql.database import Database
from restmcts.messages.commands import AdvanceRun
from restmcts.messages.routes import body_of
from restmcts_cli.main import app
from restmcts_cli.stack_processes import SERVERS, Stack
from typer.testing import CliRunner, Result

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
    rows = {row["worker"]: row for row in document(call("workers", "list", "--json"))}
    return int(rows[worker]["messages"])


def model_folder(folder: Path) -> Path:
    path = folder / "model"
    path.mkdir()
    (path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    return path


def test_a_run_is_stored_and_rung_for(call: Call, tmp_path: Path) -> None:
    before = waiting(call, "coordinator")
    made = document(call("runs", "create", "first", "demo:20", "--policy", model_folder(tmp_path), "--json"))
    assert (made["state"], made["problems"]) == ("running", {"train": 20, "bootstrap": 20})
    assert waiting(call, "coordinator") == before + 1
    (base,) = document(call("checkpoints", "list", "first", "--json"))
    assert base["uri"] == f"artifact:checkpoints/{base['digest']}"
    document(call("checkpoints", "pull", "first", "base", tmp_path / "pulled", "--json"))
    assert (tmp_path / "pulled" / "config.json").read_text() == (tmp_path / "model" / "config.json").read_text()
    assert document(call("runs", "cancel", "first", "--json"))["state"] == "cancelled"


def test_a_paused_run_is_not_rung_for_until_it_is_resumed(call: Call) -> None:
    before = waiting(call, "coordinator")
    document(call("runs", "create", "second", "--policy", "someone/model", "--json"))
    document(call("problems", "enqueue", "second", "demo:20", "--json"))
    assert waiting(call, "coordinator") == before
    document(call("runs", "resume", "second", "--json"))
    assert waiting(call, "coordinator") == before + 1


def test_a_dead_letter_is_sent_again(call: Call, stack: Stack) -> None:
    message = AdvanceRun(run_id=77)
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    with database.transaction() as transaction:
        runs.add_dead_letter(transaction, "coordinator", message.name, body_of(message), "the disk was full")
    database.close()
    before = waiting(call, "coordinator")
    assert "1" in next(check["found"] for check in json.loads(call("doctor", "--json").stdout)["checks"] if not check["right"])
    assert len(document(call("dead-letters", "retry", "--all", "--json"))["retried"]) == 1
    assert document(call("dead-letters", "list", "--json")) == []
    assert waiting(call, "coordinator") == before + 1


def test_the_doctor_knows_what_is_wrong(call: Call, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    found = document(call("doctor", "--json"))
    assert [check["part"] for check in found["checks"] if check["right"]] == [
        "settings",
        "database",
        "tables",
        "redis",
        "bucket",
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
    assert "WRONG  tables" in result.stdout and "mend: restmcts db upgrade" in result.stdout
    assert call("db", "upgrade").exit_code == 0
    assert call("doctor").exit_code == 0
