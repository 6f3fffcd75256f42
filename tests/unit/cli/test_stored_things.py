"""Checkpoints, data sets, dead letters, workers, tables and the doctor, on a work folder."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.errors import InputError, StorageError
from restmcts.messages.commands import AdvanceRun
from restmcts.messages.routes import body_of
from restmcts.usecases import steer
from restmcts_cli.main import app
from typer.main import get_command
from typer.testing import Result

Shown = Callable[..., str]
Document = Callable[..., Any]
Command = Callable[..., Result]


def database_of(workdir: Path) -> Database:
    return Database(f"sqlite:///{workdir / 'run.db'}")


@pytest.fixture
def trained(workdir: Path, tmp_path: Path) -> Path:
    """The work folder, with a checkpoint that lies in its artifacts."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    artifact = FolderArtifactStore(workdir / "artifacts").put(model, "checkpoints", {})
    database = database_of(workdir)
    with database.transaction() as transaction:
        run = runs.find_run(transaction, "mine")
        lineage = {"phase": "policy-1", "seed": 3}
        runs.add_checkpoint(transaction, run.id, "policy-1", "policy", artifact.uri, artifact.digest, "base", lineage)  # type: ignore[union-attr]
    database.close()
    return workdir


def test_checkpoints_are_listed_shown_and_pulled(
    trained: Path, document: Document, shown: Shown, call: Command, tmp_path: Path
) -> None:
    rows = document("checkpoints", "list", "mine", "--workdir", trained)
    assert [row["name"] for row in rows] == ["base", "value-0", "policy-1"]
    assert "someone/model" in shown("checkpoints", "list", "--workdir", trained)
    assert document("checkpoints", "show", "mine", "policy-1", "--workdir", trained)["lineage"]["seed"] == 3
    out = tmp_path / "pulled"
    shown("checkpoints", "pull", "mine", "policy-1", out, "--workdir", trained)
    assert (out / "config.json").read_text() == "{}"
    assert "is not empty" in str(call("checkpoints", "pull", "mine", "policy-1", out, "--workdir", trained).exception)
    assert "a model of the hub" in str(
        call("checkpoints", "pull", "mine", "base", tmp_path / "b", "--workdir", trained).exception
    )
    assert "it has base, value-0, policy-1" in str(
        call("checkpoints", "show", "mine", "x", "--workdir", trained).exception
    )


@pytest.mark.parametrize("command", [("checkpoints", "pull", "mine"), ("datasets", "export", "mine")])
def test_who_may_not_write_there_is_told_the_way_out_and_nothing_is_left(
    trained: Path, call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, str, str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "out")

    for written in ("pathlib.Path.write_text", "os.makedirs"):
        monkeypatch.setattr(written, refuse)
    out = tmp_path / "out"
    options = ["--format", "paper-json"] if command[1] == "export" else []
    said = str(call(*command, "policy-1", out, *options, "--workdir", trained).exception)
    assert f"{out}: not written: user {os.getuid()} may not write there (Permission denied); name a folder" in said
    assert "CLI_UID in .env" in said
    assert not out.exists()


def test_a_row_is_traced_to_its_tree_and_the_tree_to_its_rows(
    workdir: Path, document: Document, shown: Shown, call: Command
) -> None:
    rows = document("datasets", "show", "mine", "policy-1", "--rows", 100, "--workdir", workdir)["rows"]
    for number, row in enumerate(rows):
        found = document("datasets", "trace", "mine", "policy-1", number, "--workdir", workdir)
        assert found["row"] == row
        assert found["problem"]["question"] == row["question"]
        assert (found["tree"]["id"], found["tree"]["phase"]) == (row["tree_id"], "collect-1")
        assert found["tree"]["search"]["algorithm"] == "mcts-star"
        assert [(node["node_id"], node["verdict"]) for node in found["nodes"]] == [(row["node_id"], "right")]
        assert (found["policy"]["name"], found["value"]["name"]) == ("base", "value-0")
        back = document("trees", "rows", row["tree_id"], "--workdir", workdir)
        assert (number, row["node_id"]) in [(one["number"], one["node_id"]) for one in back]
    assert document("trees", "rows", 1, "--workdir", workdir) == []  # a graded tree trains nothing
    assert "seed" in shown("datasets", "trace", "mine", "policy-1", 0, "--workdir", workdir)
    beyond = call("datasets", "trace", "mine", "policy-1", len(rows), "--workdir", workdir)
    assert f"has the rows 0 to {len(rows) - 1}" in str(beyond.exception)


