"""A whole self-training run through workers as processes, PostgreSQL, Redis and S3, by the
command line alone.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.testing.runs import await_end, begin_run, faults, small_plan
from restmcts_cli.processes.server_processes import NAME
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import select

Restmcts = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stack(restmcts_anew: Restmcts, tmp_path: Path) -> Iterator[Stack]:
    done = restmcts_anew("stack", "up", "--dir", tmp_path / "stack", "--workers", "tree-search=2")
    try:
        assert done.returncode == 0, done.stderr
        yield Stack(tmp_path / "stack")
    finally:
        done = restmcts_anew("stack", "down", "--dir", tmp_path / "stack")
        assert done.returncode == 0, done.stderr


def artifacts_of(stack: Stack, cache: Path) -> S3ArtifactStore:
    settings = stack.settings
    keys = (settings["RESTMCTS_S3_ACCESS_KEY"], settings["RESTMCTS_S3_SECRET_KEY"])
    return S3ArtifactStore(settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, cache, 2**30)


def test_a_self_training_run_ends_and_every_tree_is_whole(
    restmcts_anew: Restmcts, stack: Stack, puzzles: Sequence[Problem], puzzle_policy: Path, tmp_path: Path
) -> None:
    database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
    artifacts = artifacts_of(stack, tmp_path / "cache")
    run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:12], small_plan())
    assert await_end(database, run_id, seconds=180) == "done"
    assert faults(database, run_id) == []
    with database.transaction() as transaction:
        phases = runs.phases_of(transaction, run_id)
        checkpoints = runs.checkpoints_of(transaction, run_id)
        assert transaction.execute(select(DEAD_LETTERS)).all() == []
    database.close()
    assert {phase.state for phase in phases} == {"done"}
    by_name = {phase.name: phase for phase in phases}
    assert by_name["collect-2"].policy_id == checkpoints["policy-1"].id
    assert by_name["collect-2"].value_id == checkpoints["value-1"].id
    for kind, names in (("policy", ("base", "policy-1", "policy-2")), ("value", ("value-0", "value-1"))):
        weights = {(artifacts.fetch(checkpoints[name].uri) / "model.safetensors").read_bytes() for name in names}
        assert len(weights) == len(names), f"each training of a {kind} model changed its weights"

    again = restmcts_anew("stack", "up", "--dir", stack.folder, "--workers", "search=1")
    assert again.returncode == 0, again.stderr
    status = restmcts_anew("stack", "status", "--dir", stack.folder, "--json")
    pids = {row["name"]: row["pid"] for row in json.loads(status.stdout)}
    assert pids == {member.name: member.pid for member in stack.members() if member.name != "tree-search-2"}
