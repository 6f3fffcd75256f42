"""A policy from what a checkpoint's URI names, by the engine that runs it."""

from restmcts.adapters.models.engines import engine_named, engine_of
from restmcts.adapters.models.http_policy.opening import policy_address
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.ports import ArtifactStore, StepProposer


def open_proposer(uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings) -> StepProposer:
    """Return the policy of a checkpoint; one that names no engine is asked of the server of
    policies, if the settings name one, else runs on the engine of the settings.

    Raises:
        InputError: if its URI, or the setting of the policies' server, is malformed.
        ModelError: if the model is not there, or is broken.
        StorageError: if its artifact cannot be fetched.
    """
    if engine_named(uri) is None:
        address = policy_address(uri, settings.servers)
        uri = uri if address is None else address.uri
    return engine_of(uri, settings.engine).open(uri, artifacts, settings)
