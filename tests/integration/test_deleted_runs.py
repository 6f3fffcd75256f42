"""Runs deleted and storage pruned on real PostgreSQL and S3: what others name stays."""

import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.settings import load_settings
from restmcts.usecases import steer
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_cli.main import app
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import text
from typer.testing import CliRunner

PHASES = [
    SearchPhase("grade", 1, "evaluate", "set", "base", None, CotSettings()),
    TrainPolicyPhase("policy-1", 1, "base", TrainingSettings(), ("grade",)),
]
COUNTS = {
    "runs": "id", "phases": "run_id", "problems": "run_id", "trees": "run_id", "checkpoints": "run_id",
    "token_counts": "run_id", "blocks": "run_id", "promotions": "run_id",
}  # fmt: skip

Call = Callable[..., Any]


@pytest.fixture
def put(call: Call, tmp_path: Path) -> Callable[[str, str], str]:
    """Store a folder with one file; return the URI."""

    def one(kind: str, content: str) -> str:
        folder = tmp_path / f"made-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "file").write_text(content)
        return open_bucket(load_settings()).put(folder, kind, {}).uri

    return one


def ended_run(database: Database, put: Callable[[str, str], str], *checkpoints: str) -> tuple[str, int, str]:
    """Store a run with rows in every table that has ended; return its name, id and dataset."""
    name, data = f"deleted-{time.monotonic_ns()}", put("datasets", f"rows {time.monotonic_ns()}")
    named = {f"given-{number}": NewCheckpoint("policy", uri) for number, uri in enumerate(checkpoints)}
    named |= {"base": NewCheckpoint("policy", "somewhere")}
    new = NewRun(name, "test", 1, PHASES, problems={"set": [Problem("question", "1")]}, checkpoints=named)
    with database.transaction() as transaction:
        run_id = create_run(transaction, new).run_id
        grade, train = runs.phases_of(transaction, run_id)
        checkpoint = min(row.id for row in runs.checkpoints_of(transaction, run_id).values())
        runs.add_dataset(transaction, train.id, "train-policy", data, "0", {"num_rows": 1})
        transaction.execute(
            text(
                f"INSERT INTO trees (run_id, phase_id, problem_id, seed, state, version, num_attempts, tokens, prompt_tokens,"
                f" reused_tokens, scored_tokens, model_calls, nodes, iterations, seconds)"
                f" SELECT {run_id}, {grade.id}, id, 1, 'searching', 1, 0, 0, 0, 0, 0, 0, 1, 0, 0 FROM problems"
                f" WHERE run_id = {run_id}"
            )
        )
        of_run = f"FROM trees WHERE run_id = {run_id}"
        transaction.execute(
            text(
                "INSERT INTO nodes (tree_id, node_id, step, depth, log_prob, num_tokens, search_value, visits, expanded,"
                f" final, multiplicity, origin) SELECT id, 0, '', 0, 0, 0, 0, 0, false, false, 0, 'search' {of_run}"
            )
        )
        transaction.execute(
            text(
                "INSERT INTO requests (tree_id, problem_id, number, kind, checkpoint_id, generation, num_prompt_chars,"
                f" payload, state, attempt) SELECT id, problem_id, 0, 'propose', {checkpoint}, '', 0, '', 'applied', 1 {of_run}"
            )
        )
        transaction.execute(text(f"INSERT INTO token_counts (run_id, tokens) VALUES ({run_id}, 5)"))
        promoted = f"({run_id}, 'policy', {checkpoint}, {grade.id}, now())"
        transaction.execute(
            text(f"INSERT INTO promotions (run_id, kind, checkpoint_id, phase_id, created_at) VALUES {promoted}")
        )
        steer.cancel(transaction, name)
    return name, run_id, data


def counts(database: Database, run_id: int) -> dict[str, int]:
    with database.transaction() as transaction:
        return {
            table: int(transaction.execute(text(f"SELECT count(*) FROM {table} WHERE {key} = {run_id}")).scalar_one())
            for table, key in COUNTS.items()
        } | {
            table: int(
                transaction.execute(
                    text(f"SELECT count(*) FROM {table} WHERE tree_id NOT IN (SELECT id FROM trees)")
                ).scalar_one()
            )
            for table in ("nodes", "requests")
        }