def test_a_person_promotes_a_checkpoint_and_may_take_it_back(trained: Path, document: Document, call: Command) -> None:
    def promoted() -> list[str]:
        return [row["name"] for row in document("checkpoints", "list", "mine", "--workdir", trained) if row["promoted"]]

    assert promoted() == []
    document("checkpoints", "promote", "mine", "policy-1", "--workdir", trained)
    document("checkpoints", "promote", "mine", "value-0", "--workdir", trained)
    assert promoted() == ["value-0", "policy-1"]
    document("checkpoints", "promote", "mine", "base", "--workdir", trained)
    assert promoted() == ["base", "value-0"]
    assert "it has base, value-0, policy-1" in str(
        call("checkpoints", "promote", "mine", "x", "--workdir", trained).exception
    )


def test_push_without_a_hub_is_one_line(trained: Path, call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    result = call("checkpoints", "push", "mine", "policy-1", "me/model", "--workdir", trained)
    assert isinstance(result.exception, StorageError)
    assert "\n" not in str(result.exception)
    bad = call("checkpoints", "push", "mine", "policy-1", "no/such/name", "--workdir", trained)
    assert isinstance(bad.exception, InputError)


def test_datasets_are_listed_shown_and_pulled(
    workdir: Path, document: Document, shown: Shown, call: Command, tmp_path: Path
) -> None:
    (row,) = document("datasets", "list", "mine", "--workdir", workdir)
    assert row["phase"] == "policy-1"
    assert row["num_rows"] > 0
    found = document("datasets", "show", "mine", "policy-1", "--rows", 1, "--workdir", workdir)
    assert len(found["rows"]) == 1
    assert found["rows"][0]["steps"][-1] == "The answer is 7\n"
    assert found["card"]["num_rows"] == row["num_rows"]
    assert "The answer is 7" in shown("datasets", "show", "mine", "policy-1", "--workdir", workdir)
    shown("datasets", "pull", "mine", "policy-1", tmp_path / "data", "--workdir", workdir)
    assert json.loads((tmp_path / "data" / "card.json").read_text())["num_rows"] == row["num_rows"]
    shown("datasets", "export", "mine", "policy-1", tmp_path / "lines", "--format", "paper-json", "--workdir", workdir)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert len(lines) == row["num_rows"] and lines[0]["summary"].endswith("The answer is 7\n")
    refused = call(
        "datasets", "export", "mine", "policy-1", tmp_path / "no", "--format", "preference", "--workdir", workdir
    )
    assert isinstance(refused.exception, InputError) and not (tmp_path / "no").exists()
    assert "no data set for 'value-9'" in str(
        call("datasets", "show", "mine", "value-9", "--workdir", workdir).exception
    )


def test_dead_letters_are_retried_or_dropped(workdir: Path, document: Document, shown: Shown, call: Command) -> None:
    database = database_of(workdir)
    message = AdvanceRun(run_id=1)
    with database.transaction() as transaction:
        runs.add_dead_letter(transaction, "coordinator", message.name, body_of(message), "the disk was full")
        runs.add_dead_letter(transaction, "search", "search.nonsense", "{}", "no message is named so")
    with database.transaction() as transaction:
        steer.retry_dead_letter(transaction, 1)
        assert transaction.emitted == [message]
        with pytest.raises(InputError, match="cannot be tried again"):
            steer.retry_dead_letter(transaction, 2)
    database.close()
    assert [row["id"] for row in document("dead-letters", "list", "--workdir", workdir)] == [2]
    assert "no message is named so" in shown("dead-letters", "show", 2, "--workdir", workdir)
    assert call("doctor", "--workdir", workdir).exit_code == 1
    assert "wakes all its work" in str(call("dead-letters", "retry", 2, "--workdir", workdir).exception)
    assert "--all" in str(call("dead-letters", "drop", "--workdir", workdir).exception)
    assert document("dead-letters", "drop", "--all", "--workdir", workdir) == {"dropped": [2]}
    assert "there is no dead letter 2" in str(call("dead-letters", "drop", 2, "--workdir", workdir).exception)


def test_doctor_finds_a_healthy_folder_and_a_strange_one(
    workdir: Path, document: Document, call: Command, tmp_path: Path
) -> None:
    found = document("doctor", "--workdir", workdir)
    assert found["right"]
    assert [check["part"] for check in found["checks"]] == [
        "sandbox",
        "work folder",
        "database",
        "tables",
        "artifacts",
        "dead letters",
    ]
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "run.db").write_bytes(b"not a database at all, but text" * 100)
    result = call("doctor", "--workdir", strange, "--json")
    assert result.exit_code == 1
    assert not json.loads(result.stdout)["right"]
    result = call("runs", "list", "--workdir", strange)
    assert "restore run.db from a copy" in str(result.exception)


