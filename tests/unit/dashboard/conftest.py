"""A dashboard over a work folder, served for real on a free port."""

import json
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState, TreeState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.messages.commands import AdvanceRun
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts_dashboard.app import create_app
from restmcts_dashboard.serving import folder_source
from restmcts_dashboard.source import Source
from sqlalchemy import update
from uvicorn import Config, Server

HOSTILE = "<script>document.title='taken'</script> & <img src=x onerror=alert(1)>"


def collect(number: int) -> SearchPhase:
    search = MctsStarSettings(
        mode="collect", branch=2, stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=5
    )
    return SearchPhase(
        f"collect-{number}", number, "collect", "train", "base", "value-0", search, Budget(iterations=6, tokens=500)
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, search_folder: Callable[..., int]) -> Path:
    """A work folder whose run has searched four problems, one of them hostile, twice."""
    path = tmp_path_factory.mktemp("dashboard")
    questions = [HOSTILE, "What is $\\frac{1}{2} + x^2$?", "lone \ud800 surrogate", "plain"]
    problems = [Problem(question.encode("utf-8", "replace").decode(), RIGHT_ANSWER) for question in questions]
    search_folder(path, "first & <b>bold</b>", problems, [collect(1), collect(2)], RandomModels())
    return path


class Client:
    """Asks a served dashboard."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, data: dict[str, str] | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
        body = urllib.parse.urlencode(data).encode() if data is not None else None
        request = urllib.request.Request(self.address + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), dict(error.headers)

    def text(self, path: str) -> str:
        status, text, _ = self.get(path)
        assert status == 200, text
        return text

    def document(self, path: str) -> Any:
        return json.loads(self.text(path))


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[[Source], Client]]:
    """Serve a source in a thread until the tests end."""
    running: list[tuple[Server, threading.Thread]] = []

    def serve(source: Source) -> Client:
        server = Server(
            Config(create_app(source), port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive()
        running.append((server, thread))
        return Client(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")

    yield serve
    for server, thread in running:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def client(served: Callable[[Source], Client], folder: Path) -> Client:
    return served(folder_source(folder / "run.db"))


@pytest.fixture
def failed(tmp_path: Path, folder: Path) -> Database:
    """A run that goes on, with a failed tree and a dead letter."""
    shutil.copy(folder / "run.db", tmp_path / "run.db")
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    with database.transaction() as transaction:
        transaction.execute(update(RUNS).values(state=RunState.RUNNING.value, finished_at=None))
        transaction.execute(
            update(PHASES)
            .where(PHASES.c.name == "collect-2")
            .values(state=PhaseState.SEARCHING.value, finished_at=None)
        )
        transaction.execute(
            update(TREES).where(TREES.c.id == 6).values(state=TreeState.SEARCHING.value, stop_reason=None)
        )
        trees.fail(transaction, {6: "gave up: <script>1</script>"})
        runs.add_dead_letter(transaction, "coordinator", AdvanceRun.name, '{"run_id": 1}', "was <b>bad</b>")
    return database
