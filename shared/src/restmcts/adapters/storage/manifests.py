"""Manifests: which files an artifact has, with sizes and digests. The digest of an artifact is that
of its manifest's files but for the card, so that equal weights have equal digests.

It does not know where artifacts are kept.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.errors import CorruptArtifactError, InputError, NotFoundError
from restmcts.ports import Artifact, StoredArtifact

MANIFEST = "manifest.json"
STALE_SECONDS = 24 * 3600.0
"""After which an artifact that is not whole yet is that of a process that died."""

CARD = "README.md"
"""Says which run made an artifact: the same weights of another run have another card."""


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
    """Return the manifest of a folder's files; a manifest among them is left out.

    Raises:
        InputError: if a link of the folder leads out of it (but for the hub's own layout, whose
            snapshots are links to the blobs beside them).
    """
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    names.pop(MANIFEST, None)
    for path in names.values():
        _check_link(path, folder)
    files = {name: describe_file(path) for name, path in names.items() if path.is_file()}
    return Manifest(kind=kind, digest=_digest(files), files=files, lineage=lineage)


def _check_link(path: Path, folder: Path) -> None:
    if not path.is_symlink():
        return
    allowed = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        allowed.append(folder.resolve().parents[1] / "blobs")
    target = path.resolve()
    if not any(target.is_relative_to(place) for place in allowed):
        raise InputError(f"{path}: a link to {target}, outside the folder; put a copy in its place (cp -rL)")


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
    # artifacts of version 0.1 have the card in their digest
    digests = (_digest(manifest.files), _digest(manifest.files, with_card=True))
    if uri_of(manifest.kind, manifest.digest) != uri or manifest.digest not in digests:
        raise CorruptArtifactError(f"{uri}: {MANIFEST} is of other files than the digest says")
    outside = next((name for name in manifest.files if not _is_within(name)), None)
    if outside is not None:
        raise CorruptArtifactError(f"{uri}: {MANIFEST} names a file outside the artifact ({outside!r})")
    return manifest


def _is_within(name: str) -> bool:
    """Return whether a file of a folder has that name, as `describe_folder` writes it."""
    path = PurePosixPath(name)
    return (
        path.as_posix() == name and bool(path.parts) and ".." not in path.parts and name[0] != "/" and "\0" not in name
    )


def check_file(manifest: Manifest, name: str) -> str:
    """Return the name of a file of an artifact.

    Raises:
        NotFoundError: if the artifact has no such file.
    """
    if name not in manifest.files:
        raise NotFoundError(f"{manifest.artifact.uri} has no file {name!r}")
    return name


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


Seen = tuple[tuple[str, int, int], ...]
"""Of each file of a folder: its name, its inode, and when it was last written to."""


def seen(folder: Path, manifest: Manifest) -> Seen:
    """Return what a folder's files are, so that whoever compared their bytes once need not as long
    as nobody has written to them.

    Raises:
        CorruptArtifactError: naming the first file that is missing or of another size.
    """
    check_sizes(folder, manifest)
    stats = {name: (folder / name).stat() for name in manifest.files}
    return tuple((name, found.st_ino, found.st_mtime_ns) for name, found in stats.items())


def check_bytes(folder: Path, manifest: Manifest) -> None:
    """Compare a folder with its manifest by sizes and digests.

    Raises:
        CorruptArtifactError: naming the first file that is not the one its manifest names.
    """
    check_sizes(folder, manifest)
    for name, stored in manifest.files.items():
        if describe_file(folder / name) != stored:
            raise CorruptArtifactError(
                f"{folder / name}: not the bytes that its manifest names; make the artifact again"
            )


def artifacts_below(root: Path, kind: str | None = None) -> Iterator[StoredArtifact]:
    """Yield the artifacts in the folders `<kind>/<digest>` below a root."""
    for folder in sorted(root.glob(f"{kind or '*'}/[!.]*")):
        if folder.is_dir():
            num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            yield StoredArtifact(uri_of(folder.parent.name, folder.name), num_bytes, age_seconds(folder))


def age_seconds(folder: Path) -> float:
    """Return for how long a folder has been as it is; 0 if it is gone."""
    try:
        return max(time.time() - folder.stat().st_mtime, 0.0)
    except FileNotFoundError:
        return 0.0


def _digest(files: dict[str, StoredFile], with_card: bool = False) -> str:
    described = {name: file.model_dump() for name, file in files.items() if with_card or name != CARD}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
