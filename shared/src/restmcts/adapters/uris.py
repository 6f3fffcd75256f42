"""Where a checkpoint lies: an artifact of the store, or a model as the user named it (a folder, a hub id, or a server)."""

from pathlib import Path

from restmcts.adapters.http_policy.address import is_server, parse_address
from restmcts.ports import ArtifactStore

ARTIFACT = "artifact:"


def local_path(uri: str, artifacts: ArtifactStore) -> str | Path:
    """Return the folder of an artifact, fetched if need be, or the user's folder or hub id as it is.

    The weights of a policy on a server are those of the model's name: servers name models by folder or hub id.
    """
    if is_server(uri):
        return parse_address(uri).model
    return artifacts.fetch(uri) if uri.startswith(ARTIFACT) else uri
