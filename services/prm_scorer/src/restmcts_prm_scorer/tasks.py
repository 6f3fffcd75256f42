"""What the PRM scorer does with the messages of its queue."""

from restmcts.adapters.models.engines import VLLM
from restmcts.adapters.models.ensemble import members_of
from restmcts.adapters.models.http_policy.address import is_server
from restmcts.adapters.models.http_scorer.address import is_scoring_server
from restmcts.adapters.workers.service import Handlers, ServiceContext
from restmcts.messages.commands import EvaluateValues, ScoreWaitingSteps
from restmcts.ports import StepScorer
from restmcts.usecases.serve_claims import WorkerSettings

from restmcts_prm_scorer.handlers import PrmScorerHandlers
from restmcts_prm_scorer.vllm_values import VllmValues


def start(context: ServiceContext) -> Handlers:
    """Return the handlers by wire name; models are opened when requests first name them."""

    on_vllm = VllmValues() if context.settings.models.engine == VLLM else None

    def own(uri: str) -> StepScorer:
        # Only who opens a model pays for torch.
        from restmcts_prm_scorer.opening import open_scorer

        return open_scorer(uri, context.artifacts, context.settings.models, on_vllm)

    def is_remote(uri: str) -> bool:
        return context.opened.scorer is None and all(
            is_server(one) or is_scoring_server(one) for one in members_of(uri)
        )

    load = context.opened.scorer or own
    handlers = PrmScorerHandlers(context.database, load, WorkerSettings.of(context), is_remote)
    context.sparers.append(handlers.spare_memory)
    context.closers.extend(([] if on_vllm is None else [on_vllm.close]) + [handlers.close])
    return {ScoreWaitingSteps.name: handlers.score_steps, EvaluateValues.name: handlers.evaluate_values}
