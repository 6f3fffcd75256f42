"""The dashboard over PostgreSQL and Redis: it reads only, and what is retried is in its queue."""

import dataclasses
from pathlib import Path

import pytest
from pydantic import SecretStr
from restmcts.adapters.buses.broker import queue_lengths
from restmcts.adapters.files.dataset_shards import VALUE_SCHEMA, write_shards
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.end_quality import value_quality
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.requests import REQUESTS, Batch, request_row
from restmcts.adapters.sql.state.runs import DATASETS, DEAD_LETTERS
from restmcts.adapters.sql.state.trees import NODES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, TreeState
from restmcts.adapters.storage.bucket_setup import KEY_FILES, set_up
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposeSteps
from restmcts.domain.runs.phases import SearchPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.tree import Tree
from restmcts.errors import StorageError
from restmcts.messages.commands import AdvanceRun
from restmcts.settings import BucketSettings, Settings
from restmcts.usecases import steer
from restmcts_cli.processes.stack_processes import Stack
from restmcts_dashboard.app import create_app
from restmcts_dashboard.runs.run_reads import read_run
from restmcts_dashboard.serving import stack_source
from sqlalchemy import insert, select, update
from starlette.testclient import TestClient


@pytest.fixture
def settings(servers: Stack) -> Settings:
    named = {name.removeprefix("RESTMCTS_").lower(): value for name, value in servers.settings.items()}
    return Settings(**{**named, "dashboard_token": SecretStr("token")})  # type: ignore[arg-type]


def test_it_reads_and_only_a_retry_changes_anything(servers: Stack, settings: Settings, database: Database) -> None:
    source = stack_source(settings)
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "seen in a browser", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "train", [Problem("1 + 1", "2")])
        runs.add_dead_letter(transaction, "coordinator", AdvanceRun.name, f'{{"run_id": {run_id}}}', "was away")
    with source.database.transaction() as transaction:
        assert read_run(transaction, run_id).run.name == "seen in a browser"
        assert value_quality(transaction, run_id, {}) == {}
        letter = transaction.execute(select(DEAD_LETTERS.c.id).order_by(DEAD_LETTERS.c.id.desc())).scalar()
    with pytest.raises(StorageError, match="read-only"), source.database.transaction() as transaction:
        transaction.execute(update(RUNS).values(name="changed"))

    servers.up({"coordinator": 0})
    before = queue_lengths(settings.redis_url.get_secret_value())["coordinator"]
    assert source.may_change
    assert source.writable is not None
    with source.writable.transaction() as transaction:
        steer.retry_dead_letter(transaction, letter)
    assert source.queue_lengths()["coordinator"] == before + 1
    assert dataclasses.replace(source, redis_url="redis://127.0.0.1:1/0").queue_lengths() == {"broker": None}
    source.writable.close()
    source.database.close()


def test_a_failed_tree_begins_again_as_a_fresh_one(servers: Stack, settings: Settings, database: Database) -> None:
    servers.up({"coordinator": 0})
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", None, MctsStarSettings(mode="collect"))
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "a tree failed", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "train", [Problem("1 + 1", "2"), Problem("1 + 2", "3")])
        runs.add_phases(transaction, run_id, [phase])
        runs.add_checkpoint(transaction, run_id, "base", "policy", "nowhere", "0")
        batch = Batch(runs.checkpoints_of(transaction, run_id)["base"].id, "{}")
        phase_id = runs.phases_of(transaction, run_id)[0].id
        problem_id, other_problem_id = (row.id for row in runs.problems_of(transaction, run_id, "train"))
        runs.set_phase(transaction, phase_id, PhaseState.SEARCHING, **runs.started())
        row = {"run_id": run_id, "phase_id": phase_id, "seed": 7}
        trees.create_trees(transaction, [{**row, "problem_id": one} for one in (problem_id, other_problem_id)])
        tree_id, other_id = trees.admit(transaction, phase_id, 2)
        transaction.execute(insert(NODES), [trees.node_row(tree_id, Tree().root)])
        transaction.execute(
            insert(REQUESTS), [request_row(tree_id, problem_id, ProposeSteps(0, (), 1, 1, 0), "{}", batch)]
        )
        trees.fail(transaction, {tree_id: "the model gave up", other_id: "the model gave up"})
    source = stack_source(settings)
    before = queue_lengths(settings.redis_url.get_secret_value())["coordinator"]
    with source.database.transaction() as transaction:
        assert queries.failed_trees(transaction, 1)[0].error == "the model gave up"
        forecast = read_run(transaction, run_id).forecast
        assert forecast is not None and forecast.seconds == 0.0, "both trees have ended"
    assert source.writable is not None
    with source.writable.transaction() as transaction:
        steer.retry_tree(transaction, tree_id)
    with database.transaction() as transaction:
        other, fresh = transaction.execute(select(TREES).where(TREES.c.run_id == run_id).order_by(TREES.c.id)).all()
        assert (other.id, other.state) == (other_id, TreeState.FAILED)
        assert fresh.id > other_id
        assert (fresh.state, fresh.seed, fresh.problem_id, fresh.error) == (TreeState.WAITING, 7, problem_id, None)
        for table in (NODES, REQUESTS):
            assert transaction.execute(select(table).where(table.c.tree_id == tree_id)).all() == []
    assert source.queue_lengths()["coordinator"] == before + 1
    source.writable.close()
    source.database.close()


