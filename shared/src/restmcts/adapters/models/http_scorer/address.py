"""Where a scoring server is and how it is spoken to:
`pooling+http://HOST:8000?model=NAME&format=NAME&tokenizer=FOLDER_OR_ID`.

The scheme names the route: `pooling` (vLLM's /pooling) or `classify` (SGLang's /classify). A URI
contains no token: tokens are settings, by host, as those of policy servers are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from restmcts.adapters.models.http_policy.address import SCORING_PROTOCOLS, concurrency_of, refuse_password
from restmcts.errors import InputError

_OPTIONS = ("model", "tokenizer", "concurrency")


@dataclass(frozen=True, slots=True)
class ScoringAddress:
    """A scoring server.

    Attributes:
        route: of its requests, "pooling" or "classify".
        base_url: without a slash at its end.
        model: the name under which it must serve the reward model.
        tokenizer: folder or hub id; texts are encoded here, so that scores are read at the right
            tokens.
        concurrency: requests under way at once; None: as the settings say.
    """

    route: str
    base_url: str
    model: str
    tokenizer: str
    concurrency: int | None = None

    @property
    def host(self) -> str:
        """Return `host:port` as the URL writes it."""
        return urlsplit(self.base_url).netloc


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
    parts = urlsplit(url)
    refuse_password(place, parts.netloc)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise InputError(
            f"{place}: no scoring server; write pooling+http://HOST:PORT?model=NAME&format=NAME or classify+http://…"
        )
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
    return ScoringAddress(route, base_url, model, options.get("tokenizer") or model, concurrency_of(place, options))
