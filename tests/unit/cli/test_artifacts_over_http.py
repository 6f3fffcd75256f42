"""Checkpoints and training data over HTTP: shown and copied as with the database, whole or not at
all.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.errors import CorruptArtifactError, InputError, NotFoundError, RestMctsError, StorageError
from restmcts_cli.remote import artifacts
from typer.testing import Result

Command = Callable[..., Result]
Shown = Callable[..., str]
Document = Callable[..., Any]
PULL = ("checkpoints", "pull", "mine", "policy-1")
WEIGHTS = bytes(range(256)) * 10_000


@pytest.fixture
def stored(database: Database, workdir: Path, tmp_path: Path) -> Path:
    """The folder in the store of a checkpoint that the run made."""
    model = tmp_path / "model"
    (model / "deeper").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "deeper" / "weights.bin").write_bytes(WEIGHTS)
    made = FolderArtifactStore(workdir / "artifacts").put(model, "checkpoints", {"seed": 3})
    with database.transaction() as transaction:
        run_id = queries.run_named(transaction, "mine").id
        lineage = {"phase": "policy-1", "seed": 3}
        runs.add_checkpoint(
            transaction, run_id, "policy-1", "policy", made.uri, made.digest, "base", lineage, made.num_bytes
        )
    return workdir / "artifacts" / "checkpoints" / made.digest


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(result: Result, kind: type[RestMctsError] = InputError) -> str:
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return str(result.exception)


def test_what_runs_made_is_shown_and_copied_as_with_the_database(
    stored: Path, workdir: Path, tmp_path: Path, document: Document, shown: Shown, call: Command
) -> None:
    local = ("--workdir", workdir)
    for command in (
        ("checkpoints", "list", "mine"),
        ("checkpoints", "show", "mine", "policy-1"),
        ("checkpoints", "show", "mine", "base"),
        ("datasets", "list", "mine"),
        ("datasets", "show", "mine", "policy-1"),
        ("datasets", "show", "mine", "policy-1", "--rows", 0),
    ):
        assert document(*command) == document(*command, *local), command
        assert shown(*command) == shown(*command, *local), command
    for kind in ("checkpoints", "datasets"):
        out, beside = tmp_path / "new" / kind, tmp_path / f"{kind}-beside"
        beside.mkdir()
        found = document(kind, "pull", "mine", "policy-1", out)
        assert found == {**document(kind, "pull", "mine", "policy-1", beside, *local), "folder": str(out)}
        assert files(out) == files(beside) and "manifest.json" in files(out)
        assert list(out.parent.iterdir()) == [out]
        out.rename(tmp_path / kind)
        assert "is not empty" in refusal(call(kind, "pull", "mine", "policy-1", beside))
    assert files(tmp_path / "checkpoints")["deeper/weights.bin"] == WEIGHTS


def test_a_folder_that_is_there_and_empty_is_filled(
    stored: Path, tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mounted"
    out.mkdir()
    inode = out.stat().st_ino
    shown(*PULL, out)
    assert files(out) == files(stored) and out.stat().st_ino == inode
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    shown(*PULL, ".")
    assert files(here) == files(stored)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (WEIGHTS[:-1] + b"x", "gives other bytes than the manifest says"),
        (WEIGHTS[:1_500_000], "does not answer"),
        (None, "store of artifacts, does not answer"),
    ],
)
def test_a_transfer_that_breaks_leaves_nothing(
    stored: Path, tmp_path: Path, call: Command, content: bytes | None, reason: str
) -> None:
    weights = stored / "deeper" / "weights.bin"
    if content is None:
        weights.unlink()
    else:
        weights.write_bytes(content)
    before = set(tmp_path.iterdir())
    said = refusal(call(*PULL, tmp_path / "out"), StorageError)
    assert reason in said and said.endswith("; nothing of it is kept")
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "empty").mkdir()
    refusal(call(*PULL, tmp_path / "empty"), StorageError)
    assert not list((tmp_path / "empty").iterdir())


def test_what_another_command_fills_is_left_alone(stored: Path, tmp_path: Path, call: Command) -> None:
    partial = tmp_path / f"out{artifacts.PARTIAL}"
    partial.mkdir()
    (partial / "config.json").write_text("half")
    assert "another command fills it, or one was killed; remove it" in refusal(call(*PULL, tmp_path / "out"))
    assert files(partial) == {"config.json": b"half"} and not (tmp_path / "out").exists()


def test_what_was_written_meanwhile_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="no longer empty"), artifacts._whole(out) as partial:
        (partial / "config.json").write_text("new")
        (out / "config.json").write_text("theirs")
    assert files(out) == {"config.json": b"theirs"}


class Hostile(BaseHTTPRequestHandler):
    """Serves an artifact of one file, which does not end."""

    protocol_version = "HTTP/1.1"
    names: ClassVar[list[str]] = ["weights.bin"]
    status = 200

    def do_GET(self) -> None:
        if self.path.endswith("/files"):
            stored = {name: {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()} for name in self.names}
            digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
            body = json.dumps({"kind": "checkpoints", "digest": digest, "files": stored, "lineage": {}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(self.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(ConnectionError):
            while True:
                self.wfile.write(b"10000\r\n" + b"x" * 2**16 + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hostile]]:
    class Serving(Hostile):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("RESTMCTS_ENV_FILE", "none")
    monkeypatch.setenv("RESTMCTS_API_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("RESTMCTS_API_TOKEN", "rmp_x")
    yield Serving
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "reason"), [(200, "gives other bytes"), (500, "cannot do this now: xxx")])
def test_a_file_without_end_is_not_read_to_its_end(
    hostile: type[Hostile], tmp_path: Path, call: Command, status: int, reason: str
) -> None:
    hostile.status = status
    assert reason in refusal(call(*PULL, tmp_path / "out"), StorageError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a\0b", "", ".", "a//b", "a/", "../a", "/etc/passwd", "a/../../b"])
def test_a_manifest_of_names_that_no_file_has_is_refused(
    hostile: type[Hostile], tmp_path: Path, call: Command, name: str
) -> None:
    hostile.names = [name]
    reason = refusal(call(*PULL, tmp_path / "out"), CorruptArtifactError)
    assert f"names a file outside the artifact ({name!r})" in reason and not list(tmp_path.iterdir())


def test_what_cannot_be_copied_is_refused(stored: Path, tmp_path: Path, call: Command) -> None:
    out = tmp_path / "out"
    assert "a model of the hub" in refusal(call("checkpoints", "pull", "mine", "base", out))
    assert "it has base, value-0, policy-1" in refusal(call("checkpoints", "pull", "mine", "x", out), NotFoundError)
    assert "no data set for 'value-9'" in refusal(call("datasets", "pull", "mine", "value-9", out), NotFoundError)
    assert refusal(call("checkpoints", "pull", "other", "x", out)) == "project physics has no run 'other'"
    for kind in ("checkpoints", "datasets"):
        assert refusal(call(kind, "list")).startswith("name a run")
    assert not out.exists()
