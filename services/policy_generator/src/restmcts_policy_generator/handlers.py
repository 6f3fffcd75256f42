"""Serve the requests to policies that wait: batches of one checkpoint and one set of generation
settings.
"""

from collections.abc import Callable, Sequence

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.requests import Claim, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.messages.commands import ProposeWaitingSteps
from restmcts.messages.wire import GENERATION, dump_response, load_proposal
from restmcts.ports import StepProposer
from restmcts.usecases.serve_models import ModelCache, WorkerSettings, serve_waiting


class PolicyGeneratorHandlers:
    """Handlers of the queue `policy`; `load` makes a proposer from a checkpoint's URI."""

    def __init__(self, database: Database, load: Callable[[str], StepProposer], settings: WorkerSettings) -> None:
        self._database = database
        self._settings = settings
        self._proposers = ModelCache(database, load, settings.max_models)

    def propose_steps(self, message: ProposeWaitingSteps) -> None:
        """Serve until nothing waits."""
        serve_waiting(self._database, RequestKind.PROPOSE, self._serve, self._settings)

    def close(self) -> None:
        """Give up all policies."""
        self._proposers.close()

    def _serve(self, claim: Claim, requests: Sequence[ClaimedRequest]) -> list[str]:
        proposer = self._proposers.get(claim.batch.checkpoint_id)
        answers = proposer.propose(
            [request.question for request in requests],
            [load_proposal(request.payload) for request in requests],
            GENERATION.validate_json(claim.batch.generation),
        )
        tokens = sum(sample.num_tokens for answer in answers for sample in answer.samples)
        metrics.TOKENS.labels("generated").inc(tokens)
        metrics.TOKENS.labels("prompt").inc(sum(answer.num_prompt_tokens for answer in answers))
        return [dump_response(answer) for answer in answers]
