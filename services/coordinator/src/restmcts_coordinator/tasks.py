"""What the coordinator does with the messages of its queue, and by the clock."""

from prometheus_client import REGISTRY
from restmcts.adapters.observability.stack_metrics import StackCollector
from restmcts.adapters.workers.celery_worker import Handlers, WorkerContext
from restmcts.messages.commands import AdvanceRun
from restmcts.messages.events import CheckpointTrained, DatasetWritten, TreesLabelled, ValuesJudged
from restmcts.usecases.reconcile import Patience

from restmcts_coordinator.beat import Beat
from restmcts_coordinator.handlers import CoordinatorHandlers, CoordinatorSettings


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name, and begin the beat."""
    settings = worker.settings
    patience = Patience(settings.reconcile_seconds, settings.max_attempts)
    handlers = CoordinatorHandlers(worker.database, CoordinatorSettings(settings.max_trees_in_flight, patience))
    if settings.metrics_port is not None:
        collector = StackCollector(worker.database, settings.redis_url.get_secret_value())
        REGISTRY.register(collector)
        worker.closers.append(lambda: REGISTRY.unregister(collector))
    Beat(handlers, worker.bus, settings.reconcile_seconds, worker.stopping).start()
    messages = (AdvanceRun, TreesLabelled, DatasetWritten, CheckpointTrained, ValuesJudged)
    return {message.name: handlers.advance_run for message in messages}
