"""Where a checkpoint lies: an artifact of the store, or a model as the user named it (a folder,
a hub id, or a server).
"""

import re
from pathlib import Path

from restmcts.adapters.models.ensemble import is_ensemble, members_of
from restmcts.adapters.models.http_policy.address import is_server, model_named
from restmcts.errors import InputError
from restmcts.ports import ArtifactStore

ARTIFACT = "artifact:"
_PART = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
_URI = re.compile(rf"{ARTIFACT}{_PART}/{_PART}")


def is_artifact(uri: str) -> bool:
    """Return whether a URI names an artifact, `artifact:KIND/DIGEST`: one folder of a store, and
    nothing around it.
    """
    return _URI.fullmatch(uri) is not None


def local_path(uri: str, artifacts: ArtifactStore) -> str | Path:
    """Return the folder of an artifact, fetched if need be, or the user's folder or hub id as it
    is.

    The weights of a model on a server are those of the model's name: servers name models by folder
    or hub id. What a URI says of a model behind a question mark
    (restmcts.modeling.prm.reference) is no part of where it is.

    Raises:
        InputError: if it is an ensemble of models, which has no files of its own.
    """
    if is_ensemble(uri):
        raise InputError(f"{uri} has no files of its own: name one of {', '.join(members_of(uri))}")
    if is_server(uri):
        return model_named(uri)
    place = uri.partition("?")[0]
    return artifacts.fetch(place) if place.startswith(ARTIFACT) else place
