"""Where a checkpoint lies: an artifact of the store, or a model as the user named it (a folder or a hub id)."""

from pathlib import Path

from restmcts.ports import ArtifactStore

ARTIFACT = "artifact:"


def local_path(uri: str, artifacts: ArtifactStore) -> str | Path:
    """Return the folder of an artifact, fetched if need be, or the user's folder or hub id as it is."""
    return artifacts.fetch(uri) if uri.startswith(ARTIFACT) else uri
