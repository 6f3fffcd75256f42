"""Checkpoints and training data over HTTP: listed, shown, and copied file by file, each compared
with what the manifest says of it.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restmcts.adapters.sql.rows import JsonObject, ListedCheckpoint, ListedDataset
from restmcts.adapters.storage.manifests import MANIFEST, Manifest, StoredFile, read_manifest
from restmcts.errors import InputError, StorageError

from restmcts_cli.commands.records.checkpoints import check_is_new, not_written
from restmcts_cli.remote.client import Api
from restmcts_cli.row_progress import shown_progress

PARTIAL = ".partial"


def checkpoints(api: Api, run: str | None) -> list[ListedCheckpoint]:
    """Return the checkpoints of a run in the order in which they were made.

    Raises:
        InputError: if no run is named.
    """
    if run is None:
        raise InputError("name a run: over HTTP the checkpoints of one run are listed")
    return api.get(list[ListedCheckpoint], "runs", run, "checkpoints")


def checkpoint(api: Api, run: str, name: str) -> ListedCheckpoint:
    """Return a checkpoint of a run."""
    return api.get(ListedCheckpoint, "runs", run, "checkpoints", name)


def datasets(api: Api, run: str | None) -> list[ListedDataset]:
    """Return the training data of a run, each by the phase that it trains.

    Raises:
        InputError: if no run is named.
    """
    if run is None:
        raise InputError("name a run: over HTTP the data sets of one run are listed")
    return api.get(list[ListedDataset], "runs", run, "datasets")


def dataset(api: Api, run: str, phase: str) -> ListedDataset:
    """Return the training data of a phase of a run."""
    return api.get(ListedDataset, "runs", run, "datasets", phase)


def first_rows(api: Api, run: str, phase: str, num_rows: int) -> list[JsonObject]:
    """Return the first rows of the training data of a phase."""
    return api.get(list[JsonObject], "runs", run, "datasets", phase, "rows", limit=num_rows) if num_rows else []


def pull(api: Api, out: Path, *place: str) -> None:
    """Copy the files of an artifact into a folder that is not there yet, or is empty; they are
    there once all of them are whole.

    Raises:
        InputError: if something is there, or the API refuses; it says why.
        StorageError: if the disk does not take them, or one breaks off; nothing of them is kept.
        CorruptArtifactError: if the manifest is not that of the artifact.
    """
    check_is_new(out)
    given = api.get(Manifest, *place, "files")
    manifest = read_manifest(given.to_json(), given.artifact.uri)
    try:
        with _whole(out.resolve()) as partial:
            _copy(api, place, manifest, partial, f"copying to {out}")
            (partial / MANIFEST).write_text(manifest.to_json())
    except StorageError as error:
        raise StorageError(f"{error}; nothing of it is kept") from error
    except OSError as error:
        raise not_written(out, error) from error


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Yield a folder beside the one that is to be, or within it where it is there and empty: it may
    be all that this user can write to. What is in it goes to its place at the end.
    """
    partial = out / PARTIAL if out.exists() else out.with_name(out.name + PARTIAL)
    try:
        partial.mkdir(parents=True)
    except FileExistsError as error:
        raise InputError(f"{partial} is there: another command fills it, or one was killed; remove it first") from error
    try:
        yield partial
        if partial.parent == out:
            _move(partial, out)
        else:
            partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(partial: Path, out: Path) -> None:
    """Let what is in a folder within another be in that, the manifest last."""
    if len(list(out.iterdir())) > 1:
        raise InputError(f"{out} is no longer empty: something else was written there; name a new folder")
    for path in sorted(partial.iterdir(), key=lambda path: path.name == MANIFEST):
        path.rename(out / path.name)


def _copy(api: Api, place: tuple[str, ...], manifest: Manifest, folder: Path, doing: str) -> None:
    done = 0
    with shown_progress(doing, "file", manifest.artifact.num_bytes) as seen:
        for number, (name, stored) in enumerate(manifest.files.items(), start=1):
            path, digest, num_bytes = folder / name, hashlib.sha256(), 0
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for part in api.parts(*place, "files", *name.split("/")):
                    file.write(part)
                    digest.update(part)
                    num_bytes += len(part)
                    seen(number, done + num_bytes)
                    if num_bytes > stored.size:
                        break
            done += num_bytes
            if StoredFile(size=num_bytes, sha256=digest.hexdigest()) != stored:
                raise StorageError(f"{name}: {api.place} gives other bytes than the manifest says; try again")
