"""What the trainer does with the messages of its queue."""

from restmcts.adapters.workers.service import Handlers, ServiceContext
from restmcts.messages.commands import TrainPolicy, TrainValue

from restmcts_trainer.handlers import TrainerHandlers


def start(context: ServiceContext) -> Handlers:
    """Return the handlers by wire name; a job under way is given back when the process is asked
    to end.
    """
    handlers = TrainerHandlers(context)
    context.stoppers.append(handlers.stop)
    context.closers.append(handlers.close)
    return {TrainPolicy.name: handlers.train, TrainValue.name: handlers.train}
