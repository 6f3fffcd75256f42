"""A dashboard with two projects, asked over HTTP by tokens of both."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import projects
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.domain.access import Role
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from sqlalchemy import select, update
from starlette.testclient import TestClient

PROBLEMS = [{"question": f"What is {number} + 1?", "answer": number + 1} for number in range(30)]
SEARCHED = "searched"
"""A run of the project physics that has trees."""


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
    source = Source(Database(f"sqlite:///{path}", read_only=True), "a test", writable=database, serves_api=True)
    return Projects(TestClient(create_app(source), base_url="http://localhost"), database, secrets)
