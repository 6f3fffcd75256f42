"""In a work folder: what is deleted with a run, what nothing names, requests that nobody wants."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import requests, runs, trees
from restmcts.adapters.sql.state.requests import REQUESTS
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.storage.folder_lock import lock_folder
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError
from restmcts.testing.services import HandledServices, untrained
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases import steer
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.reconcile import RetryPolicy, wake_overdue
from restmcts.usecases.storage import STATES, sweep_training_states
from restmcts_cli.main import app
from restmcts_local.services import start
from sqlalchemy import select, text
from typer.testing import CliRunner

PHASES_OF_A_RUN = [
    SearchPhase("collect", 1, "collect", "train", "base", "value-0", MctsStarSettings(mode="collect"), Budget(iterations=4)),
    TrainPolicyPhase("policy-1", 1, "base", TrainingSettings(), ("collect",)),
]  # fmt: skip
TABLES = ("runs", "phases", "problems", "trees", "nodes", "requests", "checkpoints", "datasets", "promotions",
          "token_counts", "blocks")  # fmt: skip


class Folder:
    """A work folder with runs that were searched by the real handlers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.services = HandledServices(path, start, lambda _: RandomModels(), around=untrained)
        self.database, self.artifacts = self.services.database, self.services.artifacts

    def put(self, kind: str, content: str) -> str:
        folder = self.path / "made" / f"{time.monotonic_ns()}"
        folder.mkdir(parents=True)
        (folder / "file").write_text(content)
        return self.artifacts.put(folder, kind, {}).uri

    def run(self, name: str, *checkpoints: str, seed: int = 1) -> int:
        """Search a run whose checkpoints lie there, and write its data; return its id."""
        named = {f"given-{number}": NewCheckpoint("policy", uri) for number, uri in enumerate(checkpoints)}
        named |= {"base": NewCheckpoint("policy", "somewhere"), "value-0": NewCheckpoint("value", "somewhere")}
        problems = [Problem(f"question {number} of {name}", RIGHT_ANSWER) for number in range(3)]
        new = NewRun(name, "test", seed, PHASES_OF_A_RUN, problems={"train": problems}, checkpoints=named)
        with self.database.transaction() as transaction:
            run_id = create_run(transaction, new).run_id
        self.services.bus.run()
        with self.database.transaction() as transaction:
            assert runs.phases_of(transaction, run_id)[1].state == PhaseState.TRAINING
        return run_id

    def end(self, *names: str) -> None:
        with self.database.transaction() as transaction:
            for name in names:
                steer.cancel(transaction, name)

    def rows(self, *besides: str) -> dict[str, list[Any]]:
        with self.database.transaction() as transaction:
            return {table: list(transaction.execute(text(f"SELECT * FROM {table}"))) for table in TABLES}

    def stored(self) -> set[str]:
        return {each.uri for each in self.artifacts.stored()}

    def call(self, *arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--workdir", str(self.path), "--json"])
        if code:
            return result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    made = Folder(tmp_path)
    yield made
    made.services.close()


def test_a_deleted_run_leaves_nothing_but_what_others_name(folder: Folder) -> None:
    shared, own = folder.put("checkpoints", "shared"), folder.put("checkpoints", "own")
    folder.run("first", shared, own)
    folder.end("first")
    alone = folder.rows()
    data = {uri for uri in folder.stored() if ":datasets/" in uri}
    assert len(data) == 1
    before = folder.stored()
    folder.run("second", shared)
    folder.end("second")
    dry = folder.call("runs", "delete", "second")
    assert not dry["done"]
    assert dry["shared"] == [shared]
    assert dry["rows"]["trees"] == 3
    assert dry["rows"]["nodes"] > 3
    assert folder.stored() >= before
    done = folder.call("runs", "delete", "second", "--yes")
    assert {**done, "done": False} == dry, "what was said is what was done"
    assert folder.rows() == alone
    assert folder.stored() == before

    folder.call("runs", "delete", "first", "--yes")
    assert {table: rows for table, rows in folder.rows().items() if rows} == {}
    assert folder.stored() == set()
    assert folder.call("storage", "prune")["num_bytes"] == 0


def test_data_that_two_runs_came_to_stays_as_long_as_one_names_it(folder: Folder) -> None:
    uri = folder.put("datasets", "equal rows")
    for name in ("first", "second"):
        run_id = folder.run(name)
        with folder.database.transaction() as transaction:
            phase = runs.phases_of(transaction, run_id)[1]
            where = f"UPDATE datasets SET uri = '{uri}' WHERE phase_id = {phase.id}"
            transaction.execute(text(where))
        folder.end(name)
    assert uri in folder.call("runs", "delete", "first", "--yes")["shared"]
    assert uri in folder.stored()
    folder.call("runs", "delete", "second", "--yes")
    assert uri not in folder.stored()


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.PAUSED])
def test_a_run_that_has_not_ended_is_not_deleted(folder: Folder, state: RunState) -> None:
    folder.run("run")
    with folder.database.transaction() as transaction:
        transaction.execute(text(f"UPDATE runs SET state = '{state}'"))
    before = folder.rows()
    error = folder.call("runs", "delete", "run", "--yes", code=2)
    assert isinstance(error, InputError)
    assert f"run run is {'waiting' if state == RunState.RUNNING else state}" in str(error)
    assert "restmcts runs cancel run" in str(error)
    assert folder.rows() == before


