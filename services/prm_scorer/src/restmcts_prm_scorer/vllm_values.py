"""Value models on a vLLM server that this process starts: its weights are those that requests ask
for, and it gives an output for every token.
"""

from collections.abc import Sequence
from functools import partial

from restmcts.adapters.models.http_policy.calling import ServerLimits
from restmcts.adapters.models.http_scorer.address import ScoringAddress
from restmcts.adapters.models.http_scorer.scorer import HttpScorer, ScoreReading
from restmcts.adapters.models.vllm_server.process import SERVED_NAME
from restmcts.adapters.models.vllm_server.serving import asked_of_weights, server_limits, server_settings
from restmcts.adapters.models.vllm_server.weights import VllmServer, Weights
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.scoring import Aggregation
from restmcts.settings import load_vllm_server_settings

ARGUMENTS = """--runner pooling --pooler-config '{"task": "token_classify"}'"""
MEMORY_SHARE = 0.3
"""Of a GPU that the policy's server has most of."""


class VllmValues:
    """The server of a process's value models, started when the first of them is asked."""

    def __init__(self) -> None:
        self._server: VllmServer | None = None

    @property
    def num_starts(self) -> int:
        """How often a server was started."""
        return 0 if self._server is None else self._server.num_starts

    def open(self, uri: str, path: str, settings: WorkerModelSettings, aggregation: Aggregation) -> "VllmScorer | None":
        """Return a value model; None where vLLM cannot serve it: of another format, not causal.

        Raises:
            ModelError: if the model is broken.
            InputError: if there is no such template.
        """
        from restmcts.modeling.prm.served import served_value

        served = served_value(path, template=settings.template, trust_remote_code=settings.trust_remote_code)
        if served is None:
            return None
        own = load_vllm_server_settings()
        if self._server is None:
            self._server = VllmServer(server_settings(own, settings, ARGUMENTS, memory_share=MEMORY_SHARE))
        reading = ScoreReading(
            served.layout.readings_of_paths,
            good_class=None,
            low=0.0,
            high=1.0,
            aggregation=aggregation,
            takes_sigmoid=served.takes_sigmoid,
            calibration=served.calibration,
        )
        limits = server_limits(own, settings)
        return VllmScorer(self._server, Weights(uri, path, settings.dtype), reading, limits)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()
            self._server = None


class VllmScorer:
    """A `StepScorer` over a server that is started anew when it dies."""

    def __init__(self, server: VllmServer, weights: Weights, reading: ScoreReading, limits: ServerLimits) -> None:
        self._server, self._weights, self._reading, self._limits = server, weights, reading, limits
        self._asked: tuple[str, HttpScorer] | None = None

    def close(self) -> None:
        """Give up the connections; the server stays."""
        if self._asked is not None:
            self._asked[1].close()
            self._asked = None

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; see `HttpScorer.score`."""
        if not requests:
            return []
        return asked_of_weights(
            self._server, self._weights, partial(self._answers, questions=questions, requests=requests)
        )

    def _answers(self, url: str, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        if self._asked is None or self._asked[0] != url:
            self.close()
            address = ScoringAddress("pooling", url, SERVED_NAME, tokenizer="")
            self._asked = url, HttpScorer(address, "", self._limits, self._reading)
        return self._asked[1].score(questions, requests)
