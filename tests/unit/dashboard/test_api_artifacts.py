"""What runs made, over HTTP: files of checkpoints and training data, for their projects alone."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from restmcts.adapters.sql.state import projects, runs
from restmcts.adapters.storage.manifests import read_manifest
from restmcts.adapters.storage.readable import PartsOfFile
from restmcts_dashboard.api.artifact_routes import FileResponse
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from starlette.testclient import TestClient
from starlette.types import Message

from tests.unit.dashboard.api_project import PROBLEMS, SEARCHED, WEIGHTS, Projects, two_projects

CHECKPOINT = f"/runs/{SEARCHED}/checkpoints/policy-1"
DATA = f"/runs/{SEARCHED}/datasets/collect-1"


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Iterator[Projects]:
    shutil.copy(folder / "run.db", tmp_path / "run.db")
    found = two_projects(tmp_path / "run.db")
    with found.client:
        yield found
    found.database.close()


def test_files_are_given_as_the_manifest_says(made: Projects) -> None:
    for place in (CHECKPOINT, DATA):
        status, row = made.ask("read", "GET", place)
        assert status == 200 and row["run"] == SEARCHED
        _, document = made.ask("read", "GET", f"{place}/files")
        manifest = read_manifest(json.dumps(document), row["uri"])
        assert manifest.artifact.num_bytes == row["num_bytes"] and len(manifest.files) == 2
        for name, stored in manifest.files.items():
            _, content = made.ask("read", "GET", f"{place}/files/{name}")
            assert (len(content), hashlib.sha256(content).hexdigest()) == (stored.size, stored.sha256)
    assert made.ask("read", "GET", f"{CHECKPOINT}/files/deeper%2Fweights.bin") == (200, WEIGHTS)
    _, rows = made.ask("read", "GET", f"{DATA}/rows?limit=2")
    assert [row["question"] for row in rows] == ["0 + 1?", "1 + 1?"]
    assert len(made.ask("read", "GET", f"{DATA}/rows?limit=1000")[1]) == 5


@pytest.mark.parametrize(
    "file", ["none", "manifest.json", "deeper", "../run.db", "..%2F..%2F..%2Frun.db", "%2Fetc%2Fpasswd", "%00", ""]
)
def test_what_is_no_file_of_the_artifact_is_not_there(made: Projects, file: str) -> None:
    for place in (CHECKPOINT, DATA):
        secret = {"Authorization": f"Bearer {made.secrets['read']}"}
        found = made.client.get(f"http://localhost/api/v1{place}/files/{file}", headers=secret)
        assert found.status_code == 404 and "reason" in found.json()


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (f"/runs/{SEARCHED}/checkpoints/policy-9", 404, "has no checkpoint 'policy-9'; it has base, value-0, policy-1"),
        (f"/runs/{SEARCHED}/checkpoints/base/files", 400, "a model of the hub or of another machine"),
        (f"/runs/{SEARCHED}/checkpoints/base/files/config.json", 400, "fetch it from there"),
        (f"/runs/{SEARCHED}/datasets/collect-2", 404, "has no data set for 'collect-2'; it has collect-1"),
        (f"/runs/{SEARCHED}/datasets/collect-2/files/card.json", 404, "it has collect-1"),
        (f"{DATA}/rows?limit=0", 400, "limit is '0'; give at least 1"),
        (f"{DATA}/rows?limit=1001", 400, "limit is '1001'"),
    ],
)
def test_what_is_not_there_is_said(made: Projects, path: str, status: int, reason: str) -> None:
    found = made.ask("read", "GET", path)
    assert found[0] == status and reason in found[1]["reason"]


def test_who_knows_the_name_of_an_artifact_does_not_get_its_files(made: Projects) -> None:
    uri = made.ask("read", "GET", CHECKPOINT)[1]["uri"]
    for who, name in (("stranger", "theirs"), ("run", "own")):
        new = {"name": name, "spec": {"policy": uri}, "problems": PROBLEMS}
        assert made.ask(who, "POST", "/runs", new)[0] == 201
    for path in ("files", "files/config.json"):
        status, answer = made.ask("stranger", "GET", f"/runs/theirs/checkpoints/base/{path}")
        assert status == 400 and "no run of project chemistry made it" in answer["reason"]
    assert made.ask("run", "GET", "/runs/own/checkpoints/base/files/config.json") == (200, b"{}")
    # a training that changed nothing names what it was given, and takes no bytes
    with made.database.transaction() as transaction:
        run = runs.find_run(transaction, "theirs")
        assert run is not None
        digest = uri.rpartition("/")[2]
        runs.add_checkpoint(transaction, run.id, "policy-1", "policy", uri, digest, "base", num_bytes=0)
    assert made.ask("stranger", "GET", "/runs/theirs/checkpoints/policy-1/files")[0] == 400
    with made.database.transaction() as transaction:
        projects.assign_run(transaction, run.id, projects.project_named(transaction, "physics").id)
    assert made.ask("read", "GET", "/runs/theirs/checkpoints/policy-1/files/config.json") == (200, b"{}")


def test_a_file_is_closed_though_its_reader_is_gone() -> None:
    is_open: list[bool] = [True]

    def parts() -> PartsOfFile:
        try:
            while True:
                yield b"part"
        finally:
            is_open[0] = False

    async def read_a_part() -> None:
        is_read = anyio.Event()

        async def receive() -> Message:
            await is_read.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                is_read.set()
                await anyio.sleep_forever()

        response = FileResponse(parts(), num_bytes=10**9)
        await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        assert is_open == [False]

    anyio.run(read_a_part)


def test_a_store_that_does_not_answer_is_said(made: Projects, tmp_path: Path) -> None:
    uri = made.ask("read", "GET", CHECKPOINT)[1]["uri"]
    shutil.rmtree(tmp_path / "artifacts" / uri.removeprefix("artifact:"))
    for path in ("files", "files/config.json"):
        status, answer = made.ask("read", "GET", f"{CHECKPOINT}/{path}")
        assert status == 503 and "store of artifacts" in answer["reason"]


def test_a_server_without_a_store_says_so(made: Projects) -> None:
    source = Source(made.database, "a test", writable=made.database, serves_api=True)
    client: Any = TestClient(create_app(source), base_url="http://localhost")
    secret = {"Authorization": f"Bearer {made.secrets['read']}"}
    found = client.get(f"/api/v1{CHECKPOINT}/files", headers=secret)
    assert found.status_code == 503 and "no account of the store" in found.json()["reason"]
    assert client.get(f"/api/v1{CHECKPOINT}", headers=secret).status_code == 200


def test_manifests_and_files_are_described(made: Projects) -> None:
    document = made.client.get("/api/v1/openapi.json").json()
    assert "Manifest" in document["components"]["schemas"]
    path = document["paths"]["/runs/{name}/checkpoints/{checkpoint}/files/{file}"]
    assert list(path["get"]["responses"]["200"]["content"]) == ["application/octet-stream"]
