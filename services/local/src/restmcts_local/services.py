"""All services in one process: their handlers, merged."""

import restmcts_coordinator.tasks as coordinator
import restmcts_policy_generator.tasks as policy_generator
import restmcts_prm_scorer.tasks as prm_scorer
import restmcts_trainer.tasks as trainer
import restmcts_tree_search.tasks as tree_search
import restmcts_value_labeler.tasks as value_labeler
from restmcts.adapters.workers.service import Handler, Handlers, ServiceContext

SERVICES = (coordinator, policy_generator, prm_scorer, trainer, tree_search, value_labeler)


def start(context: ServiceContext) -> Handlers:
    """Return the handlers of every message by wire name."""
    handlers: dict[str, Handler] = {}
    for service in SERVICES:
        handlers |= service.start(context)
    return handlers
