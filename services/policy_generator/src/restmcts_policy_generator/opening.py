"""A policy from what a checkpoint's URI names: weights in this process, or a server."""

from restmcts.adapters.models.http_policy.opening import open_policy, policy_address
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import ModelSettings
from restmcts.ports import ArtifactStore, StepProposer


def open_proposer(uri: str, artifacts: ArtifactStore, settings: ModelSettings) -> StepProposer:
    """Return the policy of a checkpoint.

    Raises:
        InputError: if its URI, or the setting of the policies' server, is malformed.
        ModelError: if the model is not there, or is broken.
        StorageError: if its artifact cannot be fetched.
    """
    address = policy_address(uri, settings.servers)
    if address is not None:
        return open_policy(address, settings.servers)
    # Only who loads weights pays for torch: where all policies are behind HTTP, this process needs
    # none.
    from restmcts.modeling.checkpoints import load_policy
    from restmcts.modeling.policy.proposer import TransformersProposer

    model = load_policy(local_path(uri, artifacts), **settings.loading)
    return TransformersProposer(model, settings.max_batch_tokens, settings.key_value_bytes)
