"""Where a policy server is and how it is spoken to, as one URI:
`openai+http://host:8000/v1?model=NAME`.

The scheme names the protocol: `openai` (completions of raw text: vLLM, SGLang, llama.cpp,
`transformers serve`), `chat` (their chat route) or `tgi` (text-generation-inference's `/generate`).
A URI contains no token: tokens are settings, by host.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import parse_qsl, quote, urlsplit

from restmcts.domain.prompts import template_named
from restmcts.errors import InputError

Protocol = Literal["openai", "chat", "tgi"]
SCORING_PROTOCOLS = ("pooling", "classify")
"""Of servers that score (restmcts.adapters.models.http_scorer); no policies."""
_SCHEMES = (*get_args(Protocol), *SCORING_PROTOCOLS)
_OPTIONS = ("model", "template", "prefill", "concurrency")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A policy server.

    Attributes:
        protocol: of its requests.
        base_url: without a slash at its end; for `openai` and `chat` up to and with `/v1`.
        model: the name under which it must serve the policy; empty only where checkpoints are
            served under names of their own.
        template: of the prompts.
        prefill: whether a chat server continues the assistant's last turn (vLLM, SGLang); else it
            is shown to it as text.
        concurrency: requests under way at once; None: as the settings say.
    """

    protocol: Protocol
    base_url: str
    model: str = ""
    template: str = "plain"
    prefill: bool = False
    concurrency: int | None = None

    @property
    def host(self) -> str:
        """Return `host:port` as the URL writes it."""
        return urlsplit(self.base_url).netloc

    @property
    def uri(self) -> str:
        """Return the URI that `parse_address` reads."""
        given = {
            "model": self.model,
            "template": self.template if self.template != "plain" else "",
            "prefill": "1" if self.prefill else "",
            "concurrency": str(self.concurrency or ""),
        }
        query = "&".join(f"{name}={quote(value, safe='/:@')}" for name, value in given.items() if value)
        return f"{self.protocol}+{self.base_url}" + (f"?{query}" if query else "")

    def serving(self, model: str) -> "ServerAddress":
        """Return the same server with another model."""
        return replace(self, model=model)


def is_server(uri: str) -> bool:
    """Return whether a model's URI names a server (it may still be malformed)."""
    scheme, is_url, _ = uri.partition("://")
    return bool(is_url) and (scheme.partition("+")[0] in _SCHEMES or scheme.rpartition("+")[2] in ("http", "https"))


def model_named(uri: str) -> str:
    """Return the model that a server's URI names, "" if none; whatever else it says is not
    looked at.
    """
    return dict(parse_qsl(urlsplit(uri.partition("+")[2]).query)).get("model", "")


def parse_address(uri: str, *, needs_model: bool = True) -> ServerAddress:
    """Return what a URI says.

    Raises:
        InputError: if it is malformed, names no model, contains a password, or has an option that
            is not known.
    """
    protocol, _, rest = uri.partition("+")
    parts = urlsplit(rest)
    # A part of the URI that may hold a password is not shown again.
    shown = uri.rpartition("@")[2] if "@" in parts.netloc else uri
    if protocol not in get_args(Protocol) or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"{shown}: no policy server; write openai+http://HOST:PORT/v1?model=NAME, chat+http://… or tgi+http://…"
        )
    refuse_password(uri, parts.netloc)
    options = dict(parse_qsl(parts.query))
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown or parts.fragment:
        raise InputError(f"{uri}: unknown option {', '.join(unknown) or '#'}; there are {', '.join(_OPTIONS)}")
    if needs_model and not options.get("model"):
        raise InputError(
            f"{uri}: name the model that the server serves, ?model=NAME; another model's steps are never accepted in its place"
        )
    template = options.get("template", "plain")
    template_named(template)
    base_url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    prefill = options.get("prefill", "") in ("1", "true", "yes")
    return ServerAddress(protocol, base_url, options.get("model", ""), template, prefill, concurrency_of(uri, options))  # type: ignore[arg-type]


def refuse_password(uri: str, netloc: str) -> None:
    """Raise InputError if a URI's place contains a token or a password, which is not shown
    again.
    """
    if "@" in netloc:
        shown = uri.rpartition("@")[2]
        raise InputError(
            f'{shown}: a URI contains no token or password; set RESTMCTS_POLICY_TOKENS=\'{{"HOST:PORT": "TOKEN"}}\''
        )


def concurrency_of(uri: str, options: Mapping[str, str]) -> int | None:
    """Return how many requests a URI allows under way at once; None: it does not say.

    Raises:
        InputError: if it is no number of at least 1.
    """
    given = options.get("concurrency")
    if given is None:
        return None
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"{uri}: concurrency is {given!r}; give a number of at least 1")
    return int(given)
