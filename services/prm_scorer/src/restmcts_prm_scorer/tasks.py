"""What the PRM scorer does with the messages of its queue."""

from restmcts.adapters.workers.service import Handlers, ServiceContext
from restmcts.messages.commands import JudgeValues, ScoreWaitingSteps
from restmcts.ports import StepScorer
from restmcts.usecases.serve_models import WorkerSettings

from restmcts_prm_scorer.handlers import PrmScorerHandlers


def start(context: ServiceContext) -> Handlers:
    """Return the handlers by wire name; models are opened when requests first name them."""

    def own(uri: str) -> StepScorer:
        # Only who opens a model pays for torch.
        from restmcts_prm_scorer.opening import open_scorer

        return open_scorer(uri, context.artifacts, context.settings.models)

    handlers = PrmScorerHandlers(context.database, context.opened.scorer or own, WorkerSettings.of(context))
    context.closers.append(handlers.close)
    return {ScoreWaitingSteps.name: handlers.score_steps, JudgeValues.name: handlers.judge_values}
