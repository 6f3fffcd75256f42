"""What the PRM scorer does with the messages of its queue."""

from restmcts.adapters.celery_worker import Handlers, WorkerContext
from restmcts.adapters.model_worker import WorkerSettings
from restmcts.adapters.uris import local_path
from restmcts.messages.commands import JudgeValues, ScoreWaitingSteps
from restmcts.modeling.checkpoints import load_value_model
from restmcts.modeling.value_model import TransformersScorer

from restmcts_prm_scorer.handlers import PrmScorerHandlers


def start(worker: WorkerContext) -> Handlers:
    """Return the handlers by wire name; models are loaded when requests first name them."""
    settings = worker.settings

    def load(uri: str) -> TransformersScorer:
        model = load_value_model(local_path(uri, worker.artifacts), device=settings.device)
        return TransformersScorer(model, settings.max_batch_tokens, settings.key_value_bytes)

    limits = WorkerSettings(
        max_requests=settings.max_requests,
        lease_seconds=settings.request_lease_seconds,
        stopping=worker.stopping,
        on_batch=worker.heartbeat.progress,
    )
    handlers = PrmScorerHandlers(worker.database, load, limits)
    return {ScoreWaitingSteps.name: handlers.score_steps, JudgeValues.name: handlers.judge_values}
