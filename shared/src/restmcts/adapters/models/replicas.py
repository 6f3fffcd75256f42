"""Several servers of one model as one: a request goes to the server that has read its question
before, so that all requests of a tree find their prefix cached.

A server that fails, or serves another model, is left out for a while; the others get its requests.
"""

import ipaddress
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

from restmcts.adapters.models.http_policy.address import DEFAULT_PORTS, hosts_of, split_host
from restmcts.adapters.models.interruption import InterruptedCallError, carried
from restmcts.adapters.observability import metrics
from restmcts.errors import ServerUnavailableError

log = logging.getLogger(__name__)

SECONDS_AWAY = 10.0
"""For which a server that failed is asked nothing, while there are others."""
RETRY_SECONDS = 5.0
"""For which a call of one server is tried again, before others get its requests."""
OVERLOAD = 1.25
"""Of the mean share of a server: it takes no more, if that is more than its calls at once."""


class Closable(Protocol):
    """A client of one server."""

    def close(self) -> None:
        """Give up the connections."""
        ...


Client = TypeVar("Client", bound=Closable)
Request = TypeVar("Request")
Answer = TypeVar("Answer")
Asked = Callable[[Client, Sequence[str], Sequence[Request]], Sequence[Answer]]


@dataclass(slots=True)
class _Replica(Generic[Client]):
    client: Client
    users: int = 0
    away_until: float = 0.0


class Replicas(Generic[Client]):
    """Clients of the servers of one model; several threads may use them.

    Args:
        hosts: returns the servers that there are now, each as `host:port`; asked before every
            batch.
        open_client: of one of them.
        concurrency: calls of one server under way at once.
    """

    def __init__(
        self, hosts: Callable[[], Sequence[str]], open_client: Callable[[str], Client], concurrency: int
    ) -> None:
        self._hosts = hosts
        self._open_client = open_client
        self._concurrency = concurrency
        self._replicas: dict[str, _Replica[Client]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give up the connections to all servers."""
        with self._lock:
            for replica in self._replicas.values():
                replica.client.close()
            self._replicas.clear()

    def answers(
        self, questions: Sequence[str], requests: Sequence[Request], ask: "Asked[Client, Request, Answer]"
    ) -> Iterator[tuple[int, Answer]]:
        """Yield each request's place and its answer, as the servers give them.

        Args:
            ask: returns one server's answers to some of the requests.

        Raises:
            ServerUnavailableError: if no server answers, with what the last of them said.
            Exception: what `ask` raises besides.
        """

        def asked(host: str, places: Sequence[int]) -> Sequence[Answer]:
            with self._use(host) as client:
                return ask(client, [questions[place] for place in places], [requests[place] for place in places])

        waiting, failed = list(range(len(requests))), set[str]()
        error = ServerUnavailableError("none of the model's servers is there")
        while waiting:
            hosts = [host for host in self._present() if host not in failed]
            if not hosts:
                raise error
            shares = shares_of([questions[place] for place in waiting], hosts, self._concurrency)
            given = {host: [waiting[index] for index in share] for host, share in shares.items()}
            with ThreadPoolExecutor(len(given), thread_name_prefix="replicas") as pool:
                under_way = {pool.submit(carried(asked), host, places): host for host, places in given.items()}
                for future in as_completed(under_way):
                    host = under_way[future]
                    try:
                        found = future.result()
                    except InterruptedCallError:
                        raise
                    except ServerUnavailableError as said:
                        error = said
                        failed.add(host)
                        self._leave_out(host, said)
                        continue
                    done = set(given[host])
                    waiting = [place for place in waiting if place not in done]
                    yield from zip(given[host], found, strict=True)

    def _present(self) -> list[str]:
        """Return the servers to ask: those that did not fail lately, or all if all did."""
        hosts = list(dict.fromkeys(self._hosts()))
        with self._lock:
            gone = [host for host, replica in self._replicas.items() if host not in hosts and not replica.users]
            for host in gone:
                self._replicas.pop(host).client.close()
            now = time.monotonic()
            return [
                host for host in hosts if host not in self._replicas or self._replicas[host].away_until <= now
            ] or hosts

    @contextmanager
    def _use(self, host: str) -> Iterator[Client]:
        with self._lock:
            if host not in self._replicas:
                self._replicas[host] = _Replica(self._open_client(host))
            replica = self._replicas[host]
            replica.users += 1
        try:
            yield replica.client
        finally:
            with self._lock:
                replica.users -= 1

    def _leave_out(self, host: str, error: ServerUnavailableError) -> None:
        log.warning("%s; the model's other servers get its requests", error)
        metrics.REPLICA_FAILURES.inc()
        with self._lock:
            if host in self._replicas:
                self._replicas[host].away_until = time.monotonic() + SECONDS_AWAY


def shares_of(questions: Sequence[str], hosts: Sequence[str], concurrency: int) -> dict[str, list[int]]:
    """Return the places of the questions that each server gets; one that gets none is left out.

    A question has an order of servers of its own (rendezvous hashing): it goes to the first that
    has room, and to the same one again when servers come or go, if that is not one of them.
    """
    room = max(concurrency, math.ceil(OVERLOAD * len(questions) / len(hosts)))
    shares: dict[str, list[int]] = {}

    @cache
    def ranked(question: str) -> list[str]:
        return sorted(hosts, key=lambda host: _rank(host, question), reverse=True)

    for place, question in enumerate(questions):
        host = next(host for host in ranked(question) if len(shares.get(host, ())) < room)
        shares.setdefault(host, []).append(place)
    return shares


def _rank(host: str, question: str) -> bytes:
    return blake2b(f"{host}\n{question}".encode(errors="surrogatepass"), digest_size=8).digest()


def hosts_now(url: str, *, by_name: bool) -> Callable[[], Sequence[str]]:
    """Return a function that returns the servers of a URL.

    Args:
        by_name: whether they are the addresses that the URL's one host has at the time, as
            `address:port`; else they are those that it lists.

    The function raises ServerUnavailableError if the name has no address.
    """
    hosts = hosts_of(url)
    if not by_name:
        return lambda: hosts
    name, port = split_host(hosts[0])

    def resolved() -> list[str]:
        try:
            found = socket.getaddrinfo(name, port or DEFAULT_PORTS["http"], type=socket.SOCK_STREAM)
        except OSError as error:
            raise ServerUnavailableError(f"{name} has no address now ({error}); its requests keep waiting") from None
        return sorted({_written(str(address[0]), int(address[1])) for *_, address in found})

    return resolved


def _written(address: str, port: int) -> str:
    is_bare = ipaddress.ip_address(address.partition("%")[0]).version == 4
    return f"{address}:{port}" if is_bare else f"[{address}]:{port}"
