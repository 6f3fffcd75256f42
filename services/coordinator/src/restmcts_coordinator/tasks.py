"""What the coordinator does with the messages of its queue."""

from restmcts.adapters.workers.service import Handlers, ServiceContext
from restmcts.messages.commands import AdvanceRun
from restmcts.messages.events import CheckpointTrained, DatasetWritten, TreesLabelled, ValuesJudged

from restmcts_coordinator.handlers import CoordinatorHandlers


def start(context: ServiceContext) -> Handlers:
    """Return the handlers by wire name."""
    handlers = CoordinatorHandlers(context.database, context.settings.max_trees_in_flight)
    context.ticks.append(handlers.wake_passed_over)
    messages = (AdvanceRun, TreesLabelled, DatasetWritten, CheckpointTrained, ValuesJudged)
    return {message.name: handlers.advance_run for message in messages}
