"""The scorer of a scoring server."""

from restmcts.adapters.models.http_policy.opening import limits_of, token_of
from restmcts.adapters.models.http_scorer.address import ScoringAddress
from restmcts.adapters.models.http_scorer.scorer import HttpScorer, ScoreReading
from restmcts.settings import PolicyServerSettings


def open_http_scorer(address: ScoringAddress, reading: ScoreReading, settings: PolicyServerSettings) -> HttpScorer:
    """Return a scorer; a token goes to the host that it is set for alone."""
    return HttpScorer(address, token_of(address.host, settings), limits_of(settings), reading)
