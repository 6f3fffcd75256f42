"""What the tree search does with the messages of its queue."""

from restmcts.adapters.workers.celery_worker import Handlers, WorkerContext
from restmcts.messages.commands import AdvanceTrees
from restmcts.messages.events import RequestsAnswered

from restmcts_tree_search.handlers import TreeSearchHandlers


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name."""
    handlers = TreeSearchHandlers(worker.database)
    return {AdvanceTrees.name: handlers.advance_trees, RequestsAnswered.name: handlers.take_answers}