def test_a_run_for_which_a_worker_still_trains_is_not_deleted(folder: Folder) -> None:
    run_id = folder.run("run")
    folder.end("run")
    with folder.database.transaction() as transaction:
        phase = runs.phases_of(transaction, run_id)[1]
        runs.set_phase(transaction, phase.id, PhaseState.TRAINING, lease_until=moment(60))
    assert "still busy with its phase policy-1" in str(folder.call("runs", "delete", "run", "--yes", code=2))


def test_a_folder_in_which_somebody_works_is_left_alone(folder: Folder) -> None:
    folder.run("run")
    folder.end("run")
    with lock_folder(folder.path):
        for arguments in (("runs", "delete", "run", "--yes"), ("storage", "prune", "--yes")):
            assert "another restmcts process uses this folder" in str(folder.call(*arguments, code=2))


def test_prune_frees_what_nothing_names_and_nothing_else(folder: Folder) -> None:
    named, orphan = folder.put("checkpoints", "named"), folder.put("checkpoints", "orphan")
    by_result = folder.put("training-logs", "a log")
    run_id = folder.run("run", named + "?format=trl")
    before = folder.stored()
    with folder.database.transaction() as transaction:
        phase = runs.phases_of(transaction, run_id)[1]
        runs.set_phase(transaction, phase.id, PhaseState.TRAINING, result={"log": by_result})
        transaction.execute(text("INSERT INTO token_counts (run_id, tokens) VALUES (99, 5)"))
        transaction.execute(text("UPDATE nodes SET tree_id = 77 WHERE tree_id = 1 AND node_id = 0"))
    killed = folder.path / "training-0123"
    partial = folder.path / "artifacts" / "checkpoints" / ".partial-0123"
    for left in (killed, partial):
        left.mkdir()
    dry = folder.call("storage", "prune")
    assert [each["uri"] for each in dry["artifacts"]] == [orphan]
    assert dry["rows"] == {"requests": 0, "nodes": 1, "token_counts": 1}
    assert {Path(left) for left in dry["folders"]} == {killed, partial}
    assert folder.stored() == before
    assert killed.exists()
    done = folder.call("storage", "prune", "--yes")
    assert {**done, "done": False} == dry | {"artifacts": done["artifacts"]}
    assert folder.stored() == before - {orphan}
    assert not killed.exists()
    assert not partial.exists()
    again = folder.call("storage", "prune")
    assert (again["artifacts"], again["folders"], set(again["rows"].values())) == ([], [], {0})
    assert folder.artifacts.fetch(named)


def test_what_is_young_may_be_kept(folder: Folder) -> None:
    folder.run("run")
    orphan = folder.put("checkpoints", "orphan")
    found = folder.call("storage", "prune", "--yes", "--min-age", "5")
    assert ([each["uri"] for each in found["young"]], found["artifacts"]) == ([orphan], [])
    os.utime(folder.path / "artifacts" / orphan.removeprefix("artifact:"), (0, 0))
    assert [each["uri"] for each in folder.call("storage", "prune", "--yes", "--min-age", "5")["artifacts"]] == [orphan]


