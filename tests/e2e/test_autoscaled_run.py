"""A whole self-training run whose workers `restmcts workers autoscale` starts and stops: none
before it and none after it.
"""

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.messages.workers import WORKERS
from restmcts.testing.runs import await_end, begin_run, faults, small_plan
from restmcts_cli.processes.server_processes import NAME
from restmcts_cli.processes.stack_processes import Stack, kind_of
from sqlalchemy import select

from tests.e2e.conftest import COMMAND

BOUNDS = {
    "tree-search": "0-4:3",
    "value-labeler": "0-1:16",
    "policy-generator": "0-2:16",
    "prm-scorer": "0-1:16",
    "trainer": "0-1:1",
}
NUM_PROBLEMS = 12
# Longer than a worker takes to start: else one that is asked for again, a moment later, starts and
# stops without end.
COOLDOWN_SECONDS = "30"
SECONDS = 550


@pytest.fixture
def stack(restmcts_anew: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path) -> Iterator[Stack]:
    """A stack of which only the coordinator runs."""
    folder = tmp_path / "stack"
    try:
        done = restmcts_anew("stack", "up", "--dir", folder, "--workers", ",".join(f"{worker}=0" for worker in BOUNDS))
        assert done.returncode == 0, done.stderr
        yield Stack(folder)
    finally:
        done = restmcts_anew("stack", "down", "--dir", folder)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def autoscaling(stack: Stack, environment: Mapping[str, str], tmp_path: Path) -> Iterator[None]:
    told = {**environment, "RESTMCTS_ENV_FILE": "none"}
    bounds = [f"{worker}={bounds}" for worker, bounds in BOUNDS.items()]
    command = [*COMMAND, "workers", "autoscale", *bounds, "--dir", str(stack.folder), "--every", "0.5"]
    with (tmp_path / "autoscale.txt").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--cooldown", COOLDOWN_SECONDS], stdout=output, stderr=subprocess.STDOUT, env=told, cwd=tmp_path
        )
        yield
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def living(folder: Path) -> Counter[str]:
    """Return how many workers of each kind live, the coordinator left out."""
    stack = Stack(folder)
    kinds = Counter(kind_of(member.name) for member in stack.members() if stack.lives(member.name))
    return Counter({worker: kinds[worker] for worker in BOUNDS if kinds[worker]})


@pytest.mark.timeout(SECONDS + 50)
def test_workers_come_with_a_run_and_go_with_it_and_no_tree_is_lost(
    stack: Stack, puzzles: Sequence[Problem], puzzle_policy: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert set(BOUNDS) == set(WORKERS) - {"coordinator"}
    assert living(stack.folder) == {}
    keys = (stack.settings["RESTMCTS_S3_ACCESS_KEY"], stack.settings["RESTMCTS_S3_SECRET_KEY"])
    artifacts = S3ArtifactStore(stack.settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, tmp_path / "cache", 2**30)
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    request.addfinalizer(database.close)
    request.getfixturevalue("autoscaling")
    run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:NUM_PROBLEMS], small_plan(1))

    most: Counter[str] = Counter()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        most |= living(stack.folder)
        with database.transaction() as transaction:
            row = runs.lock_run(transaction, run_id)
        if row is not None and row.state != "running" and not living(stack.folder):
            break
        time.sleep(0.2)
    said = (tmp_path / "autoscale.txt").read_text()
    assert await_end(database, run_id, seconds=1) == "done", said
    assert living(stack.folder) == {}, said
    assert most["tree-search"] == 4 and set(most) == set(BOUNDS), (most, said)
    assert faults(database, run_id) == []
    with database.transaction() as transaction:
        assert transaction.execute(select(DEAD_LETTERS)).all() == []
