"""What the value labeler does with the messages of its queue."""

from restmcts.adapters.models.http_policy.judges import Judges
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.adapters.workers.service import Handlers, ServiceContext
from restmcts.messages.commands import AnswerWaitingCalls, LabelTrees, WriteDataset
from restmcts.ports import Verifier
from restmcts.usecases.serve_claims import WorkerSettings

from restmcts_value_labeler.handlers import ValueLabelerHandlers


def start(context: ServiceContext) -> Handlers:
    """Return the handlers by wire name."""
    verifier = context.opened.verifier or _verifier(context)
    settings = WorkerSettings.of(context)
    if context.opened.policy is not None:
        open_judge = context.opened.policy
    else:
        judges = Judges(context.settings.models.servers)
        context.closers.append(judges.close)
        open_judge = judges.open
    handlers = ValueLabelerHandlers(context.database, context.artifacts, verifier, settings, open_judge)
    return {
        LabelTrees.name: handlers.label_trees,
        AnswerWaitingCalls.name: handlers.answer_calls,
        WriteDataset.name: handlers.write_dataset,
    }


def _verifier(context: ServiceContext) -> Verifier:
    verifier = AnswerVerifier(context.settings.verify_seconds)
    context.closers.append(verifier.close)
    return verifier
