"""Which policies are behind HTTP, and the proposer of each.

The clients' libraries take a second to import; whoever has no policy behind HTTP does without.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from restmcts.adapters.models.http_policy.address import ServerAddress, is_server, parse_address
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.ports import StreamingProposer
from restmcts.settings import PolicyServerSettings

if TYPE_CHECKING:
    from restmcts.adapters.models.http_policy.calling import ServerLimits

_DIGITS_OF_NAME = 16


class ClosableProposer(StreamingProposer, Protocol):
    """A policy behind HTTP."""

    def close(self) -> None:
        """Give up the connections."""
        ...


def served_name(uri: str) -> str:
    """Return the name under which a server serves a checkpoint: that of a stored one holds its
    digest; a hub id is its own.
    """
    if uri.startswith(ARTIFACT):
        return f"restmcts-{uri.rpartition('/')[2][:_DIGITS_OF_NAME]}"
    return Path(uri).name if Path(uri).is_absolute() else uri


def policy_address(uri: str, settings: PolicyServerSettings) -> ServerAddress | None:
    """Return where a policy is served; None: it is to be loaded into this process.

    Raises:
        InputError: if the URI or the setting is malformed.
    """
    if is_server(uri):
        return parse_address(uri)
    if settings.policy_server:
        return parse_address(settings.policy_server, needs_model=False).serving(served_name(uri))
    return None


def open_policy(address: ServerAddress, settings: PolicyServerSettings) -> ClosableProposer:
    """Return a proposer; a token goes to the host that it is set for alone."""
    from restmcts.adapters.models.http_policy.proposer import HttpProposer
    from restmcts.adapters.models.http_policy.replicated import ReplicatedProposer

    hosts, limits = address.hosts, limits_of(settings)
    if len(hosts) == 1 and not address.by_name:
        return HttpProposer(address, token_of(hosts[0], settings), limits)

    def opened(host: str, limits: "ServerLimits") -> HttpProposer:
        named = hosts[0] if address.by_name else host
        return HttpProposer(address.at(host), token_of(named, settings), limits)

    return ReplicatedProposer(address, opened, limits)


def token_of(host: str, settings: PolicyServerSettings) -> str:
    """Return the token that is set for a host; empty: none is."""
    token = settings.policy_tokens.get(host)
    return token.get_secret_value() if token is not None else ""


def limits_of(settings: PolicyServerSettings) -> "ServerLimits":
    """Return how servers are called."""
    from restmcts.adapters.models.http_policy.calling import ServerLimits

    return ServerLimits(settings.policy_concurrency, settings.policy_timeout_seconds, settings.policy_retry_seconds)
