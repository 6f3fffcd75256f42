"""An artifact is whole or absent, whatever happens to the process or the disk."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.storage.folder_store import MANIFEST, FolderArtifactStore
from restmcts.errors import CorruptArtifactError, StorageError
from restmcts.testing.contracts.artifact_store import check_artifact_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "deeper").mkdir(parents=True)
    (made / "weights.bin").write_bytes(b"\x00" * 1000)
    (made / "deeper" / "card.json").write_text("{}\n")
    return made


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    check_artifact_store(lambda: FolderArtifactStore(tmp_path / "store"), tmp_path / "scratch")


def test_what_a_dead_process_left_half_written_is_invisible_and_goes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    kept = FolderArtifactStore(root).put(folder, "checkpoints", {})
    leftover = root / "checkpoints" / ".partial-0123"
    shutil.copytree(folder, leftover)
    store = FolderArtifactStore(root)
    assert not leftover.exists()
    assert (store.fetch(kept.uri) / "weights.bin").is_file()
    (root / "checkpoints" / "feed").mkdir()
    with pytest.raises(StorageError, match="no artifact"):
        store.fetch("artifact:checkpoints/feed")


@pytest.mark.parametrize("tamper", ["shorter", "other bytes", "gone", "manifest"])
def test_a_tampered_artifact_is_told_apart(tamper: str, folder: Path, tmp_path: Path) -> None:
    store = FolderArtifactStore(tmp_path / "store")
    artifact = store.put(folder, "checkpoints", {})
    path = store.fetch(artifact.uri) / "weights.bin"
    if tamper == "gone":
        path.unlink()
    elif tamper == "manifest":
        (path.parent / MANIFEST).write_text("{")
    else:
        path.write_bytes(b"\x00" * 999 if tamper == "shorter" else b"\x01" * 1000)
    with pytest.raises(CorruptArtifactError):
        FolderArtifactStore(tmp_path / "store").fetch(artifact.uri)


@pytest.mark.parametrize("failing", ["copytree", "replace"])
def test_a_full_disk_leaves_nothing_behind(
    failing: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        if failing == "copytree":
            Path(arguments[1]).mkdir(parents=True)
            (Path(arguments[1]) / "weights.bin").write_bytes(b"\x00")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        f"restmcts.adapters.storage.folder_store.{'shutil.copytree' if failing == 'copytree' else 'os.replace'}", full
    )
    store = FolderArtifactStore(tmp_path / "store")
    with pytest.raises(StorageError, match="No space left"):
        store.put(folder, "checkpoints", {})
    assert not list((tmp_path / "store" / "checkpoints").iterdir())
    monkeypatch.undo()
    assert (store.fetch(store.put(folder, "checkpoints", {}).uri) / "deeper" / "card.json").is_file()
