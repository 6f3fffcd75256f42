"""The one way to model servers: a deadline for a whole call, a bound on its answer, and no other
host than the one that was named.

A call is made by an event loop in a thread of its own, where a deadline or an interruption ends it
wherever it is: in the look-up of a name, a TLS handshake, or between two bytes of a header or a
body. Answers are handed on whole.
"""

from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import Lock, Thread, current_thread
from typing import Any
from weakref import finalize

import anyio
import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from huggingface_hub import get_session, set_client_factory

from restmcts.adapters.models.interruption import SECONDS_BETWEEN_LOOKS, InterruptedCallError, check_interruption
from restmcts.errors import ModelError, ServerUnavailableError

LOOP = "model-server"
"""The name of the threads with event loops."""

MAX_ANSWER_BYTES = 32 * 2**20
MAX_REDIRECTS = 3
SECONDS_TO_CLOSE = 1.0
SHARE_TO_CONNECT = 0.9
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Of the headers of an answer, those that speak of its body on the way.
_OF_THE_WAY = {"content-length", "transfer-encoding", "content-encoding"}


class OtherHostError(ServerUnavailableError):
    """A server sends its callers to another host, which was named by nobody."""


class BoundedTransport(httpx2.BaseTransport):
    """Makes whole calls within `deadline_seconds` each; may be used by many threads.

    Raises of a call:
        httpx2.TransportError: as any transport; a timeout once the deadline has passed.
        ModelError: if the answer is larger than `max_answer_bytes`, or is compressed, which nobody
            asked for.
        OtherHostError: if the server redirects to another host.
        InterruptedCallError: if nobody waits for the answer any more.
    """

    def __init__(self, deadline_seconds: float, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._deadline_seconds = deadline_seconds
        self._max_answer_bytes = max_answer_bytes
        self._lock = Lock()
        self._opened = ExitStack()
        # A loop whose thread is gone, as at the end of the interpreter, cannot be asked to end.
        finalize(self, _end, self._opened)
        self._portal: BlockingPortal | None = None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the server's answer, read to its end."""
        check_interruption()
        headers = {**request.headers, "accept-encoding": "identity"}
        # a TLS handshake that is cancelled leaves its socket open, one that times out does not
        limits = {"timeout": {"connect": SHARE_TO_CONNECT * self._deadline_seconds}}
        sent = httpx2.Request(request.method, request.url, headers=headers, content=request.read(), extensions=limits)
        future = self._started().start_task_soon(self._exchange, sent)
        try:
            while not wait([future], SECONDS_BETWEEN_LOOKS).done:
                check_interruption()
            return future.result()
        except CancelledError:
            raise InterruptedCallError from None
        finally:
            future.cancel()

    def close(self) -> None:
        """Give up the connections, and whatever is under way."""
        with self._lock:
            self._opened.close()
            self._portal = None

    def _started(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                self._portal = self._opened.enter_context(start_blocking_portal(name=LOOP))
                self._client = self._portal.call(_open_client)
                self._opened.callback(self._portal.call, self._client.aclose)
            return self._portal

    async def _exchange(self, request: httpx2.Request) -> httpx2.Response:
        try:
            with anyio.fail_after(self._deadline_seconds):
                response = await self._client.send(request, stream=True)
                try:
                    return await self._whole(response)
                finally:
                    # a call that ends at its deadline closes its connection all the same
                    with anyio.move_on_after(SECONDS_TO_CLOSE, shield=True):
                        await response.aclose()
        except TimeoutError:
            raise httpx2.ReadTimeout(f"no whole answer within {self._deadline_seconds:g} s", request=request) from None

    async def _whole(self, response: httpx2.Response) -> httpx2.Response:
        _check_host(response)
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise ModelError(f"{_place(response.url)} gives answers in {encoding}, which it was not asked for")
        parts, num_bytes = [], 0
        async for part in response.aiter_raw():
            parts.append(part)
            num_bytes += len(part)
            if num_bytes > self._max_answer_bytes:
                raise ModelError(
                    f"{_place(response.url)} gives an answer of more than {self._max_answer_bytes / 2**20:g} MiB"
                )
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in _OF_THE_WAY]
        return httpx2.Response(response.status_code, headers=headers, content=b"".join(parts))


def _end(opened: ExitStack) -> None:
    """End the loop of a transport that nobody closed. Whoever collects garbage may be a loop, which
    cannot wait for its own end.
    """
    if current_thread().name == LOOP:
        Thread(target=opened.close, daemon=True).start()
    else:
        opened.close()


async def _open_client() -> httpx2.AsyncClient:
    """Return the client under the transport: it knows the environment's proxies and
    certificates; time and connections are bounded above it.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx2.AsyncClient(timeout=None, follow_redirects=False, limits=limits)


def _check_host(response: httpx2.Response) -> None:
    if not response.has_redirect_location:
        return
    here, there = response.request.url, response.request.url.join(response.headers["location"])
    upgraded = (here.host, here.scheme, there.scheme) == (there.host, "http", "https") and there.port is None
    if _place(here) != _place(there) and not (upgraded and here.port is None):
        raise OtherHostError(
            f"{_place(here)} redirects to {_place(there)}, which gets no prompt of yours; name that server if you trust it"
        )


def _place(url: httpx2.URL) -> str:
    return f"{url.host}:{url.port or _DEFAULT_PORTS.get(url.scheme, '')}"


def model_client(base_url: str, token: str, deadline_seconds: float) -> httpx2.Client:
    """Return a client of one model server; close it at the end.

    Args:
        token: of the server; empty: none is sent.
        deadline_seconds: of each call, from its first byte to its last.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.Client(
        base_url=base_url,
        headers=headers,
        timeout=None,
        transport=BoundedTransport(deadline_seconds),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
    )


_CLIENT: ContextVar[httpx2.Client | None] = ContextVar("model_client", default=None)


class _HubClient(httpx2.Client):
    """The client of huggingface_hub: what is asked of a model server goes by that server's own
    client, all else as ever.
    """

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        client = _CLIENT.get()
        return super().send(request, **options) if client is None else client.send(request, **options)


@contextmanager
def hub_calls_by(client: httpx2.Client) -> Iterator[None]:
    """Let calls of huggingface_hub's InferenceClient in this block be made by `client`: the
    library has one client a process, which also fetches weights.
    """
    if not isinstance(get_session(), _HubClient):
        hooks = get_session().event_hooks
        set_client_factory(lambda: _HubClient(event_hooks=hooks, follow_redirects=True, timeout=None))
    token = _CLIENT.set(client)
    try:
        yield
    finally:
        _CLIENT.reset(token)
