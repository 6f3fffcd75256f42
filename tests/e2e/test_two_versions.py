"""An upgrade while runs go on: workers of the version before and of this one serve one run, under
the coordinator of either.
"""

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.observability.metrics import PORT_FILE
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.testing.runs import await_end, begin_run, faults, small_plan
from restmcts_cli.processes.server_processes import NAME
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import select

from tests.e2e.test_stack import scrape

ROOT = Path(__file__).parents[2]
OLDER = "1fc55f3d294bc2ef2285a19821eb34cfa49cb5d5"
"""The oldest commit whose workers may serve beside those of this one. A change of messages or
tables that it does not bear comes with a later one here, and a note in CHANGELOG.md.
"""
KINDS = ("policy-generator", "prm-scorer", "tree-search", "value-labeler", "trainer")


@pytest.fixture(scope="module")
def older_code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The older version's packages, as a value of PYTHONPATH."""
    asked = ["git", "-C", str(ROOT), "archive", OLDER, "shared/src", "services", "cli/src"]
    found = subprocess.run(asked, capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"commit {OLDER} is not in this copy: {found.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    sources = [folder / "shared" / "src", folder / "cli" / "src", *sorted((folder / "services").glob("*/src"))]
    return os.pathsep.join(map(str, sources))


@pytest.fixture(scope="module")
def stack(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory, older_code: str) -> Iterator[Stack]:
    """A stack of this version, with a second worker of each kind that is of the older one."""
    stack = Stack(tmp_path_factory.mktemp("stack") / "stack", {**environment, "RESTMCTS_RECONCILE_SECONDS": "2"})
    stack.up({"coordinator": 1, **dict.fromkeys(KINDS, 1)})
    try:
        start(older(stack, older_code), *(f"{kind}-9" for kind in KINDS))
        yield stack
    finally:
        stack.down()


def older(stack: Stack, older_code: str) -> Stack:
    """Return the same stack, whose workers are of the older version from now on."""
    return Stack(stack.folder, {**os.environ, "RESTMCTS_RECONCILE_SECONDS": "2", "PYTHONPATH": older_code})


def start(stack: Stack, *names: str) -> None:
    with stack.locked():
        for name in names:
            stack.start_worker(name)
    deadline = time.monotonic() + 120
    while any(stack.faults()[name] for name in names):
        assert time.monotonic() < deadline, {name: stack.log_file(name).read_text()[-2000:] for name in names}
        time.sleep(0.2)


def handled(stack: Stack, name: str) -> float:
    port = (stack.folder / "workers" / name / PORT_FILE).read_text()
    lines = [line for line in scrape(port).splitlines() if line.startswith("restmcts_messages_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="done"' in line)


def test_the_older_code_is_what_older_workers_run(older_code: str) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import restmcts.ports, restmcts_tree_search; print(restmcts.ports.__file__)"],
        env={**os.environ, "PYTHONPATH": older_code},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith(older_code.split(os.pathsep)[0])


@pytest.mark.parametrize("coordinator", ["this", "older"])
def test_a_run_is_served_by_workers_of_both_versions(
    stack: Stack,
    older_code: str,
    puzzles: Sequence[Problem],
    puzzle_policy: Path,
    tmp_path: Path,
    coordinator: str,
) -> None:
    if coordinator == "older":
        stack.stop("coordinator-1")
        start(older(stack, older_code), "coordinator-9")
    keys = (stack.settings["RESTMCTS_S3_ACCESS_KEY"], stack.settings["RESTMCTS_S3_SECRET_KEY"])
    artifacts = S3ArtifactStore(stack.settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, tmp_path, 2**30)
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    searching = [name for kind in ("tree-search", "policy-generator") for name in (f"{kind}-1", f"{kind}-9")]
    before = {name: handled(stack, name) for name in searching}
    run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:24], small_plan(1))
    assert await_end(database, run_id, seconds=240) == "done"
    assert faults(database, run_id) == []
    with database.transaction() as transaction:
        assert transaction.execute(select(DEAD_LETTERS)).all() == []
    database.close()
    shares = {name: handled(stack, name) - before[name] for name in searching}
    assert all(shares.values()), f"one version did nothing: {shares}"
