"""Which policies are behind HTTP, and the proposer of each.

The clients' libraries take a second to import; whoever has no policy behind HTTP does without.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from restmcts.adapters.models.http_policy.address import ServerAddress, is_server, parse_address
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.settings import PolicyServerSettings

if TYPE_CHECKING:
    from restmcts.adapters.models.http_policy.calling import ServerLimits
    from restmcts.adapters.models.http_policy.proposer import HttpProposer

_DIGITS_OF_NAME = 16


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


def open_policy(address: ServerAddress, settings: PolicyServerSettings) -> "HttpProposer":
    """Return a proposer; a token goes to the host that it is set for alone."""
    from restmcts.adapters.models.http_policy.proposer import HttpProposer

    return HttpProposer(address, token_of(address.host, settings), limits_of(settings))


def token_of(host: str, settings: PolicyServerSettings) -> str:
    """Return the token that is set for a host; empty: none is."""
    token = settings.policy_tokens.get(host)
    return token.get_secret_value() if token is not None else ""


def limits_of(settings: PolicyServerSettings) -> "ServerLimits":
    """Return how servers are called."""
    from restmcts.adapters.models.http_policy.calling import ServerLimits

    return ServerLimits(settings.policy_concurrency, settings.policy_timeout_seconds, settings.policy_retry_seconds)
