"""The engines behind HTTP: one a protocol (restmcts.adapters.models.http_policy.address)."""

from typing import TYPE_CHECKING, get_args

from restmcts.adapters.models.engines import ENGINES, Engine
from restmcts.adapters.models.http_policy.address import Protocol, parse_address
from restmcts.ports import ArtifactStore, StepProposer

if TYPE_CHECKING:
    from restmcts.adapters.workers.service import WorkerModelSettings


class HttpEngine(Engine):
    """A server that somebody else started."""

    def checked(self, uri: str) -> str:
        """Return the URI with its options in one order."""
        return parse_address(uri).uri

    def open(self, uri: str, artifacts: ArtifactStore, settings: "WorkerModelSettings") -> StepProposer:
        """Return a client; what is wrong with the server shows when it is asked."""
        from restmcts.adapters.models.http_policy.opening import open_policy

        return open_policy(parse_address(uri), settings.servers)


for _protocol in get_args(Protocol):
    ENGINES.add(_protocol, HttpEngine())