@pytest.mark.parametrize("ends", [True, False], ids=["cancelled", "going on"])
def test_the_state_of_a_training_that_nobody_goes_on_with_is_swept(folder: Folder, ends: bool) -> None:
    saved, orphan = folder.put(STATES, "step 5"), folder.put(STATES, "step 4")
    checkpoint = folder.put("checkpoints", "named by nothing, and no saved state")
    run_id = folder.run("run")
    with folder.database.transaction() as transaction:
        phase = runs.phases_of(transaction, run_id)[1]
        runs.set_phase(transaction, phase.id, PhaseState.TRAINING, result={"saved": saved})
    if ends:
        folder.end("run")
    assert sweep_training_states(folder.database, folder.artifacts, 60.0) == [], "the row may still come"
    assert set(sweep_training_states(folder.database, folder.artifacts, 0.0)) == ({saved, orphan} if ends else {orphan})
    assert checkpoint in folder.stored()


def waiting(database: Database) -> list[str]:
    with database.transaction() as transaction:
        open_ = select(REQUESTS.c.state).where(REQUESTS.c.state != "applied")
        return sorted(transaction.execute(open_).scalars())


@pytest.fixture
def asked(tmp_path: Path) -> Any:
    """A run of three trees whose first requests wait, are leased and are answered."""
    services = HandledServices(
        tmp_path,
        start,
        lambda _: RandomModels(),
        around=lambda name, handler: _nothing if "policy" in name else handler,
    )
    with services.database.transaction() as transaction:
        problems = {"train": [Problem(f"question {number}", RIGHT_ANSWER) for number in range(3)]}
        checkpoints = {name: NewCheckpoint("policy", "somewhere") for name in ("base", "value-0")}
        create_run(transaction, NewRun("run", "test", 1, PHASES_OF_A_RUN, problems=problems, checkpoints=checkpoints))
    services.bus.run()
    with services.database.transaction() as transaction:
        for number, state in enumerate(("leased", "answered"), 1):
            transaction.execute(text(f"UPDATE requests SET state = '{state}' WHERE tree_id = {number}"))
    assert set(waiting(services.database)) == {"waiting", "leased", "answered"}
    yield services
    services.close()


def _nothing(_: object) -> None:
    pass


def cancelled(transaction: Transaction) -> None:
    steer.cancel(transaction, "run")


def all_failed(transaction: Transaction) -> None:
    trees.fail(transaction, dict.fromkeys((1, 2, 3), "broken"))


def failed(transaction: Transaction) -> None:
    runs.finish_run(transaction, 1, RunState.FAILED, "broken")


@pytest.mark.parametrize("end", [cancelled, all_failed, failed])
def test_requests_that_nobody_wants_are_ended(asked: HandledServices, end: Callable[[Transaction], None]) -> None:
    with asked.database.transaction() as transaction:
        end(transaction)
        wake_overdue(transaction, RetryPolicy(), lambda _: True)
    assert waiting(asked.database) == []


def test_requests_of_trees_that_search_stay(asked: HandledServices) -> None:
    before = waiting(asked.database)
    with asked.database.transaction() as transaction:
        requests.end_unwanted(transaction)
    assert waiting(asked.database) == before
    with asked.database.transaction() as transaction:
        steer.pause(transaction, "run")
        requests.end_unwanted(transaction)
    assert waiting(asked.database) == before, "a paused run goes on"
    with asked.database.transaction() as transaction:
        trees.fail(transaction, {1: "broken"})
        requests.end_unwanted(transaction)
    assert set(waiting(asked.database)) == {"waiting", "answered"}


def test_a_store_that_is_opened_leaves_what_another_writes_just_now(tmp_path: Path) -> None:
    young, old = (tmp_path / "checkpoints" / f".partial-{name}" for name in ("young", "old"))
    for folder in (young, old):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    FolderArtifactStore(tmp_path)
    assert (young.exists(), old.exists()) == (True, False)
    FolderArtifactStore(tmp_path, alone=True)
    assert not young.exists()
