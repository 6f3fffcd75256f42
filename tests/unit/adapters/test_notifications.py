"""People are notified once a run is done, failed, paused by itself, or blocked for a while; who
cannot be reached keeps nobody waiting.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from restmcts.adapters.observability import notifying
from restmcts.adapters.observability.notifications import send
from restmcts.adapters.observability.notifying import notify
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import blocks, runs, token_budget
from restmcts.adapters.sql.state.blocks import BLOCKS
from restmcts.adapters.sql.tables import Need, PhaseState, RunState
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.errors import InputError
from restmcts.settings import NotificationSettings, load_notification_settings
from restmcts.usecases import steer
from sqlalchemy import update

NEVER = threading.Event()


class Hook(BaseHTTPRequestHandler):
    """A web hook: keeps what it gets, and answers as its server says."""

    def do_POST(self) -> None:
        server: Any = self.server
        server.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if self.path == "/drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                if server.ended.wait(0.05):
                    return
                self.wfile.write(b"X: y\r\n")
        self.send_response(int(self.path.strip("/") or 200))
        self.send_header("location", "/")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""


@pytest.fixture
def hook() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.ended = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'run.db'}")
    opened.create_tables()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "SECONDS_BETWEEN_TRIES", (0.01, 0.01))


def settings(command: str = "", url: str = "", seconds: float = 5.0) -> NotificationSettings:
    return NotificationSettings(notify_command=command, notify_url=SecretStr(url), notify_seconds=seconds)


def new_run(database: Database, name: str = "mine") -> int:
    with database.transaction() as transaction:
        return runs.create_run(transaction, name, "rest-mcts", 0, {})


def change(database: Database, do: Callable[[Transaction], object]) -> None:
    with database.transaction() as transaction:
        do(transaction)


def block_since(run_id: int, seconds: float) -> Callable[[Transaction], object]:
    def block(transaction: Transaction) -> None:
        blocks.block(transaction, run_id, Need.RUN, run_id, "no plugin 'x'")
        transaction.execute(update(BLOCKS).values(since=moment(-seconds)))

    return block


def test_every_change_of_state_is_sent_once_with_what_to_do_next(database: Database, hook: Any) -> None:
    run_id, to = new_run(database), settings(url=hook.url)
    spent = f"{token_budget.SPENT} 100 spent (101 generated)"
    assert notify(database, to, NEVER) == 0, "it runs"
    change(database, lambda t: runs.pause_run(t, run_id, spent))
    assert notify(database, to, NEVER, place=" --workdir out") == 1
    assert notify(database, to, NEVER) == 0
    change(database, lambda t: steer.resume(t, "mine"))
    change(database, lambda t: runs.pause_run(t, run_id, spent))
    assert notify(database, to, NEVER) == 1, "paused again"
    change(database, lambda t: steer.resume(t, "mine"))
    change(database, block_since(run_id, 10))
    assert notify(database, to, NEVER) == 0, "blocked for a moment only"
    change(database, block_since(run_id, 70))
    assert notify(database, to, NEVER) == 1
    assert notify(database, to, NEVER) == 0
    change(database, lambda t: blocks.unblock(t, Need.RUN, run_id))
    assert notify(database, to, NEVER) == 0
    change(database, block_since(run_id, 70))
    assert notify(database, to, NEVER) == 1, "blocked again"
    change(database, lambda t: runs.finish_run(t, run_id, RunState.FAILED, "collect-1: no tree ended"))
    assert notify(database, to, NEVER) == 1
    assert [got["state"] for got in hook.got] == ["paused", "paused", "blocked", "blocked", "failed"]
    assert hook.got[0]["command"] == "restmcts runs resume mine --workdir out --max-tokens LARGER"
    assert hook.got[2]["why"] == "no plugin 'x'"
    assert hook.got[4]["text"] == "restmcts: run mine is failed: collect-1: no tree ended; restmcts runs show mine"


def test_what_a_person_does_is_no_news(database: Database, hook: Any) -> None:
    run_id, to = new_run(database), settings(url=hook.url)
    change(database, lambda t: steer.pause(t, "mine"))
    assert notify(database, to, NEVER) == 0
    change(database, lambda t: steer.resume(t, "mine"))
    change(database, lambda t: steer.cancel(t, "mine"))
    assert notify(database, to, NEVER) == 0
    change(database, lambda t: steer.begin_paused(t, new_run_id(t)))
    assert notify(database, to, NEVER) == 0
    assert hook.got == []
    assert run_id


def new_run_id(transaction: Transaction) -> int:
    return runs.create_run(transaction, "other", "rest-mcts", 0, {})


@pytest.mark.parametrize("source", ["answers", "votes"])
def test_a_done_run_says_its_first_and_last_accuracy(database: Database, hook: Any, source: str) -> None:
    run_id = new_run(database)
    names = ("grade-base", "grade-policy-1")
    with database.transaction() as transaction:
        runs.add_phases(
            transaction,
            run_id,
            [SearchPhase(name, 1, "evaluate", "test", "base", None, CotSettings()) for name in names],
        )
        for row, right in zip(runs.phases_of(transaction, run_id), (3, 10), strict=True):
            result = {"trees": 40, "right": right, "tokens": 500, "solved": right}
            runs.set_phase(transaction, row.id, PhaseState.DONE, result=result)
        runs.change_run(transaction, run_id, {"truth": {"source": source}}, goes_on=False)
        runs.finish_run(transaction, run_id, RunState.DONE)
    notify(database, settings(url=hook.url), NEVER)
    (got,) = hook.got
    assert got["unchecked"] == (source == "votes")
    assert got["accuracy_first"] == {"accuracy": 0.075, "right": 3, "problems": 40}
    assert got["accuracy_last"]["accuracy"] == 0.25
    assert (got["why"], got["tokens"]) == (None, 1000)
    mark = " (unchecked)" if source == "votes" else ""
    assert f"is done, accuracy 7.5 % -> 25.0 %{mark} on 40 problems; restmcts runs show mine" in got["text"]


def test_who_is_killed_before_it_is_noted_sends_it_again(
    database: Database, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, to = new_run(database), settings(url=hook.url)
    change(database, lambda t: runs.finish_run(t, run_id, RunState.DONE))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(notifying.news, "set_notified", killed)
        notify(database, to, NEVER)
    assert notify(database, to, NEVER) == 1
    assert notify(database, to, NEVER) == 0
    assert len(hook.got) == 2


def test_what_happened_while_nobody_was_to_be_notified_is_no_news_later(database: Database, hook: Any) -> None:
    run_id = new_run(database)
    change(database, lambda t: runs.finish_run(t, run_id, RunState.DONE))
    notify(database, settings(), NEVER)
    notify(database, settings(url=hook.url), NEVER)
    assert hook.got == []


def test_what_cannot_be_sent_is_logged_and_given_up(
    database: Database, hook: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    run_id = new_run(database)
    change(database, lambda t: runs.finish_run(t, run_id, RunState.DONE))
    assert notify(database, settings(f"echo sent >> {tmp_path}/sent", url=f"{hook.url}/500"), NEVER) == 1
    assert (tmp_path / "sent").read_text() == "sent\n", "what was sent is not sent again"
    assert notify(database, settings(url=hook.url), NEVER) == 0
    assert len(hook.got) == 3, "tries"
    assert (
        "no notification was sent that run mine is done: 127.0.0.1, of RESTMCTS_NOTIFY_URL, answers with 500"
        in caplog.text
    )


def test_what_gives_no_answer_may_have_done_its_work_and_is_not_done_again(
    database: Database, hook: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    run_id, began = new_run(database), time.monotonic()
    change(database, lambda t: runs.finish_run(t, run_id, RunState.DONE))
    hangs = settings(f"echo sent >> {tmp_path}/sent; sleep 30", url=f"{hook.url}/drip", seconds=0.3)
    assert notify(database, hangs, NEVER) == 1
    assert (tmp_path / "sent").read_text() == "sent\n" and len(hook.got) == 1
    assert time.monotonic() - began < 2.0
    for who in ("the command of RESTMCTS_NOTIFY_COMMAND", "127.0.0.1, of RESTMCTS_NOTIFY_URL,"):
        assert f"may not have arrived: {who} gave no answer within 0.3 s" in caplog.text
    assert "no notification was sent" not in caplog.text


@pytest.mark.parametrize(
    ("path", "reason"),
    [("500", "answers with 500"), ("302", "answers with 302"), ("drip", "gave no answer within 0.3 s")],
)
def test_an_address_that_does_not_take_it_is_a_sentence_in_bounded_time(hook: Any, path: str, reason: str) -> None:
    began = time.monotonic()
    (failure,) = send(settings(url=f"{hook.url}/{path}", seconds=0.3), "{}", "text").values()
    assert failure.reason.endswith(reason), failure
    assert failure.may_be_sent == (path == "drip")
    assert time.monotonic() - began < 2.0
    assert len(hook.got) == 1, "no redirect is followed"


def test_an_address_where_nobody_listens_does_not_show_its_secret() -> None:
    (failure,) = send(settings(url="http://127.0.0.1:9/secret"), "{}", "text").values()
    assert "127.0.0.1, of RESTMCTS_NOTIFY_URL, is not reached (URLError" in failure.reason
    assert "secret" not in failure.reason


def test_a_command_gets_the_document_and_the_sentence(tmp_path: Path) -> None:
    command = f'cat > {tmp_path}/document; printf %s "$RESTMCTS_TEXT" > {tmp_path}/text'
    assert send(settings(command), '{"run": "mine"}', "it's `done`; $HOME") == {}
    assert json.loads((tmp_path / "document").read_text()) == {"run": "mine"}
    assert (tmp_path / "text").read_text() == "it's `done`; $HOME"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo no such chat >&2; exit 3", "ended with 3: no such chat"),
        ("/nowhere/program", "ended with 127"),
        ("sleep 30 & sleep 30", "gave no answer within 0.3 s and was stopped"),
        ("kill -9 $$", "ended with -9"),
    ],
)
def test_a_command_that_fails_is_a_sentence_in_bounded_time(command: str, reason: str) -> None:
    began = time.monotonic()
    (failure,) = send(settings(command, seconds=0.3), "{}", "text").values()
    assert reason in failure.reason
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example.com/secret",
        "http://[::1/secret",
        "https://127.0.0.1/sec ret",
        "http://h:99999/secret",
        "http:///secret",
    ],
)
def test_an_address_that_is_none_is_refused_with_the_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("RESTMCTS_NOTIFY_URL", url)
    with pytest.raises(InputError, match=r"RESTMCTS_NOTIFY_URL: .*is no address") as refused:
        load_notification_settings()
    with pytest.raises(ValueError, match="is no address") as built:
        NotificationSettings(notify_url=SecretStr(url))
    assert "secret" not in str(built.value) and "sec ret" not in str(built.value)
    assert "secret" not in str(refused.value)
