"""Serve the requests to value models that wait: batches of one checkpoint; and judge value
models for gates.
"""

from collections.abc import Callable, Sequence

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.requests import Claim, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.messages.commands import JudgeValues, ScoreWaitingSteps
from restmcts.messages.wire import dump_response, load_scoring
from restmcts.ports import StepScorer
from restmcts.usecases.serve_models import ModelCache, WorkerSettings, serve_waiting

from restmcts_prm_scorer.judging import judge


class PrmScorerHandlers:
    """Handlers of the queue `prm`; `load` makes a scorer from a checkpoint's URI."""

    def __init__(self, database: Database, load: Callable[[str], StepScorer], settings: WorkerSettings) -> None:
        self._database = database
        self._settings = settings
        self._scorers = ModelCache(database, load, settings.max_models)

    def score_steps(self, message: ScoreWaitingSteps) -> None:
        """Serve until nothing waits."""
        serve_waiting(self._database, RequestKind.SCORE, self._serve, self._settings)

    def judge_values(self, message: JudgeValues) -> None:
        """Judge a gate's candidate beside the promoted value model on held-out trees, and
        decide; a gate that is decided stays.
        """
        judge(self._database, self._scorers, message.phase_id)

    def close(self) -> None:
        """Give up all value models."""
        self._scorers.close()

    def _serve(self, claim: Claim, requests: Sequence[ClaimedRequest]) -> list[tuple[int, str]]:
        scorer = self._scorers.get(claim.batch.checkpoint_id)
        answers = scorer.score(
            [request.question for request in requests], [load_scoring(request.payload) for request in requests]
        )
        metrics.TOKENS.labels("scored").inc(sum(answer.num_scored_tokens for answer in answers))
        return [(place, dump_response(answer)) for place, answer in enumerate(answers)]
