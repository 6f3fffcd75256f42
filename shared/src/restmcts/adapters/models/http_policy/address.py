"""Where a policy server is and how it is spoken to, as one URI:
`openai+http://host:8000/v1?model=NAME`.

The scheme names the protocol: `openai` (completions of raw text: vLLM, SGLang, llama.cpp,
`transformers serve`), `chat` (their chat route) or `tgi` (text-generation-inference's `/generate`).
A URI contains no token: tokens are settings, by host. Several servers of one model are written as
`openai+http://ONE:8000,TWO:8000/v1?model=NAME`, or as one name that has an address for each of
them, with the option `replicas=dns`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from restmcts.domain.prompts import template_named
from restmcts.errors import InputError

Protocol = Literal["openai", "chat", "tgi"]
SCORING_PROTOCOLS = ("pooling", "classify")
"""Of servers that score (restmcts.adapters.models.http_scorer); no policies."""
_SCHEMES = (*get_args(Protocol), *SCORING_PROTOCOLS)
_OPTIONS = ("model", "template", "prefill", "concurrency", "replicas")
MAX_DIGITS = 9
"""Of a number in a URI."""
DEFAULT_PORTS = {"http": 80, "https": 443}


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
        concurrency: requests of one server under way at once; None: as the settings say.
        by_name: whether each address of the host's name is a server.
    """

    protocol: Protocol
    base_url: str
    model: str = ""
    template: str = "plain"
    prefill: bool = False
    concurrency: int | None = None
    by_name: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return each server's `host:port` as the URL writes it."""
        return hosts_of(self.base_url)

    @property
    def uri(self) -> str:
        """Return the URI that `parse_address` reads."""
        given = {
            "model": self.model,
            "template": self.template if self.template != "plain" else "",
            "prefill": "1" if self.prefill else "",
            "concurrency": str(self.concurrency or ""),
            "replicas": "dns" if self.by_name else "",
        }
        query = "&".join(f"{name}={quote(value, safe='/:@')}" for name, value in given.items() if value)
        return f"{self.protocol}+{self.base_url}" + (f"?{query}" if query else "")

    def serving(self, model: str) -> "ServerAddress":
        """Return the same server with another model."""
        return replace(self, model=model)

    def at(self, host: str) -> "ServerAddress":
        """Return one server of several."""
        return replace(self, base_url=url_at(self.base_url, host), by_name=False)


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
    # A part of the URI that may hold a password is not shown again.
    shown = uri.rpartition("@")[2]
    if protocol not in get_args(Protocol) or not has_hosts(rest):
        raise InputError(
            f"{shown}: no policy server; write openai+http://HOST:PORT/v1?model=NAME, chat+http://… or tgi+http://…"
        )
    parts = urlsplit(rest)
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
    return ServerAddress(
        protocol,  # type: ignore[arg-type]
        base_url,
        options.get("model", ""),
        template,
        prefill,
        concurrency_of(uri, options),
        is_by_name(uri, base_url, options),
    )


def hosts_of(url: str) -> tuple[str, ...]:
    """Return the hosts that a URL lists, each with its port as it is written."""
    return tuple(urlsplit(url).netloc.split(","))


def url_at(url: str, host: str) -> str:
    """Return the URL with one host in place of those that it lists."""
    return urlunsplit(urlsplit(url)._replace(netloc=host))


def split_host(host: str) -> tuple[str, int | None]:
    """Return the name of `host:port`, and the port if one is written.

    Raises:
        ValueError: if it is malformed.
    """
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port


def has_hosts(url: str) -> bool:
    """Return whether a URL is one of HTTP, and each host that it lists is well-formed."""
    try:
        return urlsplit(url).scheme in DEFAULT_PORTS and all(split_host(host)[0] for host in hosts_of(url))
    except ValueError:
        return False


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
    if not given.isdecimal() or len(given) > MAX_DIGITS or int(given) < 1:
        raise InputError(f"{uri}: concurrency is {given!r}; give a number of at least 1")
    return int(given)


def is_by_name(uri: str, url: str, options: Mapping[str, str]) -> bool:
    """Return whether a URI says that each address of its host's name is a server.

    Raises:
        InputError: if it says something else, or has several hosts, or certificates, which are of
            names.
    """
    given = options.get("replicas", "")
    if given not in ("", "dns"):
        raise InputError(
            f"{uri}: replicas is {given!r}; write replicas=dns, or list the servers: http://ONE:PORT,TWO:PORT"
        )
    if given and (len(hosts_of(url)) > 1 or not url.startswith("http://")):
        raise InputError(f"{uri}: replicas=dns is for one name, with http; list the servers themselves")
    return bool(given)
