"""The engine of weights in this process: the library transformers, with a decode loop of ours."""

from restmcts.adapters.models.engines import ENGINES, WEIGHTS, Engine
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.ports import ArtifactStore, StepProposer


class TransformersEngine(Engine):
    """Weights of a folder, an artifact or the hub."""

    def checked(self, uri: str) -> str:
        """Return the URI as it is: what it names is looked at when it is opened."""
        return uri

    def open(self, uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings) -> StepProposer:
        """Return the policy, loaded."""
        # Only who loads weights pays for torch: where all policies are behind HTTP, this process
        # needs none.
        from restmcts.modeling.checkpoints import load_policy
        from restmcts.modeling.policy.proposer import TransformersProposer

        model = load_policy(local_path(uri, artifacts), **settings.loading)
        return TransformersProposer(model, settings.max_batch_tokens, settings.key_value_bytes)


ENGINES.add(WEIGHTS, TransformersEngine())
