"""The contracts of `restmcts.ports.ArtifactStore`, and of stores whose files are read where they
are.
"""

from collections.abc import Callable
from pathlib import Path

from restmcts.adapters.storage.readable import ReadableStore
from restmcts.errors import NotFoundError, StorageError
from restmcts.ports import ArtifactStore


def check_artifact_store(open_store: Callable[[], ArtifactStore], scratch: Path) -> None:
    """Try a store, opened again each time, with folders made below `scratch`.

    Raises:
        AssertionError: at the first thing that it does not do.
    """
    folder = _make(scratch / "one", "first")
    artifact = open_store().put(folder, "checkpoints", {"seed": 1})
    fetched = open_store().fetch(artifact.uri)
    assert (fetched / "a.txt").read_text() == "first" and (fetched / "deeper" / "b.bin").read_bytes() == b"\x00\x01"
    assert artifact.num_bytes == len("first") + 2
    assert open_store().put(folder, "checkpoints", {"seed": 2}) == artifact, "the same files are one artifact"
    other = open_store().put(_make(scratch / "two", "second"), "checkpoints", {})
    assert other.digest != artifact.digest and other.uri != artifact.uri
    (folder / "a.txt").write_text("changed after it was stored")
    assert (open_store().fetch(artifact.uri) / "a.txt").read_text() == "first", "an artifact never changes"
    store = open_store()
    found = {each.uri: each for each in store.stored("checkpoints")}
    assert {artifact.uri, other.uri} <= found.keys() == {each.uri for each in store.stored()}
    assert found[artifact.uri].is_whole and 0 <= found[artifact.uri].age_seconds < 600
    assert found[artifact.uri].num_bytes > artifact.num_bytes, "its manifest takes room too"
    assert not list(store.stored("datasets"))
    store.fetch(other.uri)
    for _ in range(2):
        store.remove(other.uri)
    assert other.uri not in {each.uri for each in open_store().stored()}
    absent = (other.uri, artifact.uri[:-1] + "_", "artifact:checkpoints/none", "somewhere else")
    around = (f"artifact:{folder}", f"{artifact.uri}/deeper", "artifact:checkpoints", "artifact:.", "artifact:")
    for unknown in (*absent, *around):
        open_store().remove(unknown)
        try:
            open_store().fetch(unknown)
        except StorageError:
            continue
        raise AssertionError(f"{unknown} was fetched")
    assert folder.is_dir() and (open_store().fetch(artifact.uri) / "deeper").is_dir(), "others' folders are not touched"


def check_readable_store(store: ReadableStore, scratch: Path) -> None:
    """Try to read files of a store, with a folder made below `scratch`.

    Raises:
        AssertionError: at the first thing that it does not do.
    """
    artifact = store.put(_make(scratch / "read", "x" * 3_000_000), "checkpoints", {"seed": 3})
    manifest = store.manifest(artifact.uri)
    assert manifest.artifact == artifact and manifest.lineage == {"seed": 3}
    assert {name: file.size for name, file in manifest.files.items()} == {"a.txt": 3_000_000, "deeper/b.bin": 2}
    parts = list(store.read(manifest, "a.txt"))
    assert b"".join(parts) == b"x" * 3_000_000 and max(map(len, parts)) <= 2**20
    assert b"".join(store.read(manifest, "deeper/b.bin")) == b"\x00\x01"
    for unknown in ("none", "manifest.json", "deeper", "../read/a.txt", "", "/etc/passwd"):
        try:
            store.read(manifest, unknown)
        except NotFoundError:
            continue
        raise AssertionError(f"{unknown} was read")
    for unknown in (artifact.uri[:-1] + "_", "artifact:checkpoints/none", "somewhere else"):
        try:
            store.manifest(unknown)
        except StorageError:
            continue
        raise AssertionError(f"{unknown} has a manifest")


def _make(folder: Path, text: str) -> Path:
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.txt").write_text(text)
    (folder / "deeper" / "b.bin").write_bytes(b"\x00\x01")
    return folder
