"""Commands over HTTP, against a dashboard that is served for real: without a database here, by a
project's token.
"""

import json
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr, TypeAdapter
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import projects, runs
from restmcts.domain.access import Role
from restmcts.errors import InputError, NotFoundError, RestMctsError, StorageError
from restmcts.settings import ApiSettings
from restmcts.usecases import steer
from restmcts_cli.remote import client, new_runs, trees
from restmcts_cli.remote.client import Api
from typer.testing import Result

Command = Callable[..., Result]
Shown = Callable[..., str]
Document = Callable[..., Any]
MINE = ("--policy", "Qwen/Qwen3-0.6B")


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    rows = ({"question": f"What is {number} + 1?", "answer": number + 1} for number in range(25))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refusal(result: Result, kind: type[RestMctsError] = InputError) -> str:
    assert isinstance(result.exception, kind), (result.output, result.exception)
    assert "rmp_" not in result.output + str(result.exception)
    return str(result.exception)


def asked_in(counts: dict[str, int]) -> int:
    """Return how many problems for training there are, those that are held out among them."""
    return counts["train"] + counts.get("held-out", 0)


def audit(database: Database) -> list[tuple[str, str]]:
    with database.transaction() as transaction:
        return [(row.action, row.subject) for row in projects.audit(transaction, "physics", 100)[::-1]]


def test_a_run_is_created_filled_shown_and_steered(
    database: Database, problems: Path, shown: Shown, document: Document, call: Command
) -> None:
    created = document("runs", "create", "sums", problems, *MINE, "--test", problems, "--held-out", 2, "--paused")
    assert created["state"] == "paused" and created["problems"]["test"] == 25
    assert asked_in(created["problems"]) == 25
    assert asked_in(document("problems", "enqueue", "sums", problems, "--limit", 3)["added"]) == 3
    assert [row["name"] for row in document("runs", "list")] == ["sums", "mine"]
    assert "sums" in shown("runs", "list")
    assert document("runs", "resume", "sums", "--max-tokens", 5000) == {"run": "sums", "state": "running"}
    assert "run sums is paused" in call("runs", "pause", "sums").stderr
    assert refusal(call("runs", "pause", "sums")).startswith(
        "run sums is paused; this can be done to a run that is run"
    )
    found = document("runs", "show", "sums")
    assert (found["state"], found["max_tokens"], found["tokens_spent"]) == ("paused", 5000, 0)
    text = shown("runs", "show", "sums")
    assert "0 of 5,000 spent" in text and "grade-base" in text and "pending" in text
    assert document("runs", "cancel", "sums")["state"] == "cancelled"
    watched = call("runs", "watch", "sums")
    assert isinstance(watched.exception, RestMctsError) and "run sums was cancelled" in str(watched.exception)
    file = shown("runs", "spec", "sums")
    assert 'problems = "inline"' in file and 'policy = "Qwen/Qwen3-0.6B"' in file
    steered = [("run.resume", "sums"), ("run.pause", "sums"), ("run.cancel", "sums")]
    assert audit(database) == [("run.create", "sums"), ("problems.add", "sums"), *steered]


def test_trees_and_checkpoints_are_shown_as_with_the_database(
    database: Database, workdir: Path, shown: Shown, document: Document, call: Command
) -> None:
    local = ("--workdir", workdir)
    for command in (
        ("runs", "list"),
        ("trees", "list", "mine"),
        ("trees", "list", "mine", "--phase", "collect-1", "--solved"),
        ("trees", "show", 5),
        ("checkpoints", "list", "mine"),
    ):
        assert document(*command) == document(*command, *local), command
    assert shown("trees", "show", 5) == shown("trees", "show", 5, *local)
    assert shown("trees", "export", 5) == shown("trees", "export", 5, *local)
    assert shown("trees", "list", "mine", "--limit", 2) == shown("trees", "list", "mine", "--limit", 2, *local)
    over_http, stored = document("runs", "show"), document("runs", "show", *local)
    shared = over_http.keys() & stored.keys()
    assert {name: over_http[name] for name in shared} == {name: stored[name] for name in shared}
    assert {"phases", "promoted", "trees", "tokens", "state"} <= shared
    assert refusal(call("checkpoints", "list")).startswith("name a run")
    assert refusal(call("trees", "list", "nowhere"), NotFoundError) == "project physics has no run 'nowhere'"


