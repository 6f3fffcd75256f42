"""What both kinds of models ask of a vLLM server of one's own: how it is started, and answers that
other weights gave are asked for again.
"""

from collections.abc import Callable
from typing import TypeVar

from restmcts.adapters.models.http_policy.calling import ServerLimits
from restmcts.adapters.models.vllm_server.process import VllmSettings
from restmcts.adapters.models.vllm_server.weights import VllmServer, Weights
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.errors import ServerUnavailableError
from restmcts.settings import VllmServerSettings

STARTS_OF_A_BATCH = 3
SECONDS_TO_RETRY = 5.0
SECONDS_ASLEEP = 10.0
Answers = TypeVar("Answers")


def server_settings(
    own: VllmServerSettings, settings: WorkerModelSettings, arguments: str = "", *, memory_share: float
) -> VllmSettings:
    """Return how a server is started.

    Args:
        arguments: of `vllm serve`, before those that people give.
        memory_share: of a GPU that it takes, where people do not say otherwise.
    """
    on_gpu = settings.device != "cpu"
    shared = f"--enable-sleep-mode --gpu-memory-utilization {memory_share}" if on_gpu else ""
    return VllmSettings(
        command=own.vllm_command,
        arguments=f"{arguments} {shared} {own.vllm_arguments}",
        start_seconds=own.vllm_start_seconds,
        idle_seconds=SECONDS_ASLEEP if on_gpu else 0.0,
        log_folder=settings.log_folder,
    )


def server_limits(own: VllmServerSettings, settings: WorkerModelSettings) -> ServerLimits:
    """Return how many calls are under way at once, and how long each may take."""
    return ServerLimits(own.vllm_concurrency, settings.servers.policy_timeout_seconds, SECONDS_TO_RETRY)


def asked_of_weights(server: VllmServer, weights: Weights, ask: Callable[[str], Answers]) -> Answers:
    """Return what a server answers at its URL; it had the weights before and after, and is started
    anew when it dies.

    Raises:
        ModelError: if it cannot be started with them.
        ServerUnavailableError: if somebody else changes its weights, or it keeps dying.
    """
    given_up_at = server.num_starts + STARTS_OF_A_BATCH
    while True:
        try:
            with server.use(weights) as in_use:
                answers = ask(in_use.url)
                in_use.check()
                return answers
        except ServerUnavailableError:
            if server.runs or server.num_starts >= given_up_at:
                raise
