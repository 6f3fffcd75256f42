"""Engines: what runs a policy. Each is known by the scheme of the URIs that it answers for,
`NAME+http://HOST:PORT`; weights in this process are those of the engine `transformers`.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from restmcts.ports import ArtifactStore, StepProposer
from restmcts.registry import Registry

if TYPE_CHECKING:
    from restmcts.adapters.workers.service import WorkerModelSettings

WEIGHTS = "transformers"
"""The engine of folders, artifacts and hub ids, where none is chosen for them."""
VLLM = "vllm"
"""The engine that starts a vLLM server for them."""


class Engine(ABC):
    """What runs a policy, registered in `ENGINES` under the scheme of its URIs."""

    @abstractmethod
    def checked(self, uri: str) -> str:
        """Return a URI as a run stores it; nothing is loaded and no server is asked.

        Raises:
            InputError: if it is malformed.
        """

    @abstractmethod
    def open(self, uri: str, artifacts: ArtifactStore, settings: "WorkerModelSettings") -> StepProposer:
        """Return the policy of a URI.

        Raises:
            InputError: if the URI is malformed.
            ModelError: if the model is not there, or is broken.
            StorageError: if its artifact cannot be fetched.
        """

    def check(self) -> None:  # noqa: B027
        """Raise ModelError if this machine lacks what the engine needs, before a run begins."""

    def close(self) -> None:  # noqa: B027
        """Give up what the engine keeps beside its policies: a server that it started."""


ENGINES: Registry[Engine] = Registry("engines", "engine")


def engine_named(uri: str) -> str | None:
    """Return the engine that the scheme of a URI names; None if it names none that is known."""
    scheme, is_url, _ = uri.partition("://")
    name, plus, _ = scheme.partition("+")
    return name if is_url and plus and name in ENGINES else None


def engine_of(uri: str, of_weights: str = WEIGHTS) -> Engine:
    """Return the engine that runs the policy of a URI.

    Args:
        of_weights: the engine of a URI that names none.

    Raises:
        InputError: if it is not installed.
    """
    return ENGINES.get(engine_named(uri) or of_weights)
