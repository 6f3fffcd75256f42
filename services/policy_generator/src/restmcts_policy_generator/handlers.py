"""Serve the requests to policies that wait: batches of one checkpoint and one set of generation
settings.
"""

from collections.abc import Callable, Iterator, Sequence

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.adapters.workers.model_cache import ModelCache
from restmcts.messages.commands import ProposeWaitingSteps
from restmcts.messages.wire import GENERATION, dump_response, load_proposal
from restmcts.ports import MayBegin, StepProposer, StreamingProposer
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts.usecases.serve_models import Serving


class PolicyGeneratorHandlers:
    """Handlers of the queue `policy`.

    Args:
        load: makes a proposer from a checkpoint's URI.
        is_remote: whether a URI's policy is behind HTTP.
    """

    def __init__(
        self,
        database: Database,
        load: Callable[[str], StepProposer],
        settings: WorkerSettings,
        is_remote: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._proposers = ModelCache(database, load, settings.max_models, is_remote)
        self._serving = Serving(database, RequestKind.PROPOSE, self._serve, settings, self._proposers.is_remote)

    def propose_steps(self, message: ProposeWaitingSteps) -> None:
        """Serve what waits."""
        self._serving.wake()

    def spare_memory(self) -> None:
        """Let go of policies that nobody uses."""
        self._proposers.spare_memory()

    def close(self) -> None:
        """Give up all policies."""
        self._serving.close()
        self._proposers.close()

    def _serve(
        self, claim: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin
    ) -> Iterator[tuple[int, str]]:
        questions = [request.question for request in requests]
        asked = [load_proposal(request.payload) for request in requests]
        generation = GENERATION.validate_json(claim.batch.generation)
        with self._proposers.use(claim.batch.checkpoint_id) as proposer:
            if isinstance(proposer, StreamingProposer):
                answers = proposer.stream(questions, asked, generation, may_begin)
            else:
                answers = iter(enumerate(proposer.propose(questions, asked, generation)))
            for place, answer in answers:
                metrics.TOKENS.labels("generated").inc(sum(sample.num_tokens for sample in answer.samples))
                metrics.TOKENS.labels("prompt").inc(answer.num_prompt_tokens)
                yield place, dump_response(answer)