def test_doctor_without_settings_says_which_one(tmp_path: Path, call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "ENV_FILE"):
        monkeypatch.delenv(f"RESTMCTS_{name}", raising=False)
    result = call("doctor", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["checks"][1]
    assert "setting RESTMCTS_" in found["found"] and "`make env`" in found["remedy"]


def test_workers_are_listed_and_scaled(workdir: Path, document: Document, shown: Shown, call: Command) -> None:
    rows = {row["worker"]: row for row in document("workers", "list", "--workdir", workdir)["kinds"]}
    assert rows["trainer"]["jobs"] == 1
    assert rows["policy-generator"]["requests_waiting"] == 0
    command = shown("workers", "scale", "tree-search=3", "trainer=0", "--dry-run")
    assert "--scale tree-search=3 --scale trainer=0 tree-search trainer" in command
    assert "--scale tree-search=3" in shown("workers", "scale", "search=3", "--dry-run"), "a queue's name will do"
    assert "no kind of worker is named 'serch'" in str(call("workers", "scale", "serch=3", "--dry-run").exception)
    assert "write WORKER=NUMBER" in str(call("workers", "scale", "trainer=many").exception)
    assert "trainer is named twice" in str(call("workers", "scale", "trainer=1", "trainer=2", "--dry-run").exception)
    assert "contains no stack" in str(call("workers", "autoscale", "trainer=0-1:1", "--dir", "nowhere").exception)
    assert "trainer is named twice" in str(call("workers", "autoscale", "trainer=0-1:1", "trainer=0-2:1").exception)


def test_upgrade_makes_the_tables_of_a_folder(tmp_path: Path, shown: Shown, document: Document) -> None:
    shown("db", "upgrade", "--workdir", tmp_path / "new")
    assert document("runs", "list", "--workdir", tmp_path / "new") == []


def test_every_command_has_help_with_an_example() -> None:
    groups = get_command(app).commands  # type: ignore[attr-defined]
    for name in ("runs", "problems", "trees", "checkpoints", "datasets", "workers", "dead-letters", "db"):
        for verb, command in groups[name].commands.items():
            assert f"restmcts {name} {verb} " in f"{command.help} ".replace("[/bold]", " "), (name, verb)


def test_completion_offers_the_commands() -> None:
    code = "from restmcts_cli.main import app; app(prog_name='restmcts')"
    environment = {
        "_RESTMCTS_COMPLETE": "complete_bash",
        "COMP_WORDS": "restmcts runs pa",
        "COMP_CWORD": "2",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["pause"], done.stderr
