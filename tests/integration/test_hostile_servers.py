"""A call of a model server ends within its deadline wherever the server keeps it, its answer is
bounded, and no prompt goes to a host that nobody named.
"""

import gc
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from restmcts.adapters.models import bounded_http
from restmcts.adapters.models.bounded_http import LOOP, MAX_ANSWER_BYTES, BoundedTransport, OtherHostError, model_client
from restmcts.adapters.models.http_policy.address import parse_address
from restmcts.adapters.models.http_policy.opening import open_policy
from restmcts.adapters.models.http_scorer.address import parse_scoring_address
from restmcts.adapters.models.http_scorer.opening import open_http_scorer
from restmcts.adapters.models.http_scorer.scorer import ScoreReading
from restmcts.adapters.models.interruption import InterruptedCallError, interrupted_by
from restmcts.domain.requests import GenerationSettings, ProposeSteps, ScoreSteps
from restmcts.errors import ModelError, ServerUnavailableError
from restmcts.settings import PolicyServerSettings
from restmcts.testing import hostile_servers as hostile
from restmcts.testing.hostile_servers import Answer, HostileServer
from restmcts.testing.policy_servers import PolicyServer

DEADLINE_SECONDS = 1.0
SLACK_SECONDS = 4.0
SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=4, max_solution_tokens=8)
STEP = ProposeSteps(0, ("ab\n",), 1, 1, seed=3)
CLIENTS = ("openai", "chat", "tgi", "pooling", "classify")
KEEPING: dict[str, Answer] = {
    "headers": hostile.drips_its_headers,
    "body": hostile.drips_its_body,
    "silence": hostile.says_nothing,
}


@pytest.fixture
def serve() -> Iterator[Callable[..., HostileServer]]:
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(HostileServer(*arguments, **options))


@pytest.fixture
def call() -> Iterator[Callable[[str, str], Any]]:
    """Ask a server for something by one of the clients."""
    with ExitStack() as stack:

        def ask(client: str, host: str) -> Any:
            settings = PolicyServerSettings(policy_timeout_seconds=DEADLINE_SECONDS, policy_retry_seconds=0)
            if client in ("pooling", "classify"):
                address = parse_scoring_address(f"{client}+http://{host}", {"model": "tiny"})
                reading = ScoreReading(lambda paths: ([] for _ in paths), None, 0.0, 1.0, "last")
                scorer = open_http_scorer(address, reading, settings)
                stack.callback(scorer.close)
                return scorer.score(["q"], [ScoreSteps(0, (), (("a",),))])
            path = "" if client == "tgi" else "/v1"
            policy = open_policy(parse_address(f"{client}+http://{host}{path}?model=tiny"), settings)
            stack.callback(policy.close)
            return policy.propose(["q"], [STEP], SETTINGS)

        yield ask


@pytest.mark.parametrize("keeping", KEEPING)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_call_has_a_deadline_for_the_whole_of_it(serve: Any, call: Any, client: str, keeping: str) -> None:
    server, started = serve(KEEPING[keeping]), time.monotonic()
    with pytest.raises(ServerUnavailableError, match="no whole answer in time"):
        call(client, server.host)
    assert DEADLINE_SECONDS <= time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS
    assert server.num_connections


@pytest.mark.parametrize("protocol", ["openai", "chat", "tgi"])
def test_a_server_that_drips_steps_after_a_good_beginning_has_the_same_deadline(protocol: str) -> None:
    with PolicyServer(faults=["slow"] * 10, slow_seconds=3.0) as server:
        settings = PolicyServerSettings(policy_timeout_seconds=DEADLINE_SECONDS, policy_retry_seconds=0)
        policy = open_policy(parse_address(server.uri(protocol)), settings)
        with pytest.raises(ServerUnavailableError, match="no whole answer in time"):
            policy.propose(["q"], [STEP], SETTINGS)
        policy.close()


def test_a_handshake_has_the_deadline_too(serve: Any) -> None:
    server, started = serve(hostile.drips_its_handshake), time.monotonic()
    settings = PolicyServerSettings(policy_timeout_seconds=DEADLINE_SECONDS, policy_retry_seconds=0)
    policy = open_policy(parse_address(f"openai+https://{server.host}/v1?model=tiny"), settings)
    with pytest.raises(ServerUnavailableError, match="no whole answer in time"):
        policy.propose(["q"], [STEP], SETTINGS)
    assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS
    policy.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_without_end_is_given_up_at_its_bound(serve: Any, call: Any, client: str) -> None:
    server = serve(hostile.never_ends)
    tracemalloc.start()
    with pytest.raises(ServerUnavailableError, match=r"more than 32 MiB|no whole answer in time"):
        call(client, server.host)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * MAX_ANSWER_BYTES