def test_large_files_are_sent_in_parts(
    database: Database, problems: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_runs, "MAX_PROBLEMS", 10)
    created = document("runs", "create", "sums", problems, *MINE, "--test", problems, "--held-out", 3)
    assert created["state"] == "running"
    assert audit(database) == [("run.create", "sums"), *[("problems.add", "sums")] * 4, ("run.resume", "sums")]
    with database.transaction() as transaction:
        run = queries.run_named(transaction, "sums")
        sets = {one.set: one.num_problems for one in queries.list_problem_sets(transaction, run.id)}
        questions = [one.question for one in queries.list_problems(transaction, run.id, "test", 99)]
    assert sets == created["problems"] and sets["test"] == asked_in(sets) == 25
    assert questions == [f"What is {number} + 1?" for number in range(25)]


@pytest.mark.usefixtures("database")
def test_what_there_is_not_over_http_is_named(problems: Path, call: Command) -> None:
    refused = refusal(call("runs", "create", "sums", problems, *MINE, "--dry-run"))
    assert refused.startswith("--dry-run: over HTTP nothing is forecast")
    refused = refusal(call("runs", "create", "sums", problems, "--policy", "./mymodel"))
    assert "policy: './mymodel' cannot be named over HTTP" in refused and "give a folder" not in refused


def test_a_part_that_fails_leaves_a_paused_run_and_says_what_to_do(
    database: Database, problems: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_runs, "MAX_PROBLEMS", 10)
    with problems.open("a") as file:
        file.write('{"question": "no answer"}\n')
    refused = refusal(call("runs", "create", "sums", problems, *MINE, "--held-out", 0, "--strict"))
    assert "line 26" in refused
    assert "run sums is stored, paused, with 20 problems in train" in refused
    assert "`restmcts runs resume sums`" in refused and "`restmcts runs cancel sums`" in refused
    with database.transaction() as transaction:
        assert queries.run_named(transaction, "sums").state == "paused"
    partly = refusal(call("problems", "enqueue", "sums", problems, "--strict"))
    assert "line 26" in partly and "run sums has got 20 problems in train" in partly


