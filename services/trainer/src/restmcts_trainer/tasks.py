"""What the trainer does with the messages of its queue."""

from restmcts.adapters.workers.celery_worker import Handlers, WorkerContext
from restmcts.messages.commands import TrainPolicy, TrainValue

from restmcts_trainer.handlers import TrainerHandlers


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name; a job under way is given back when the worker is asked
    to end.
    """
    settings = worker.settings
    handlers = TrainerHandlers(
        worker.database,
        worker.artifacts,
        settings.run_dir / "training",
        settings.job_lease_seconds,
        on_progress=lambda *_: worker.heartbeat.progress(),
        num_processes=settings.training_processes,
    )
    worker.stoppers.append(handlers.stop)
    worker.closers.append(handlers.close)
    return {TrainPolicy.name: handlers.train, TrainValue.name: handlers.train}
