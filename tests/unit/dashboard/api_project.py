"""A dashboard with two projects, asked over HTTP by tokens of both."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from restmcts.adapters.files.dataset_shards import VALUE_SCHEMA, write_shards
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import projects, runs
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.access import Role
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from sqlalchemy import select, update
from starlette.testclient import TestClient

PROBLEMS = [{"question": f"What is {number} + 1?", "answer": number + 1} for number in range(30)]
SEARCHED = "searched"
"""A run of the project physics that has trees."""

LINEAGE = {"problem_id": 1, "tree_id": 1, "node_id": 1}
WEIGHTS = bytes(range(256)) * 10_000
ROWS = [
    {
        "question": f"{number} + 1?",
        "steps": ["a step"],
        "targets": [0.5],
        "leads_to_right": [None],
        "finished": True,
        **LINEAGE,
    }
    for number in range(5)
]


@dataclass(frozen=True)
class Projects:
    """What a test asks, and by whose secrets."""

    client: TestClient
    database: Database
    secrets: Mapping[str, str]

    def ask(self, who: str | None, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the document of an answer; `who` is a token's name, or a secret."""
        if who is not None:
            headers["Authorization"] = f"Bearer {self.secrets.get(who, who)}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = json.dumps(body) if body is not None else None
        found = self.client.request(method, f"/api/v1{path}", content=content, headers=headers)
        if found.headers.get("content-type") == "application/octet-stream":
            return found.status_code, found.content
        return found.status_code, found.json() if found.content else None

    def actions(self) -> list[tuple[str, str, str]]:
        """Return who did what to what in the project physics, the first first."""
        with self.database.transaction() as transaction:
            return [(row.actor, row.action, row.subject) for row in projects.audit(transaction, "physics", 1000)[::-1]]


def two_projects(path: Path) -> Projects:
    """Return two projects over the database of a folder, whose run is given to the first."""
    database = Database(f"sqlite:///{path}")
    secrets = {}
    with database.transaction() as transaction:
        physics = projects.create_project(transaction, "physics")
        projects.create_project(transaction, "chemistry")
        for role in Role:
            secrets[role.value] = projects.issue_token(transaction, "physics", role.value, role)
        secrets["revoked"] = projects.issue_token(transaction, "physics", "revoked", Role.ADMIN)
        projects.revoke_token(transaction, "physics", "revoked")
        secrets["stranger"] = projects.issue_token(transaction, "chemistry", "stranger", Role.ADMIN)
        run_id = transaction.execute(select(RUNS.c.id)).scalar_one()
        transaction.execute(update(RUNS).where(RUNS.c.id == run_id).values(name=SEARCHED))
        projects.assign_run(transaction, run_id, physics)
        add_artifacts(transaction, run_id, path.parent)
    read_only = Database(f"sqlite:///{path}", read_only=True)
    store = FolderArtifactStore(path.parent / "artifacts")
    source = Source(read_only, "a test", writable=database, artifacts=store, serves_api=True)
    return Projects(TestClient(create_app(source), base_url="http://localhost"), database, secrets)


def add_artifacts(transaction: Transaction, run_id: int, folder: Path) -> None:
    """Give a run a checkpoint that it made, and training data of its first phase."""
    store = FolderArtifactStore(folder / "artifacts")
    model, data = folder / "model", folder / "data"
    (model / "deeper").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "deeper" / "weights.bin").write_bytes(WEIGHTS)
    made = store.put(model, "checkpoints", {"phase": "policy-1"})
    add = partial(runs.add_checkpoint, transaction, run_id, kind="policy", uri=made.uri, digest=made.digest)
    add("policy-1", parent="base", num_bytes=made.num_bytes)
    data.mkdir()
    card = write_shards(iter(ROWS), VALUE_SCHEMA, {"sources": ["collect-1"]}, data)
    stored = store.put(data, "datasets", {})
    phase = runs.phases_of(transaction, run_id)[0]
    runs.add_dataset(transaction, phase.id, "train-value", stored.uri, stored.digest, card, stored.num_bytes)
