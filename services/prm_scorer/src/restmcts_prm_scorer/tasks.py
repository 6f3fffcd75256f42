"""What the PRM scorer does with the messages of its queue."""

from restmcts.adapters.workers.celery_worker import Handlers, WorkerContext
from restmcts.adapters.workers.model_worker import WorkerSettings
from restmcts.messages.commands import JudgeValues, ScoreWaitingSteps
from restmcts.ports import StepScorer
from restmcts.settings import load_policy_server_settings

from restmcts_prm_scorer.handlers import PrmScorerHandlers
from restmcts_prm_scorer.opening import ScorerOptions, open_scorer


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name; models are loaded when requests first name them."""
    settings = worker.settings
    options = ScorerOptions(
        settings.max_batch_tokens, settings.key_value_bytes, settings.device, servers=load_policy_server_settings()
    )

    def load(uri: str) -> StepScorer:
        return open_scorer(uri, worker.artifacts, options)

    limits = WorkerSettings(
        max_requests=settings.max_requests,
        lease_seconds=settings.request_lease_seconds,
        stopping=worker.stopping,
        on_batch=worker.heartbeat.progress,
    )
    handlers = PrmScorerHandlers(worker.database, load, limits)
    worker.closers.append(handlers.close)
    return {ScoreWaitingSteps.name: handlers.score_steps, JudgeValues.name: handlers.judge_values}
