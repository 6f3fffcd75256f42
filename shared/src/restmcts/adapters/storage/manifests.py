"""Manifests: which files an artifact has, with sizes and digests. The digest of an artifact is that
of its manifest's files.

It does not know where artifacts are kept.
"""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.errors import CorruptArtifactError
from restmcts.ports import Artifact

MANIFEST = "manifest.json"


class StoredFile(BaseModel):
    """Size in bytes and SHA-256 of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """The files of an artifact by name, relative to its folder, and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    digest: str
    files: dict[str, StoredFile]
    lineage: dict[str, Any]

    @property
    def artifact(self) -> Artifact:
        return Artifact(uri_of(self.kind, self.digest), self.digest, sum(file.size for file in self.files.values()))

    def to_json(self) -> str:
        """Return the text of `manifest.json`."""
        return json.dumps(self.model_dump(), indent=2, sort_keys=True) + "\n"


def uri_of(kind: str, digest: str) -> str:
    """Return the URI by which rows and requests name an artifact."""
    return f"{ARTIFACT}{kind}/{digest}"


def describe_folder(folder: Path, kind: str, lineage: dict[str, Any]) -> Manifest:
    """Return the manifest of a folder's files; a manifest among them is left out."""
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    names.pop(MANIFEST, None)
    files = {name: describe_file(path) for name, path in names.items()}
    return Manifest(kind=kind, digest=_digest(files), files=files, lineage=lineage)


def describe_file(path: Path) -> StoredFile:
    """Return what a manifest says of a file."""
    with path.open("rb") as file:
        return StoredFile(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def read_manifest(text: str | bytes, uri: str) -> Manifest:
    """Return the manifest of an artifact, checked against the digest in its URI.

    Raises:
        CorruptArtifactError: if it is not the manifest of this artifact, or names files outside its
            folder.
    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise CorruptArtifactError(f"{uri}: {MANIFEST} cannot be read ({error.error_count()} fields wrong)") from error
    if uri_of(manifest.kind, manifest.digest) != uri or _digest(manifest.files) != manifest.digest:
        raise CorruptArtifactError(f"{uri}: {MANIFEST} is of other files than the digest says")
    outside = [
        name for name in manifest.files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    ]
    if outside:
        raise CorruptArtifactError(f"{uri}: {MANIFEST} names a file outside the artifact ({outside[0]})")
    return manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Compare a folder with its manifest by sizes: cheap, and finds what an interrupted write
    leaves.

    Raises:
        CorruptArtifactError: naming the first file that is missing or of another size.
    """
    for name, stored in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != stored.size:
            raise CorruptArtifactError(f"{path}: missing or not {stored.size} bytes long, as its manifest says")


def _digest(files: dict[str, StoredFile]) -> str:
    described = {name: file.model_dump() for name, file in files.items()}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
