"""A policy that several servers serve, as one `StepProposer`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from restmcts.adapters.models.http_policy.address import ServerAddress
from restmcts.adapters.models.http_policy.calling import ServerLimits
from restmcts.adapters.models.http_policy.proposer import REQUESTS_A_CALL, HttpProposer
from restmcts.adapters.models.replicas import RETRY_SECONDS, Replicas, hosts_now
from restmcts.domain.requests import GenerationSettings, ProposeSteps, StepsProposed
from restmcts.ports import MayBegin, always


class ReplicatedProposer:
    """A `StepProposer` over the servers of an address.

    Invariants: those of `HttpProposer` for each server; all requests of a question go to one server
    while it is there and has room.

    Args:
        opened: returns the proposer of one of them, by its host.
    """

    def __init__(
        self, address: ServerAddress, opened: Callable[[str, ServerLimits], HttpProposer], limits: ServerLimits
    ) -> None:
        self._concurrency = address.concurrency or limits.concurrency
        self._hosts = hosts_now(address.base_url, by_name=address.by_name)
        hasty = replace(limits, retry_seconds=min(limits.retry_seconds, RETRY_SECONDS))
        self._replicas = Replicas(self._hosts, lambda host: opened(host, hasty), self._concurrency)

    def close(self) -> None:
        """Give up the connections."""
        self._replicas.close()

    def propose(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        """Return one answer per request, in order; see `HttpProposer.propose`.

        Raises:
            ServerUnavailableError: if none of the servers is there; the requests may wait.
        """
        answers = dict(self.stream(questions, requests, settings))
        return [answers[place] for place in range(len(requests))]

    def stream(
        self,
        questions: Sequence[str],
        requests: Sequence[ProposeSteps],
        settings: GenerationSettings,
        may_begin: MayBegin = always,
    ) -> Iterator[tuple[int, StepsProposed]]:
        """Yield the answers of `propose`, each with its request's place, a server's share at a
        time.

        Args:
            may_begin: as `StreamingProposer.stream` says.
        """
        ask = partial(_proposed, settings=settings)
        size = REQUESTS_A_CALL * self._concurrency * len(self._hosts())
        for begin in range(0, len(requests), size):
            if begin and not may_begin():
                return
            part = slice(begin, begin + size)
            for place, answer in self._replicas.answers(questions[part], requests[part], ask):
                yield begin + place, answer


def _proposed(
    client: HttpProposer, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
) -> Sequence[StepsProposed]:
    return client.propose(questions, requests, settings)
