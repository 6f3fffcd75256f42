"""Files of checkpoints over HTTP from a real bucket, with the account that the dashboard has."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio
from pydantic import SecretStr
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import projects, runs
from restmcts.adapters.storage.bucket_setup import KEY_FILES, set_up
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.domain.access import Role
from restmcts.errors import RestMctsError
from restmcts.settings import BucketSettings, Settings
from restmcts.testing.contracts.artifact_store import check_readable_store
from restmcts_cli.processes.stack_processes import Stack
from restmcts_dashboard.app import create_app
from restmcts_dashboard.serving import stack_source
from starlette.testclient import TestClient

WEIGHTS = bytes(range(256)) * 20_000
FILES = "/api/v1/runs/served/checkpoints/policy-1/files"


@pytest.fixture
def settings(servers: Stack, tmp_path: Path) -> Settings:
    named = {name.removeprefix("RESTMCTS_").lower(): value for name, value in servers.settings.items()}
    return Settings(**{**named, "cache_dir": tmp_path / "cache", "api_enabled": True})  # type: ignore[arg-type]


@pytest.fixture
def digest(settings: Settings, database: Database, tmp_path: Path) -> Iterator[str]:
    """The digest of a checkpoint in the bucket that a run of a project made."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(WEIGHTS)
    (model / "empty.txt").touch()
    made = open_bucket(settings).put(model, "checkpoints", {})
    with database.transaction() as transaction:
        project_id = projects.create_project(transaction, "served")
        run_id = runs.create_run(transaction, "served", "rest-mcts", 0, {})
        projects.assign_run(transaction, run_id, project_id)
        add = (run_id, "policy-1", "policy", made.uri, made.digest, "base", {}, made.num_bytes)
        runs.add_checkpoint(transaction, *add)
    yield made.digest


def as_dashboard(settings: Settings, folder: Path, *, serves: bool) -> Settings:
    """Return the settings with the account of the bucket that the dashboard has."""
    bucket = BucketSettings(**{name: getattr(settings, name) for name in BucketSettings.model_fields})
    set_up(bucket, folder / "keys", dashboard_serves=serves)
    access_key, secret_key = ((folder / "keys/dashboard" / name).read_text() for name in KEY_FILES)
    own = {"s3_access_key": access_key, "s3_secret_key": SecretStr(secret_key), "cache_dir": folder / "own"}
    return settings.model_copy(update=own)


def test_a_bucket_keeps_the_contract(settings: Settings, tmp_path: Path) -> None:
    check_readable_store(open_bucket(settings), tmp_path / "scratch")


def test_files_pass_through_and_what_breaks_is_cut_off(
    settings: Settings, database: Database, digest: str, tmp_path: Path
) -> None:
    with database.transaction() as transaction:
        secret = projects.issue_token(transaction, "served", "reader", Role.READ)
    source = stack_source(as_dashboard(settings, tmp_path, serves=True))
    client = TestClient(create_app(source), base_url="http://localhost", headers={"Authorization": f"Bearer {secret}"})
    assert client.get(FILES).json()["files"]["weights.bin"]["size"] == len(WEIGHTS)
    assert client.get(f"{FILES}/weights.bin").content == WEIGHTS
    assert client.get(f"{FILES}/empty.txt").content == b""
    assert client.get(f"{FILES}/none").status_code == 404
    assert not list((tmp_path / "own").rglob("weights.bin")), "nothing of it is kept"
    keys = (settings.s3_access_key, settings.s3_secret_key.get_secret_value())
    bucket = Minio(settings.s3_endpoint, *keys, secure=settings.s3_secure, region="us-east-1")
    name = f"checkpoints/{digest}/weights.bin"
    bucket.put_object(settings.s3_bucket, name, BytesIO(b"short"), 5)
    assert client.get(f"{FILES}/weights.bin").content != WEIGHTS, "the client compares"
    bucket.remove_object(settings.s3_bucket, name)
    gone = client.get(f"{FILES}/weights.bin")
    assert gone.status_code == 503 and "store of artifacts" in gone.json()["reason"]
    assert source.writable is not None
    for one in (source.database, source.writable):
        one.close()


@pytest.mark.parametrize(("serves", "reason"), [(False, "AccessDenied"), (True, "no artifact")])
def test_a_dashboard_reads_weights_only_where_it_serves_the_api(
    settings: Settings, tmp_path: Path, serves: bool, reason: str
) -> None:
    store = open_bucket(as_dashboard(settings, tmp_path, serves=serves), (0.01,))
    with pytest.raises(RestMctsError, match=reason):
        store.manifest(f"artifact:checkpoints/{'0' * 64}")
