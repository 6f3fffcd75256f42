"""Where a scoring server is and how it is spoken to:
`pooling+http://HOST:8000?model=NAME&format=NAME&tokenizer=FOLDER_OR_ID`.

The scheme names the route: `pooling` (vLLM's /pooling) or `classify` (SGLang's /classify). A URI
contains no token: tokens are settings, by host, as those of policy servers are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from restmcts.adapters.models.http_policy.address import (
    SCORING_PROTOCOLS,
    concurrency_of,
    has_hosts,
    hosts_of,
    is_by_name,
    refuse_password,
    url_at,
)
from restmcts.errors import InputError

_OPTIONS = ("model", "tokenizer", "concurrency", "replicas")


@dataclass(frozen=True, slots=True)
class ScoringAddress:
    """A scoring server.

    Attributes:
        route: of its requests, "pooling" or "classify".
        base_url: without a slash at its end.
        model: the name under which it must serve the reward model.
        tokenizer: folder or hub id; texts are encoded here, so that scores are read at the right
            tokens.
        concurrency: requests of one server under way at once; None: as the settings say.
        by_name: whether each address of the host's name is a server.
    """

    route: str
    base_url: str
    model: str
    tokenizer: str
    concurrency: int | None = None
    by_name: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return each server's `host:port` as the URL writes it."""
        return hosts_of(self.base_url)

    def at(self, host: str) -> "ScoringAddress":
        """Return one server of several."""
        return replace(self, base_url=url_at(self.base_url, host), by_name=False)


def is_scoring_server(place: str) -> bool:
    """Return whether a reward model's place is a scoring server (it may still be malformed)."""
    return "://" in place and place.partition("+")[0] in SCORING_PROTOCOLS


def parse_scoring_address(place: str, options: Mapping[str, str]) -> ScoringAddress:
    """Return what a reference says of a server.

    Raises:
        InputError: if it is malformed, names no model, contains a password, or has an option that
            is not known.
    """
    route, _, url = place.partition("+")
    parts = urlsplit(url) if has_hosts(url) else None
    if parts is None or parts.fragment:
        raise InputError(
            f"{place.rpartition('@')[2]}: no scoring server; write pooling+http://HOST:PORT?model=NAME&format=NAME or classify+http://…"
        )
    refuse_password(place, parts.netloc)
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise InputError(
            f"{place}: unknown option {', '.join(unknown)}; there are format, aggregation, separator, {', '.join(_OPTIONS)}"
        )
    model = options.get("model", "")
    if not model:
        raise InputError(
            f"{place}: name the model that the server serves, ?model=NAME; another model's scores are never accepted in its place"
        )
    base_url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    tokenizer, concurrency = options.get("tokenizer") or model, concurrency_of(place, options)
    return ScoringAddress(route, base_url, model, tokenizer, concurrency, is_by_name(place, base_url, options))
