"""Serve the requests to value models that wait: batches of one checkpoint; and evaluate
value models for promotions.
"""

from collections.abc import Callable, Sequence

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.adapters.workers.model_cache import ModelCache
from restmcts.messages.commands import EvaluateValues, ScoreWaitingSteps
from restmcts.messages.wire import dump_response, load_scoring
from restmcts.ports import MayBegin, StepScorer
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts.usecases.serve_models import Serving

from restmcts_prm_scorer.value_evaluation import Evaluations


class PrmScorerHandlers:
    """Handlers of the queue `prm`.

    Args:
        load: makes a scorer from a checkpoint's URI.
        is_remote: whether a URI's value model is behind HTTP.
    """

    def __init__(
        self,
        database: Database,
        load: Callable[[str], StepScorer],
        settings: WorkerSettings,
        is_remote: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._scorers = ModelCache(database, load, settings.max_models, is_remote)
        self._evaluations = Evaluations(database, self._scorers, settings)
        self._serving = Serving(database, RequestKind.SCORE, self._serve, settings, self._scorers.is_remote)

    def score_steps(self, message: ScoreWaitingSteps) -> None:
        """Serve what waits."""
        self._serving.wake()

    def evaluate_values(self, message: EvaluateValues) -> None:
        """Evaluate a candidate beside the promoted value model on held-out trees, and decide;
        a promotion that is decided stays.
        """
        self._evaluations.ask(message.phase_id)

    def spare_memory(self) -> None:
        """Let go of value models that nobody uses."""
        self._scorers.spare_memory()

    def close(self) -> None:
        """Give up all value models."""
        self._evaluations.close()
        self._serving.close()
        self._scorers.close()

    def _serve(self, claim: ClaimedBatch, requests: Sequence[ClaimedRequest], _: MayBegin) -> list[tuple[int, str]]:
        questions = [request.question for request in requests]
        asked = [load_scoring(request.payload) for request in requests]
        with self._scorers.use(claim.batch.checkpoint_id) as scorer:
            answers = scorer.score(questions, asked)
        metrics.TOKENS.labels("scored").inc(sum(answer.num_scored_tokens for answer in answers))
        return [(place, dump_response(answer)) for place, answer in enumerate(answers)]
