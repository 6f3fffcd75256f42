"""An upgrade while runs go on: workers of the version before and of this one serve one run, under
the coordinator of either.
"""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.observability.metrics import PORT_FILE
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import projects
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.testing.runs import await_end, begin_run, faults, small_plan
from restmcts_cli.processes.server_processes import NAME
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import select

from tests.e2e.conftest import COMMAND
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
def up(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory, older_code: str
) -> Iterator[Callable[..., Stack]]:
    """Bring a stack to these numbers of workers, by the command line of this version or, before the
    tables are upgraded, of the older one, which starts what is missing.
    """
    folder = tmp_path_factory.mktemp("stack") / "stack"

    def call(*arguments: str, **settings: str) -> None:
        told = {**environment, "RESTMCTS_RECONCILE_SECONDS": "2", **settings}
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=told, check=False)
        assert done.returncode == 0, done.stderr

    def run(*workers: str, is_older: bool = False) -> Stack:
        settings = {"PYTHONPATH": older_code} if is_older else {}
        call("stack", "up", "--dir", str(folder), "--workers", ",".join(workers), **settings)
        return Stack(folder)

    yield run
    call("stack", "down", "--dir", str(folder))


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


def test_runs_are_served_by_workers_of_both_versions_under_the_coordinator_of_either(
    up: Callable[..., Stack], puzzles: Sequence[Problem], puzzle_policy: Path, tmp_path: Path
) -> None:
    up(*(f"{kind}=1" for kind in ("coordinator", *KINDS)), is_older=True)
    stack = up(*(f"{kind}=2" for kind in KINDS))
    keys = (stack.settings["RESTMCTS_S3_ACCESS_KEY"], stack.settings["RESTMCTS_S3_SECRET_KEY"])
    artifacts = S3ArtifactStore(stack.settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, tmp_path, 2**30)
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    with database.transaction() as transaction:
        project = projects.create_project(transaction, "team")
        projects.set_quotas(transaction, "team", max_tokens=10**9, max_trees_in_flight=12, max_bytes=10**9)
    both = [f"{kind}-{number}" for kind in ("tree-search", "policy-generator") for number in (1, 2)]
    for _ in range(2):
        before = {name: handled(stack, name) for name in both}
        run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:24], small_plan(1))
        with database.transaction() as transaction:
            projects.assign_run(transaction, run_id, project)
        assert await_end(database, run_id, seconds=240) == "done"
        assert faults(database, run_id) == []
        with database.transaction() as transaction:
            assert transaction.execute(select(DEAD_LETTERS)).all() == []
            assert projects.usage(transaction, project).tokens > 0
        shares = {name: handled(stack, name) - before[name] for name in both}
        assert all(shares.values()), f"one version did nothing: {shares}"
        up("coordinator=0")
        up("coordinator=1")
    database.close()


def test_commands_of_the_older_version_leave_the_tables_of_this_one_alone(
    up: Callable[..., Stack], older_code: str, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """Its workers look at no version, its commands do: the migration is announced to no code that
    was there before the rule of restmcts.adapters.sql.versions.
    """
    stack = up("coordinator=0")
    settings = {**environment, **stack.settings, "PYTHONPATH": older_code, "RESTMCTS_ENV_FILE": "none"}
    for command, reason in (
        (("runs", "list"), "later version of restmcts"),
        (("db", "upgrade"), "is this code older than the database?"),
        (("stack", "up", "--dir", str(stack.folder)), "is this code older than the database?"),
    ):
        done = subprocess.run(
            [*COMMAND, *command], capture_output=True, text=True, env=settings, cwd=tmp_path, check=False
        )
        assert done.returncode != 0 and reason in done.stderr, (command, done.stderr)
