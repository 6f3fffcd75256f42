"""What the policy generator does with the messages of its queue."""

from functools import partial

from restmcts.adapters.models.engines import ENGINES
from restmcts.adapters.models.http_policy.opening import policy_address
from restmcts.adapters.workers.service import Handlers, ServiceContext
from restmcts.messages.commands import ProposeWaitingSteps
from restmcts.usecases.serve_claims import WorkerSettings

from restmcts_policy_generator.handlers import PolicyGeneratorHandlers
from restmcts_policy_generator.opening import open_proposer


def start(context: ServiceContext) -> Handlers:
    """Return the handlers by wire name; models are opened when requests first name them."""
    own = partial(open_proposer, artifacts=context.artifacts, settings=context.settings.models)

    def is_remote(uri: str) -> bool:
        return context.opened.policy is None and policy_address(uri, context.settings.models.servers) is not None

    load = context.opened.policy or own
    handlers = PolicyGeneratorHandlers(context.database, load, WorkerSettings.of(context), is_remote)
    context.sparers.append(handlers.spare_memory)
    context.closers.extend((ENGINES.get(context.settings.models.engine).close, handlers.close))
    return {ProposeWaitingSteps.name: handlers.propose_steps}