def test_what_the_api_refuses_is_refused_in_its_words(
    database: Database, problems: Path, tmp_path: Path, call: Command
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    refused = refusal(call("runs", "create", "sums", problems, "--policy", folder))
    assert f"policy: '{folder}' cannot be named over HTTP" in refused
    assert "leave it out" in refusal(call("runs", "create", "sums", problems, *MINE, "--project", "physics"))
    bench = ("--set", "promotion.value_bench=/etc")
    assert "cannot be sent over HTTP" in refusal(call("runs", "create", "sums", problems, *MINE, *bench))
    assert refusal(call("runs", "create", "mine", problems, *MINE)).startswith("a run named 'mine' exists already")
    with database.transaction() as transaction:
        runs.create_run(transaction, "theirs", "rest-em", 0, {})
    for command in (("show", "theirs"), ("cancel", "theirs"), ("spec", "theirs")):
        assert refusal(call("runs", *command), NotFoundError) == "project physics has no run 'theirs'"
    assert audit(database) == []


def test_a_token_that_may_not_or_is_none_is_refused(
    database: Database, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as transaction:
        reader = projects.issue_token(transaction, "physics", "reader", Role.READ)
    monkeypatch.setenv("RESTMCTS_API_TOKEN", reader)
    assert refusal(call("runs", "cancel", "mine")) == "token reader may read; this needs one that may run"
    monkeypatch.setenv("RESTMCTS_API_TOKEN", "rmp_wrong")
    assert "does not accept RESTMCTS_API_TOKEN" in refusal(call("runs", "list"))
    monkeypatch.setenv("RESTMCTS_API_TOKEN", "rmp_\u00e9")
    assert "what no token does" in refusal(call("runs", "list"))
    monkeypatch.delenv("RESTMCTS_API_TOKEN")
    assert "RESTMCTS_API_TOKEN: it is not set" in refusal(call("runs", "list"))


@pytest.mark.parametrize(
    "url", ["here", "ftp://here", "http://", "http://me:secret@here", "http://here?a=b", "http://a b"]
)
def test_an_address_that_is_none_is_refused(
    database: Database, call: Command, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("RESTMCTS_API_URL", url)
    refused = refusal(call("runs", "list"))
    assert refused.startswith("setting RESTMCTS_API_URL:") and "secret" not in refused


class Elsewhere(BaseHTTPRequestHandler):
    """Answers as no API does."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {
        "redirect": (302, {"Location": "http://127.0.0.1:9/stolen"}, b""),
        "page": (200, {}, b"<html>"),
        "other": (200, {}, b'[{"name": 1}]'),
        "down": (503, {}, b'{"reason": "the database \\u001b[31m is away"}'),
        "missing": (404, {}, b"<html>"),
        "host": (400, {}, b"Invalid host header"),
        "deep": (200, {}, b"[" * 100_000),
        "large": (200, {}, b"[" + b" " * 2000 + b"]"),
        "cut": (200, {"Content-Length": "100"}, b"[]"),
        "coloured": (200, {}, b'{"run": "mine", "state": "\\u001b[31mpaused"}'),
    }
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, headers, body = self.answers[self.path.split("/")[1]]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_is_none_or_gone_is_named(
    database: Database, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    address = f"http://127.0.0.1:{server.server_port}"
    expected: dict[str, tuple[str, type[RestMctsError]]] = {
        "redirect": ("is elsewhere (302)", InputError),
        "page": ("answers what this version does not understand", StorageError),
        "other": ("answers what this version does not understand", StorageError),
        "down": ("the database \\x1b[31m is away; try again", StorageError),
        "missing": ("serves no API", InputError),
        "host": ("Invalid host header", InputError),
        "deep": ("answers what this version does not understand", StorageError),
        "large": ("answers more than 1,000 bytes", StorageError),
        "cut": ("does not answer", StorageError),
    }
    for name, (reason, kind) in expected.items():
        monkeypatch.setenv("RESTMCTS_API_URL", f"{address}/{name}")
        monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1000 if name == "large" else 10**6)
        assert reason in refusal(call("runs", "list"), kind), name
    assert Elsewhere.asked == [f"/{name}/api/v1/runs" for name in expected]
    monkeypatch.setenv("RESTMCTS_API_URL", f"{address}/coloured")
    assert "run mine is \\x1b[31mpaused" in call("runs", "pause", "mine").stderr
    monkeypatch.setenv("RESTMCTS_API_URL", f"{address}/host")
    server.shutdown()
    server.server_close()
    gone = refusal(call("runs", "list"), StorageError)
    assert gone.startswith(f"{address}/host does not answer") and "check RESTMCTS_API_URL" in gone


@pytest.mark.parametrize("name", [".", "..", "a/b", "\udcff"])
def test_a_name_that_no_address_has_is_refused(database: Database, call: Command, name: str) -> None:
    refused = call("runs", "show", name).exception
    assert isinstance(refused, InputError) and ("over HTTP" in str(refused) or "not valid Unicode" in str(refused))
    assert isinstance(call("trees", "list", "mine", "--phase", "\udcff").exception, InputError)


@pytest.mark.parametrize("parents", [(None, 1), (None, 2), (0, 0), (None, None)])
def test_a_tree_that_is_none_is_not_shown(
    parents: tuple[int | None, ...], document: Document, database: Database
) -> None:
    found = document("trees", "show", 5)
    found["nodes"] = [{**found["nodes"][1], "node_id": number, "parent_id": one} for number, one in enumerate(parents)]

    class Answers(Api):
        def get(self, kind: type[Any], *path: str, **query: object) -> Any:
            return TypeAdapter(kind).validate_python(found)

    with pytest.raises(StorageError, match="do not hang together"):
        trees.tree(Answers(ApiSettings(api_url="http://here", api_token=SecretStr("rmp_"))), 5)


def test_a_work_folder_and_a_database_come_before_the_api(
    database: Database,
    workdir: Path,
    tmp_path: Path,
    document: Document,
    call: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RESTMCTS_API_URL", "http://127.0.0.1:9")
    copied = Path(shutil.copytree(workdir, tmp_path / "copied"))
    assert [row["name"] for row in document("runs", "list", "--workdir", copied)] == ["mine"]
    monkeypatch.setenv("RESTMCTS_DATABASE_URL", "postgresql+psycopg://me@127.0.0.1:9/none")
    assert "127.0.0.1:9/api" not in str(call("runs", "list").exception)


def test_a_paused_run_is_watched_until_it_ends(
    database: Database, problems: Path, call: Command, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    document("runs", "create", "sums", problems, *MINE, "--paused")
    looks: list[float] = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            with database.transaction() as transaction:
                runs.pause_run(transaction, queries.run_named(transaction, "sums").id, "token budget of 5 spent")
        if len(looks) == 3:
            with database.transaction() as transaction:
                steer.cancel(transaction, "sums")

    monkeypatch.setattr("restmcts_cli.remote.runs.time.sleep", wait)
    watched = call("runs", "watch", "sums")
    assert "run sums is paused: token budget of 5 spent; to go on: restmcts runs resume sums --max-tokens LARGER" in (
        watched.stderr
    )
    assert str(watched.exception) == "run sums was cancelled"
