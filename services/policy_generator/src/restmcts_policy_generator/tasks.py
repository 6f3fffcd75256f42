"""What the policy generator does with the messages of its queue."""

from restmcts.adapters.models.http_policy.opening import open_policy, policy_address
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.celery_worker import Handlers, WorkerContext
from restmcts.adapters.workers.model_worker import WorkerSettings
from restmcts.messages.commands import ProposeWaitingSteps
from restmcts.ports import StepProposer
from restmcts.settings import load_policy_server_settings

from restmcts_policy_generator.handlers import PolicyGeneratorHandlers


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name; models are loaded when requests first name them."""
    settings = worker.settings
    servers = load_policy_server_settings()

    def load(uri: str) -> StepProposer:
        address = policy_address(uri, servers)
        if address is not None:
            return open_policy(address, servers)
        # Only who loads weights pays for torch: where all policies are behind HTTP, this process
        # needs none.
        from restmcts.modeling.checkpoints import load_policy
        from restmcts.modeling.policy.proposer import TransformersProposer

        model = load_policy(local_path(uri, worker.artifacts), device=settings.device)
        return TransformersProposer(model, settings.max_batch_tokens, settings.key_value_bytes)

    limits = WorkerSettings(
        max_requests=settings.max_requests,
        lease_seconds=settings.request_lease_seconds,
        stopping=worker.stopping,
        on_batch=worker.heartbeat.progress,
    )
    handlers = PolicyGeneratorHandlers(worker.database, load, limits)
    worker.closers.append(handlers.close)
    return {ProposeWaitingSteps.name: handlers.propose_steps}
