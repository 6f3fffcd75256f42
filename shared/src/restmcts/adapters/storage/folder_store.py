"""Artifacts in a folder: checkpoints and datasets under their digests, whole or absent.

An artifact is a folder of files with a `manifest.json` (digest, sizes, lineage). It is written
under a temporary name and renamed.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from restmcts.adapters.storage.manifests import (
    MANIFEST,
    STALE_SECONDS,
    Manifest,
    Seen,
    age_seconds,
    artifacts_below,
    check_bytes,
    check_file,
    describe_folder,
    read_manifest,
    seen,
)
from restmcts.adapters.storage.readable import PartsOfFile
from restmcts.adapters.storage.uris import ARTIFACT, is_artifact
from restmcts.errors import CorruptArtifactError, MissingArtifactError, StorageError
from restmcts.ports import Artifact, StoredArtifact

PART_BYTES = 2**20


class FolderArtifactStore:
    """Artifacts below one folder, as `<kind>/<digest>/`.

    Args:
        alone: no other process writes there, so that what is half written is that of one that died.
    """

    def __init__(self, root: Path, *, alone: bool = False) -> None:
        self._root = root
        self._compared: dict[str, Seen] = {}
        for leftover in root.glob("*/.partial-*"):
            if alone or age_seconds(leftover) > STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)

    def put(self, folder: Path, kind: str, lineage: dict[str, Any]) -> Artifact:
        """Store a folder's files; the same files are stored once, with the lineage of the first,
        and again where those that are stored have changed.

        Raises:
            StorageError: if the disk does not take them; nothing is left behind.
        """
        manifest = describe_folder(folder, kind, lineage)
        artifact, final = manifest.artifact, self._root / kind / manifest.digest
        try:
            self.fetch(artifact.uri)
        except (StorageError, CorruptArtifactError):
            shutil.rmtree(final, ignore_errors=True)
            self._write(folder, final, manifest)
        return artifact

    def _write(self, folder: Path, final: Path, manifest: Manifest) -> None:
        partial = final.parent / f".partial-{uuid.uuid4().hex}"
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
            for name in manifest.files:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / name, partial / name)
            (partial / MANIFEST).write_text(manifest.to_json())
            os.replace(partial, final)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if not final.exists():
                raise StorageError(f"{final.parent}: artifact not written ({error})") from error

    def fetch(self, uri: str) -> Path:
        """Return a local folder with the artifact's files, their bytes compared the first time that
        this store gives them out, and whenever somebody has written to them.

        Raises:
            StorageError: if there is no such artifact.
            CorruptArtifactError: if its files are not those of its manifest.
        """
        manifest = self.manifest(uri)
        folder = self._folder(manifest)
        found = seen(folder, manifest)
        if self._compared.get(uri) != found:
            check_bytes(folder, manifest)
            self._compared[uri] = found
        return folder

    def manifest(self, uri: str) -> Manifest:
        """Return what an artifact is made of; its files are not looked at.

        Raises:
            StorageError: if there is no such artifact.
            CorruptArtifactError: if that is no manifest of it.
        """
        file = self._root / uri.removeprefix(ARTIFACT) / MANIFEST
        if not is_artifact(uri) or not file.is_file():
            raise MissingArtifactError(f"no artifact {uri} in {self._root}")
        return read_manifest(file.read_bytes(), uri)

    def read(self, manifest: Manifest, name: str) -> PartsOfFile:
        """Return the bytes of a file of an artifact, a part at a time; they are not compared.

        Raises:
            NotFoundError: if the artifact has no such file.
            StorageError: if the file cannot be read.
        """
        path = self._folder(manifest) / check_file(manifest, name)
        try:
            return _parts(path.open("rb"))
        except OSError as error:
            raise StorageError(f"{path}: not read ({error.strerror})") from error

    def _folder(self, manifest: Manifest) -> Path:
        return self._root / manifest.kind / manifest.digest

    def stored(self, kind: str | None = None) -> Iterator[StoredArtifact]:
        """Yield the artifacts of a kind, or all."""
        return artifacts_below(self._root, kind)

    def remove(self, uri: str) -> None:
        """Forget an artifact; one that is not there is no error.

        Raises:
            StorageError: if the disk does not do it.
        """
        folder = self._root / uri.removeprefix(ARTIFACT)
        if not is_artifact(uri) or not (folder / MANIFEST).is_file():
            return
        self._compared.pop(uri, None)
        doomed = folder.parent / f".partial-{uuid.uuid4().hex}"
        try:
            folder.rename(doomed)
        except OSError as error:
            raise StorageError(f"{folder}: artifact not removed ({error})") from error
        shutil.rmtree(doomed, ignore_errors=True)


def _parts(file: BinaryIO) -> PartsOfFile:
    with file:
        while part := file.read(PART_BYTES):
            yield part