def test_a_bound_on_the_answer_is_kept_and_named(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(hostile.never_ends)
    transport = bounded_http.BoundedTransport(30.0, max_answer_bytes=2**20)
    with bounded_http.httpx2.Client(transport=transport) as client, pytest.raises(ModelError, match="more than 1 MiB"):
        client.get(f"http://{server.host}/")
    assert server.num_bytes_sent < 16 * 2**20


def test_what_was_not_asked_for_compressed_is_not_unpacked(serve: Any) -> None:
    server = serve(hostile.answers_compressed)
    with model_client(f"http://{server.host}", "", 10.0) as client, pytest.raises(ModelError, match="gzip"):
        client.get("/")


def _counted(count: str) -> bytes:
    choice = '{"index": 0, "text": "ab", "finish_reason": "stop", "logprobs": null}'
    usage = f'{{"prompt_tokens": 1, "completion_tokens": {count}, "total_tokens": 1}}'
    return f'{{"id": "x", "created": 0, "model": "tiny", "choices": [{choice}], "usage": {usage}}}'.encode()


@pytest.mark.parametrize("count", ["-3", "1e400", "99999999999999999999999", '"many"', "null"])
def test_a_count_of_tokens_that_no_answer_has_is_the_server_s_fault(serve: Any, call: Any, count: str) -> None:
    with pytest.raises(ServerUnavailableError, match="not as published"):
        call("openai", serve(hostile.says(_counted(count))).host)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_that_is_nested_too_deep_is_the_server_s_fault(serve: Any, call: Any, client: str) -> None:
    deep = b'{"choices":' + b"[" * 100_000
    with pytest.raises(ServerUnavailableError, match="not as published"):
        call(client, serve(hostile.says(deep)).host)
    with pytest.raises(ServerUnavailableError, match="status 503"):
        call(client, serve(hostile.says(deep, "503 Busy")).host)


@pytest.mark.parametrize("client", CLIENTS)
def test_no_prompt_goes_to_a_host_that_nobody_named(serve: Any, call: Any, client: str) -> None:
    elsewhere = serve(hostile.breaks)
    server = serve(hostile.redirects, elsewhere.host)
    with pytest.raises(OtherHostError, match=f"redirects to {elsewhere.host}"):
        call(client, server.host)
    assert elsewhere.num_connections == 0


def test_a_redirect_within_a_host_is_followed_and_one_in_a_circle_ends(serve: Any, call: Any) -> None:
    server = serve(hostile.redirects)
    server.elsewhere = server.host
    with pytest.raises(ServerUnavailableError, match="redirects"):
        call("tgi", server.host)
    assert server.num_connections > 1


@pytest.mark.parametrize("client", CLIENTS)
def test_a_call_that_nobody_waits_for_ends_at_once(serve: Any, call: Any, client: str) -> None:
    server, over = serve(hostile.drips_its_body), threading.Event()
    threading.Timer(0.3, over.set).start()
    started = time.monotonic()
    with interrupted_by(over.is_set), pytest.raises(InterruptedCallError):
        call(client, server.host)
    assert time.monotonic() - started < DEADLINE_SECONDS


def test_a_wait_for_another_try_is_interrupted_too(serve: Any) -> None:
    server, over = serve(hostile.breaks), threading.Event()
    settings = PolicyServerSettings(policy_retry_seconds=600)
    policy = open_policy(parse_address(f"openai+http://{server.host}/v1?model=tiny"), settings)
    threading.Timer(1.0, over.set).start()
    started = time.monotonic()
    with interrupted_by(over.is_set), pytest.raises(InterruptedCallError):
        policy.propose(["q"], [STEP], SETTINGS)
    assert time.monotonic() - started < 5.0
    assert server.num_connections > 1
    policy.close()


def test_no_thread_outlives_its_client(serve: Any) -> None:
    server = serve(hostile.breaks)
    with model_client(f"http://{server.host}", "", 10.0) as client:
        assert client.get("/").status_code == 500
        assert any(thread.name == LOOP for thread in threading.enumerate())
    assert not any(thread.name == LOOP for thread in threading.enumerate())


def test_a_client_that_its_own_loop_collects_ends_its_thread(serve: Any, capfd: pytest.CaptureFixture[str]) -> None:
    server = serve(hostile.breaks)
    transport = BoundedTransport(10.0)
    transport.handle_request(httpx2.Request("GET", f"http://{server.host}"))
    portal, kept = transport._portal, [transport]
    kept.append(kept)  # type: ignore[arg-type]
    assert portal is not None
    del transport, kept
    portal.start_task_soon(gc.collect).result(10.0)
    for thread in threading.enumerate():
        if thread.name == LOOP:
            thread.join(10.0)
            assert not thread.is_alive()
    assert capfd.readouterr().err == ""


UNCLOSED = """
import gc
import httpx2
from restmcts.adapters.models.bounded_http import model_client
gc.disable()
kept = [model_client("http://127.0.0.1:9", "", 1.0)]
kept.append(kept)
try:
    kept[0].get("/")
except httpx2.TransportError:
    print("called")
del kept
"""


def test_a_process_ends_whose_clients_nobody_closed() -> None:
    ended = subprocess.run([sys.executable, "-c", UNCLOSED], capture_output=True, text=True, timeout=60.0, check=True)
    assert (ended.stdout, ended.stderr) == ("called\n", "")
