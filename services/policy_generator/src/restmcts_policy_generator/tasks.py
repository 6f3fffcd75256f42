"""What the policy generator does with the messages of its queue."""

from restmcts.adapters.celery_worker import Handlers, WorkerContext
from restmcts.adapters.model_worker import WorkerSettings
from restmcts.adapters.uris import local_path
from restmcts.messages.commands import ProposeWaitingSteps
from restmcts.modeling.checkpoints import load_policy
from restmcts.modeling.policy import TransformersProposer

from restmcts_policy_generator.handlers import PolicyGeneratorHandlers


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name; models are loaded when requests first name them."""
    settings = worker.settings

    def load(uri: str) -> TransformersProposer:
        model = load_policy(local_path(uri, worker.artifacts), device=settings.device)
        return TransformersProposer(model, settings.max_batch_tokens, settings.key_value_bytes)

    limits = WorkerSettings(
        max_requests=settings.max_requests,
        lease_seconds=settings.request_lease_seconds,
        stopping=worker.stopping,
        on_batch=worker.heartbeat.progress,
    )
    handlers = PolicyGeneratorHandlers(worker.database, load, limits)
    return {ProposeWaitingSteps.name: handlers.propose_steps}
