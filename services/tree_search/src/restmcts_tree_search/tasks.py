"""What the tree search does with the messages of its queue."""

from restmcts.adapters.workers.service import Handlers, ServiceContext
from restmcts.messages.commands import AdvanceTrees
from restmcts.messages.events import RequestsAnswered

from restmcts_tree_search.handlers import TreeSearchHandlers


def start(context: ServiceContext) -> Handlers:
    """Return the handlers by wire name."""
    handlers = TreeSearchHandlers(context.database, context.settings.max_cached_trees)
    return {AdvanceTrees.name: handlers.advance_trees, RequestsAnswered.name: handlers.take_answers}
