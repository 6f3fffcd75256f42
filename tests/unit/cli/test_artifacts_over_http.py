"""Checkpoints and training data over HTTP: shown and copied as with the database, whole or not at
all.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.errors import InputError, NotFoundError, RestMctsError, StorageError
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


def test_what_cannot_be_copied_is_refused(stored: Path, tmp_path: Path, call: Command) -> None:
    out = tmp_path / "out"
    assert "a model of the hub" in refusal(call("checkpoints", "pull", "mine", "base", out))
    assert "it has base, value-0, policy-1" in refusal(call("checkpoints", "pull", "mine", "x", out), NotFoundError)
    assert "no data set for 'value-9'" in refusal(call("datasets", "pull", "mine", "value-9", out), NotFoundError)
    assert refusal(call("checkpoints", "pull", "other", "x", out)) == "project physics has no run 'other'"
    for kind in ("checkpoints", "datasets"):
        assert refusal(call(kind, "list")).startswith("name a run")
    assert not out.exists()
