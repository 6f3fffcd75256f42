"""An artifact is whole or absent, whatever happens to the process or the disk."""

import errno
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.storage.manifests import MANIFEST, read_manifest
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.errors import CorruptArtifactError, InputError, StorageError
from restmcts.testing.contracts.artifact_store import check_artifact_store, check_readable_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "deeper").mkdir(parents=True)
    (made / "weights.bin").write_bytes(b"\x00" * 1000)
    (made / "deeper" / "card.json").write_text("{}\n")
    return made


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    check_artifact_store(lambda: FolderArtifactStore(tmp_path / "store"), tmp_path / "scratch")
    check_readable_store(FolderArtifactStore(tmp_path / "store"), tmp_path / "scratch")


def test_a_uri_that_leads_out_of_a_cache_removes_nothing(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "checkpoints" / "feed").mkdir(parents=True)
    store = S3ArtifactStore("127.0.0.1:9", "key", "secret", "bucket", False, cache, 10**9, pauses_seconds=())
    for place in (str(folder), f"../{folder.name}", "checkpoints", "checkpoints/..", ".", ""):
        store.remove(f"artifact:{place}")
        with pytest.raises(StorageError, match="no artifact"):
            store.fetch(f"artifact:{place}")
    assert (folder / "weights.bin").is_file() and (cache / "checkpoints" / "feed").is_dir()


def test_what_a_dead_process_left_half_written_is_invisible_and_goes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    kept = FolderArtifactStore(root).put(folder, "checkpoints", {})
    leftover = root / "checkpoints" / ".partial-0123"
    shutil.copytree(folder, leftover)
    store = FolderArtifactStore(root, alone=True)
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


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed_by_a_store_that_compared_before(folder: Path, tmp_path: Path) -> None:
    store = FolderArtifactStore(tmp_path / "store")
    artifact = store.put(folder, "checkpoints", {})
    path = store.fetch(artifact.uri) / "weights.bin"
    flip_a_bit(path)
    with pytest.raises(CorruptArtifactError, match=r"weights\.bin"):
        store.fetch(artifact.uri)
    assert store.put(folder, "checkpoints", {}) == artifact, "it is made again, as the error says"
    assert (store.fetch(artifact.uri) / "weights.bin").read_bytes() == (folder / "weights.bin").read_bytes()


@pytest.mark.parametrize("failing", ["copy2", "replace"])
def test_a_full_disk_leaves_nothing_behind(
    failing: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        if failing == "copy2":
            Path(arguments[1]).write_bytes(b"\x00")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        f"restmcts.adapters.storage.folder_store.{'shutil.copy2' if failing == 'copy2' else 'os.replace'}", full
    )
    store = FolderArtifactStore(tmp_path / "store")
    with pytest.raises(StorageError, match="No space left"):
        store.put(folder, "checkpoints", {})
    assert not list((tmp_path / "store" / "checkpoints").iterdir())
    monkeypatch.undo()
    assert (store.fetch(store.put(folder, "checkpoints", {}).uri) / "deeper" / "card.json").is_file()


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_out_of_the_folder_is_refused(linked: str, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not yours")
    (folder / "link").symlink_to(outside / "secret" if linked == "file" else outside)
    with pytest.raises(InputError, match="outside the folder"):
        FolderArtifactStore(tmp_path / "store").put(folder, "checkpoints", {})


def test_links_within_the_folder_and_the_hubs_snapshots_are_stored_as_files(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models" / "snapshots" / "1a2b", tmp_path / "models" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "c0ffee").write_text("weights")
    snapshot.mkdir(parents=True)
    (snapshot / "model.bin").symlink_to("../../blobs/c0ffee")
    (folder / "again.bin").symlink_to("weights.bin")
    store = FolderArtifactStore(tmp_path / "store")
    for source, name in ((snapshot, "model.bin"), (folder, "again.bin")):
        stored = store.fetch(store.put(source, "checkpoints", {}).uri) / name
        assert not stored.is_symlink()
        assert stored.read_bytes() == (source / name).read_bytes()


def test_equal_weights_have_one_digest_whatever_their_cards_say(folder: Path, tmp_path: Path) -> None:
    store = FolderArtifactStore(tmp_path / "store")
    digests = set()
    for run in ("first", "second"):
        (folder / "README.md").write_text(f"made by the run {run} in 12.3 s")
        digests.add(store.put(folder, "checkpoints", {}).digest)
    assert len(digests) == 1
    (folder / "weights.bin").write_bytes(b"other weights")
    assert store.put(folder, "checkpoints", {}).digest not in digests


def test_artifacts_whose_digest_is_of_the_card_too_are_still_read(folder: Path, tmp_path: Path) -> None:
    """As version 0.1 stored them."""
    (folder / "README.md").write_text("a card")
    store = FolderArtifactStore(tmp_path / "store")
    new = store.put(folder, "checkpoints", {})
    manifest = read_manifest((store.fetch(new.uri) / MANIFEST).read_bytes(), new.uri)
    described = {name: file.model_dump() for name, file in manifest.files.items()}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    old = shutil.copytree(store.fetch(new.uri), tmp_path / "store" / "checkpoints" / digest)
    (old / MANIFEST).write_text(manifest.model_copy(update={"digest": digest}).to_json())
    assert (store.fetch(f"artifact:checkpoints/{digest}") / "README.md").read_text() == "a card"
