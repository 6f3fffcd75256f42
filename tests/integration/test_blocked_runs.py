"""Runs on the real stack whose model cannot be had: blocked where people look, alone, counted once,
and going on by themselves.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import stack_queries
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.domain.tasks import number_paths
from restmcts.domain.tasks.number_paths import SetSizes, make_problem_sets
from restmcts.modeling.checkpoints import load_policy, save_checkpoint
from restmcts.settings import load_settings
from restmcts.testing.runs import await_end
from restmcts.usecases import steer
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_cli.main import app
from restmcts_cli.processes.stack_processes import Stack
from typer.testing import CliRunner

POLICY = f"{number_paths.KIND}:0"
GRADE = SearchPhase(
    "grade", 0, "evaluate", "test", "base", None, CotSettings(),
    generation=GenerationSettings(max_step_tokens=12, max_solution_tokens=24),
)  # fmt: skip

Show = Callable[..., Any]


@pytest.fixture
def show(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Show:
    """Call the command line with --json on the stack; return its document."""
    monkeypatch.chdir(tmp_path)
    for name, value in stack.settings.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    return call


@pytest.fixture
def begin(stack: Stack, database: Database) -> Iterator[Callable[[str], tuple[str, int]]]:
    """Begin a run of one grading phase under a policy; it is cancelled at the end."""
    started: list[str] = []

    def one(policy: str) -> tuple[str, int]:
        started.append(f"blocked-{time.monotonic_ns()}")
        sizes = SetSizes(demonstrations=1, iterations=1, searched=6, test=1, validation=1)
        problems: list[Problem] = list(make_problem_sets(random.Random(0), sizes).searched[0])
        new = NewRun(
            started[-1], "test", 0, [GRADE], problems={"test": problems},
            checkpoints={"base": NewCheckpoint("policy", policy)},
        )  # fmt: skip
        with database.transaction() as transaction:
            return started[-1], create_run(transaction, new).run_id

    yield one
    for name in started:
        with database.transaction() as transaction:
            if steer.run_named(transaction, name).state in ("running", "blocked"):
                steer.cancel(transaction, name)


def await_tries(show: Show, name: str, number: int) -> dict[str, Any]:
    """Return what blocks a run once it was tried so often."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found: list[dict[str, Any]] = show("runs", "show", name)["blocked"]
        if found and found[0]["num_tries"] >= number:
            return found[0]
        time.sleep(0.3)
    raise AssertionError(f"run {name} is not blocked: {show('runs', 'show', name)}")


def await_letters(database: Database, reason: str, num_times: int) -> int:
    """Return how many dead letters name a reason, once one has come so often."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with database.transaction() as transaction:
            letters = [row for row in stack_queries.list_dead_letters(transaction) if row.reason == reason]
        if any(letter.num_times >= num_times for letter in letters):
            return len(letters)
        time.sleep(0.3)
    raise AssertionError(f"no dead letter came {num_times} times for {reason}")


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_run_waits_for_its_policy_and_goes_on_by_itself(
    where: str,
    show: Show,
    begin: Callable[[str], tuple[str, int]],
    database: Database,
    tmp_path: Path,
) -> None:
    made, store = tmp_path / "made", open_bucket(load_settings())
    save_checkpoint(load_policy(POLICY), made)
    if where == "folder":
        policy = str(tmp_path / "later")
    else:
        artifact = store.put(made, "checkpoints", {})
        store.remove(artifact.uri)
        policy = artifact.uri
    name, run_id = begin(policy)
    _, healthy = begin(POLICY)
    assert await_end(database, healthy, 60) == "done"

    block = await_tries(show, name, 3)
    assert block["need"] == "checkpoint"
    assert policy.rpartition("/")[2] in block["reason"]
    listed = next(row for row in show("runs", "list") if row["name"] == name)
    assert (listed["state"], listed["error"]) == ("blocked", block["reason"])
    document = show("runs", "show", name)
    assert (document["state"], document["error"]) == ("blocked", block["reason"])
    if where == "folder":
        assert await_letters(database, block["reason"], 2) == 1
        made.rename(tmp_path / "later")
    else:
        store.put(made, "checkpoints", {})
    assert await_end(database, run_id, 90) == "done"
    assert show("runs", "show", name)["blocked"] == []
