"""The scorer of a scoring server, or of several."""

from collections.abc import Sequence
from dataclasses import replace

from restmcts.adapters.models.http_policy.opening import limits_of, token_of
from restmcts.adapters.models.http_scorer.address import ScoringAddress
from restmcts.adapters.models.http_scorer.scorer import HttpScorer, ScoreReading
from restmcts.adapters.models.replicas import RETRY_SECONDS, Replicas, hosts_now
from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.ports import StepScorer
from restmcts.settings import PolicyServerSettings


class ReplicatedScorer:
    """A `StepScorer` over several servers of one reward model."""

    def __init__(self, replicas: Replicas[HttpScorer]) -> None:
        self._replicas = replicas

    def close(self) -> None:
        """Give up the connections."""
        self._replicas.close()

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; see `HttpScorer.score`."""
        answers = dict(self._replicas.answers(questions, requests, HttpScorer.score))
        return [answers[place] for place in range(len(requests))]


def open_http_scorer(address: ScoringAddress, reading: ScoreReading, settings: PolicyServerSettings) -> StepScorer:
    """Return a scorer; a token goes to the host that it is set for alone."""
    hosts, limits = address.hosts, limits_of(settings)
    if len(hosts) == 1 and not address.by_name:
        return HttpScorer(address, token_of(hosts[0], settings), limits, reading)
    hasty = replace(limits, retry_seconds=min(limits.retry_seconds, RETRY_SECONDS))

    def opened(host: str) -> HttpScorer:
        named = hosts[0] if address.by_name else host
        return HttpScorer(address.at(host), token_of(named, settings), hasty, reading)

    now = hosts_now(address.base_url, by_name=address.by_name)
    return ReplicatedScorer(Replicas(now, opened, address.concurrency or limits.concurrency))
