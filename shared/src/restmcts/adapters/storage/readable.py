"""Stores whose files can be read where they are: whoever passes them on keeps no copy."""

from collections.abc import Generator
from typing import Protocol

from restmcts.adapters.storage.manifests import Manifest
from restmcts.ports import ArtifactStore

PartsOfFile = Generator[bytes, None, None]
"""The bytes of a file; whoever does not read them to the end closes it."""


class ReadableStore(ArtifactStore, Protocol):
    """A store that says what an artifact is made of, and gives single files of it."""

    def manifest(self, uri: str) -> Manifest:
        """Return what an artifact is made of; its files are not looked at.

        Raises:
            StorageError: if there is no such artifact, or the store does not answer.
            CorruptArtifactError: if that is no manifest of it.
        """
        ...

    def read(self, manifest: Manifest, name: str) -> PartsOfFile:
        """Return the bytes of a file of an artifact, a part at a time; they are not compared.

        Raises:
            NotFoundError: if the artifact has no such file.
            StorageError: if the store does not give it, or between two parts breaks off.
        """
        ...
