"""A work folder with a run in it, made by the real handlers with models that answer at random."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from restmcts.adapters.observability.this_process import note_command
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import projects
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.access import Role
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.services import HandledServices, untrained
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_cli.main import app
from restmcts_local.services import start
from typer.testing import CliRunner, Result

if TYPE_CHECKING:
    from uvicorn import Server

HOSTILE_QUESTION = "[bold]not markup[/bold] \x1b[31mnot red\x1b[0m, and\non two lines"
PHASES: list[Phase] = [
    SearchPhase("grade-base", 0, "evaluate", "test", "base", None, CotSettings()),
    SearchPhase(
        "collect-1", 1, "collect", "train", "base", "value-0", MctsStarSettings(mode="collect"), Budget(iterations=6)
    ),
    TrainPolicyPhase("policy-1", 1, "base", TrainingSettings(), ("collect-1",)),
    SearchPhase("grade-policy-1", 1, "evaluate", "later", "policy-1", None, CotSettings()),
]

Command = Callable[..., Result]
UNTIL_IMPORT = """
import importlib.abc, os, sys

class Ends(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in os.environ["LIBRARIES"].split():
            sys.stdout.flush()
            sys.stderr.write("<imports " + name)
            sys.stderr.flush()
            os._exit(0)

from restmcts_cli.main import run
sys.meta_path.insert(0, Ends())
sys.argv[0] = "restmcts"
run()
"""


@dataclass(frozen=True)
class Typed:
    """What a command of a process of its own printed, and which library it imported: it is ended
    there.
    """

    out: str
    lines: list[str]
    imported: str
    exit_code: int


UntilImport = Callable[[Collection[str], str], Typed]


@pytest.fixture
def until_import(tmp_path: Path) -> UntilImport:
    """Type a command in a folder with problems, until it imports one of some libraries."""
    (tmp_path / "problems.jsonl").write_text('{"question": "1 + 1?", "answer": 2}\n')
    (tmp_path / "problems.parquet").write_bytes(b"PAR1")

    def run(libraries: Collection[str], typed: str, code: str = UNTIL_IMPORT) -> Typed:
        environment = os.environ | {"LIBRARIES": " ".join(libraries), "RESTMCTS_ENV_FILE": "none"}
        command = [sys.executable, "-c", code, *typed.split()]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        printed, _, imported = done.stderr.partition("<imports ")
        return Typed(done.stdout, printed.splitlines(), imported, done.returncode)

    return run


@pytest.fixture(scope="session")
def call() -> Command:
    """Call the command line in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def shown(call: Command) -> Callable[..., str]:
    """Call a command that must end well; return what it printed."""

    def run(*arguments: object) -> str:
        result = call(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    return run


@pytest.fixture(scope="session")
def document(shown: Callable[..., str]) -> Callable[..., Any]:
    """Call a command with --json; return its document."""

    def run(*arguments: object) -> Any:
        return json.loads(shown(*arguments, "--json"))

    return run


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder that `workdir` copies."""
    folder = tmp_path_factory.mktemp("searched")
    note_command(["restmcts", "selftrain"])
    services = HandledServices(folder, start, lambda _: RandomModels(), around=untrained)
    with services.database.transaction() as transaction:
        problems = {
            "test": _problems("test", 4),
            "train": [Problem(HOSTILE_QUESTION, RIGHT_ANSWER), *_problems("train", 5)],
        }
        checkpoints = {
            "base": NewCheckpoint("policy", "someone/model"),
            "value-0": NewCheckpoint("value", "someone/values"),
        }
        create_run(transaction, NewRun("mine", "rest-mcts", 0, PHASES, problems=problems, checkpoints=checkpoints))
    services.resume()
    services.close()
    return folder


@pytest.fixture
def workdir(searched: Path, tmp_path: Path) -> Path:
    """A work folder whose run "mine" has searched and waits for its training."""
    return Path(shutil.copytree(searched, tmp_path / "work"))


def _problems(name: str, count: int) -> list[Problem]:
    return [Problem(f"{name} question {number}", RIGHT_ANSWER) for number in range(count)]


def serve(app: Any) -> "tuple[Server, threading.Thread, str]":
    from uvicorn import Config, Server

    server = Server(Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive()
    return server, thread, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture
def database(workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database of a stack that this process reaches over HTTP alone; the token may run."""
    from restmcts_dashboard.app import create_app
    from restmcts_dashboard.source import Source

    path = workdir / "run.db"
    database = Database(f"sqlite:///{path}")
    with database.transaction() as transaction:
        project_id = projects.create_project(transaction, "physics")
        secret = projects.issue_token(transaction, "physics", "alice", Role.RUN)
        projects.assign_run(transaction, queries.run_named(transaction, "mine").id, project_id)
        projects.create_project(transaction, "chemistry")
    store = FolderArtifactStore(workdir / "artifacts")
    read_only = Database(f"sqlite:///{path}", read_only=True)
    source = Source(read_only, "a test", writable=database, artifacts=store, serves_api=True)
    server, thread, address = serve(create_app(source))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESTMCTS_ENV_FILE", "none")
    monkeypatch.delenv("RESTMCTS_DATABASE_URL", raising=False)
    monkeypatch.setenv("RESTMCTS_API_URL", f"{address}/")
    monkeypatch.setenv("RESTMCTS_API_TOKEN", secret)
    monkeypatch.setattr("restmcts_cli.arguments.model_sources.check_model_name", lambda given, kind: None)
    yield database
    server.should_exit = True
    thread.join()
    source.database.close()
    database.close()
