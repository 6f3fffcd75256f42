"""What the value labeler does with the messages of its queue."""

from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.adapters.workers.celery_worker import Handlers, WorkerContext
from restmcts.domain.tasks.puzzles import CHECKERS
from restmcts.messages.commands import LabelTrees, WriteDataset

from restmcts_value_labeler.handlers import ValueLabelerHandlers


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name."""
    verifier = AnswerVerifier(CHECKERS, worker.settings.verify_seconds)
    worker.closers.append(verifier.close)
    handlers = ValueLabelerHandlers(worker.database, worker.artifacts, verifier)
    return {LabelTrees.name: handlers.label_trees, WriteDataset.name: handlers.write_dataset}