def fetched_by_another_process(uri: str) -> Path:
    """Fetch an artifact in a process that has ended; one that lives keeps its copies."""
    code = (
        "import sys; from restmcts.adapters.storage.s3_store import open_bucket; from restmcts.settings import load_settings;"
        "print(open_bucket(load_settings()).fetch(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, uri], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


def stored() -> set[str]:
    return {each.uri for each in open_bucket(load_settings()).stored()}


def test_a_deleted_run_leaves_nothing_but_what_others_name(
    call: Call, put: Callable[[str, str], str], database: Database
) -> None:
    shared, own = put("checkpoints", "shared by two"), put("checkpoints", "of one run")
    first, first_id, data = ended_run(database, put, shared, own)
    second, second_id, others_data = ended_run(database, put, shared)
    untouched = counts(database, second_id)
    fetched_by_another_process(own)

    dry = call("runs", "delete", first)
    assert (set(dry["artifacts"]), dry["shared"], dry["done"]) == ({own, data}, [shared], False)
    assert {dry["rows"][table] for table in ("trees", "nodes", "requests", "problems", "token_counts")} == {1}
    assert {own, data} <= stored()
    assert call("runs", "delete", first, "--yes") == {**dry, "done": True}
    assert set(counts(database, first_id).values()) == {0}
    assert counts(database, second_id) == untouched
    assert not {own, data} & stored()
    assert {shared, others_data} <= stored()
    assert not list(open_bucket(load_settings()).cache.stored()), "the copy on this machine goes too"

    call("runs", "delete", second, "--yes")
    assert not {shared, others_data} & stored()


def test_prune_frees_what_nothing_names(
    call: Call, put: Callable[[str, str], str], database: Database, idle_servers: Stack
) -> None:
    named, orphan = put("checkpoints", "named"), put("checkpoints", "an orphan")
    name, _, data = ended_run(database, put, f"{named}?format=trl")
    store = open_bucket(load_settings())
    copied = put("checkpoints", "copied, and then removed from the store")
    folder = fetched_by_another_process(copied)
    assert folder.exists()
    settings = idle_servers.settings
    keys = (settings["RESTMCTS_S3_ACCESS_KEY"], settings["RESTMCTS_S3_SECRET_KEY"])
    client = Minio(settings["RESTMCTS_S3_ENDPOINT"], *keys, secure=False, region="us-east-1")
    bucket, half = load_settings().s3_bucket, f"checkpoints/{'0' * 64}"
    client.put_object(bucket, f"{half}/weights", BytesIO(b"half"), 4)

    young = call("storage", "prune")
    assert {orphan, copied} <= {each["uri"] for each in young["young"]}, "what names them may still come"
    dry = call("storage", "prune", "--min-age", "0")
    found = {each["uri"] for each in dry["artifacts"]}
    assert {orphan, copied} <= found
    assert not {named, data, f"artifact:{half}"} & found
    assert f"artifact:{half}" in {each["uri"] for each in dry["young"]}, "it may be under way"
    assert [each["uri"] for each in dry["copies"]] == [copied]
    assert orphan in stored()
    call("storage", "prune", "--min-age", "0", "--yes")
    assert not {orphan, copied} & stored()
    assert not folder.exists()
    assert {named, data} <= stored()

    store.remove(f"artifact:{half}")
    assert f"artifact:{half}" not in stored(), "what is not whole can be removed"
    call("runs", "delete", name, "--yes")


def test_a_run_whose_trainer_is_still_at_work_stays(
    call: Call, put: Callable[[str, str], str], database: Database
) -> None:
    name, run_id, _ = ended_run(database, put)
    with database.transaction() as transaction:
        phase = runs.phases_of(transaction, run_id)[1]
        runs.set_phase(transaction, phase.id, runs.PhaseState.TRAINING, lease_until=moment(60))
    result = CliRunner().invoke(app, ["runs", "delete", name, "--yes"])
    assert "a worker is still busy" in str(result.exception)
    with database.transaction() as transaction:
        runs.set_phase(transaction, phase.id, runs.PhaseState.TRAINING, lease_until=None)
    call("runs", "delete", name, "--yes")