def test_training_rows_are_read_with_the_accounts_of_the_dashboard_alone(
    servers: Stack, settings: Settings, database: Database, tmp_path: Path
) -> None:
    bucket = BucketSettings(**{name: getattr(settings, name) for name in BucketSettings.model_fields})
    set_up(bucket, tmp_path / "keys")
    run_id = store_training_rows(settings, database, tmp_path)
    source = stack_source(as_dashboard(servers, settings, tmp_path))
    try:
        client = TestClient(create_app(source), base_url="http://localhost")
        page = client.get(f"/runs/{run_id}/data/value-1")
        assert page.status_code == 200, page.text
        assert "&lt;b&gt;a step" in page.text and "0.250" in page.text
        assert '<a href="/trees/4#node-7">tree 4, node 7</a>' in page.text
        with database.transaction() as transaction:
            transaction.execute(update(DATASETS).values(uri="artifact:datasets/" + "0" * 64))
        gone = client.get(f"/runs/{run_id}/data/value-1")
        assert gone.status_code == 503 and "no artifact" in gone.text
    finally:
        source.database.close()


def as_dashboard(servers: Stack, settings: Settings, folder: Path) -> Settings:
    """Return settings with the role and the account that the dashboard has, in place of those of
    administrators.
    """
    access_key, secret_key = ((folder / "keys/dashboard" / name).read_text() for name in KEY_FILES)
    url = (servers.folder / "roles/dashboard/restmcts_database_url").read_text()
    own = {"s3_access_key": access_key, "s3_secret_key": SecretStr(secret_key), "database_url": SecretStr(url)}
    return settings.model_copy(update={**own, "dashboard_token": SecretStr(""), "cache_dir": folder / "cache"})


def store_training_rows(settings: Settings, database: Database, folder: Path) -> int:
    """Store a run with one row of training data, in the bucket; return its id."""
    written = folder / "written"
    written.mkdir()
    row = {"question": "1 + 1", "steps": ["<b>a step"], "targets": [0.25], "leads_to_right": [True], "finished": True}
    rows = iter([{**row, "problem_id": 1, "tree_id": 4, "node_id": 7}])
    card = write_shards(rows, VALUE_SCHEMA, {"sources": ["collect-1"]}, written)
    stored = open_bucket(settings.model_copy(update={"cache_dir": folder / "other"})).put(written, "datasets", {})
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "with training rows", "rest-mcts", 0, {})
        phase = TrainValuePhase("value-1", 1, None, "base", TrainingSettings(), ("collect-1",))
        runs.add_phases(transaction, run_id, [phase])
        columns = {"phase_id": runs.phases_of(transaction, run_id)[0].id, "kind": "train-value", "num_rows": 1}
        transaction.execute(
            insert(DATASETS).values(**columns, uri=stored.uri, digest=stored.digest, card=card),
        )
    return run_id
