"""The HTTP API: who may ask what, what is answered as its document says, and that strangers see
nothing.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.domain.access import Role
from restmcts_dashboard.api import artifact_routes, project_routes, run_changes, run_routes, stored_run_routes
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from sqlalchemy import select
from starlette.testclient import TestClient

from tests.unit.dashboard.api_project import PROBLEMS, SEARCHED, Projects, two_projects

NEW = {"name": "new", "spec": {"policy": "number-paths"}, "problems": PROBLEMS}
ROUTES: list[tuple[str, str, Any, Role]] = [
    ("GET", "/project", None, Role.READ),
    ("GET", "/runs", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/spec", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/problems", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/trees?limit=3", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/trees/1", None, Role.READ),
    ("GET", "/trees/1", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/checkpoints", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/checkpoints/policy-1", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/checkpoints/policy-1/files", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/checkpoints/policy-1/files/config.json", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/datasets", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/datasets/collect-1", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/datasets/collect-1/rows?limit=2", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/datasets/collect-1/files", None, Role.READ),
    ("GET", f"/runs/{SEARCHED}/datasets/collect-1/files/card.json", None, Role.READ),
    ("POST", "/runs", NEW, Role.RUN),
    ("POST", f"/runs/{SEARCHED}/problems", {"problems": PROBLEMS[:1]}, Role.RUN),
    ("POST", f"/runs/{SEARCHED}/pause", None, Role.RUN),
    ("POST", f"/runs/{SEARCHED}/resume", {"max_tokens": 5}, Role.RUN),
    ("POST", f"/runs/{SEARCHED}/cancel", None, Role.RUN),
    ("POST", f"/runs/{SEARCHED}/extend", {"iterations": 5}, Role.RUN),
    ("POST", f"/runs/{SEARCHED}/clone", {"name": "twin"}, Role.RUN),
    ("POST", f"/runs/{SEARCHED}/tags", {"tags": ["paper"]}, Role.RUN),
    ("GET", "/tokens", None, Role.ADMIN),
    ("POST", "/tokens", {"name": "more", "role": "read"}, Role.ADMIN),
    ("DELETE", "/tokens/more", None, Role.ADMIN),
    ("GET", "/audit?limit=5", None, Role.ADMIN),
]
OF_PROJECT = [route for route in ROUTES if SEARCHED in route[1] or route[1] == "/trees/1"]


@pytest.fixture(scope="module")
def shared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projects]:
    """Two projects whose rows no test changes."""
    path = tmp_path_factory.mktemp("api") / "run.db"
    shutil.copy(folder / "run.db", path)
    yield from opened(path)


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Iterator[Projects]:
    """Two projects of a test's own."""
    shutil.copy(folder / "run.db", tmp_path / "run.db")
    yield from opened(tmp_path / "run.db")


def opened(path: Path) -> Iterator[Projects]:
    found = two_projects(path)
    with found.client:
        yield found
    found.database.close()


def served_routes() -> list[APIRoute]:
    modules = (project_routes, run_routes, run_changes, stored_run_routes, artifact_routes)
    return [route for module in modules for route in module.routes.routes if isinstance(route, APIRoute)]


def pattern(path: str) -> str:
    return re.sub(r"\{\w+\}", "[^/?]+", path.replace("{file:path}", ".+")) + r"(\?.*)?"


def test_every_route_is_asked_here() -> None:
    for route in served_routes():
        (method,) = route.methods
        assert [one for one in ROUTES if one[0] == method and re.fullmatch(pattern(route.path), one[1])], route.path
    assert len(served_routes()) == len(ROUTES)


@pytest.mark.parametrize(("method", "path", "body", "needed"), ROUTES)
def test_a_route_is_answered_to_tokens_that_may_alone(
    shared: Projects, method: str, path: str, body: Any, needed: Role
) -> None:
    refusals = [shared.ask(who, method, path, body) for who in (None, "revoked", "rmp_unknown", "\x7f")]
    assert {status for status, _ in refusals} == {401}
    assert len({answer["reason"] for _, answer in refusals}) == 1
    for role in Role:
        if not role.allows(needed):
            status, answer = shared.ask(role.value, method, path, body)
            assert (status, answer["reason"]) == (
                403,
                f"token {role} may {role}; this needs one that may {needed}",
            )
    assert shared.actions() == []


@pytest.mark.parametrize(("method", "path", "body", "needed"), OF_PROJECT)
def test_runs_of_another_project_are_answered_as_runs_that_are_not_there(
    shared: Projects, method: str, path: str, body: Any, needed: Role
) -> None:
    status, answer = shared.ask("stranger", method, path, body)
    unknown = path.replace(SEARCHED, "nowhere").replace("/trees/1", "/trees/99999")
    assert status == 404
    assert shared.ask("stranger", method, unknown, body) == (
        404,
        {"reason": answer["reason"].replace(SEARCHED, "nowhere").replace("tree 1", "tree 99999")},
    )
    assert "physics" not in str(answer)


def test_lists_of_another_project_are_empty(shared: Projects) -> None:
    assert shared.ask("stranger", "GET", "/runs") == (200, [])
    assert [token["name"] for token in shared.ask("stranger", "GET", "/tokens")[1]] == ["stranger"]
    assert shared.ask("stranger", "GET", "/audit") == (200, [])
    assert shared.ask("stranger", "DELETE", "/tokens/read")[0] == 404


@pytest.mark.parametrize("route", [one for one in ROUTES if one[0] == "GET" and not re.search("/spec|/files/", one[1])])
def test_answers_are_what_the_document_says(shared: Projects, route: tuple[str, str, Any, Role]) -> None:
    method, path, _, _ = route
    found = next(one for one in served_routes() if one.methods == {method} and re.fullmatch(pattern(one.path), path))
    status, answer = shared.ask("admin", method, path)
    assert status == 200, answer
    read = TypeAdapter(found.response_model).validate_python(answer)
    assert TypeAdapter(found.response_model).dump_python(read, mode="json").__class__ is answer.__class__


def test_a_run_is_shown_with_its_phases_trees_and_checkpoints(shared: Projects) -> None:
    _, listed = shared.ask("read", "GET", "/runs")
    _, run = shared.ask("read", "GET", f"/runs/{SEARCHED}")
    assert [one["name"] for one in listed] == [run["run"]] == [SEARCHED]
    assert [phase["name"] for phase in run["phases"]] == ["collect-1", "collect-2"]
    assert run["trees"] == 8 and run["tokens"] > 0 and run["state"] == "done"
    _, first = shared.ask("read", "GET", f"/runs/{SEARCHED}/trees?phase=collect-2&limit=2")
    _, rest = shared.ask("read", "GET", f"/runs/{SEARCHED}/trees?phase=collect-2&after={first[-1]['id']}")
    assert [tree["id"] for tree in first + rest] == [5, 6, 7, 8]
    _, tree = shared.ask("read", "GET", "/trees/1")
    assert tree == shared.ask("read", "GET", f"/runs/{SEARCHED}/trees/1")[1]
    assert len(tree["nodes"]) == tree["num_nodes"] + 1 and tree["nodes"][1]["step"], "the root is none"
    assert shared.ask("read", "GET", f"/runs/{SEARCHED}/problems")[1][0]["num_problems"] == 4
    names = [one["name"] for one in shared.ask("read", "GET", f"/runs/{SEARCHED}/checkpoints")[1]]
    assert names == ["base", "value-0", "policy-1"]
    _, project = shared.ask("read", "GET", "/project")
    assert (project["project"], project["token"], project["role"]) == ("physics", "read", "read")
    assert project["usage"]["num_runs"] == 1


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (f"/runs/{SEARCHED}/trees?limit=0", 400, "limit is '0'; give at least 1"),
        (f"/runs/{SEARCHED}/trees?state=asleep", 400, "state cannot be read; give"),
        (f"/runs/{SEARCHED}/trees?phase=nope", 400, "has no phase 'nope'; it has collect-1"),
        (f"/runs/{SEARCHED}/trees?color=red", 400, "there is no parameter 'color' here"),
        (f"/runs/{SEARCHED}/trees?phase=%00", 400, "contains a NUL character"),
        (f"/runs/{SEARCHED}/trees?after=9999999999999999999", 400, "after is"),
        (f"/runs/{SEARCHED}/trees/one", 400, "tree_id is 'one'; give a whole number"),
        (f"/runs/{SEARCHED}/spec", 400, "has no run file"),
        ("/runs/%00", 404, "has no run"),
        ("/runs/%ed%a0%80", 404, "has no run"),
        ("/trees/99999999999999999999", 400, "tree_id"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_reason(shared: Projects, path: str, status: int, reason: str) -> None:
    found = shared.ask("admin", "GET", path)
    assert found[0] == status
    assert reason in found[1]["reason"]


def test_the_document_lists_every_route_and_asks_for_tokens(shared: Projects) -> None:
    found = shared.client.get("/api/v1/openapi.json")
    assert found.status_code == 200 and found.headers["cache-control"] == "no-store"
    document = found.json()
    assert document["openapi"].startswith("3.") and document["servers"] == [{"url": "/api/v1"}]
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {(next(iter(route.methods)), route.path_format) for route in served_routes()}
    for operation in operations.values():
        assert operation["security"] == [{"HTTPBearer": []}]
        assert operation["responses"].keys() in ({"200", "4XX"}, {"201", "4XX"}, {"204", "4XX"})
        assert operation["description"].endswith(".")
    for name in re.findall(r"#/components/schemas/([^'\"]+)", found.text):
        assert name in document["components"]["schemas"]


def test_a_dashboard_serves_no_api_unless_it_is_asked_to(shared: Projects) -> None:
    client = TestClient(create_app(Source(shared.database, "a test", writable=shared.database)))
    for path in ("/api/v1/openapi.json", "/api/v1/runs"):
        secret = {"Authorization": f"Bearer {shared.secrets['admin']}"}
        assert client.get(path, headers={"Host": "localhost", **secret}).status_code == 404


def test_pages_are_as_they_were_beside_the_api(shared: Projects) -> None:
    assert shared.client.get("/").status_code == 200
    assert shared.client.get("/", headers={"Host": "elsewhere"}).status_code == 400
    assert shared.client.post("/runs/1/archive").status_code == 403


def test_tokens_are_issued_used_and_revoked(made: Projects) -> None:
    status, issued = made.ask("admin", "POST", "/tokens", {"name": "bob", "role": "run"})
    assert status == 201 and issued["role"] == "run" and issued["secret"].startswith("rmp_")
    assert made.ask(issued["secret"], "POST", "/runs", NEW)[0] == 201
    assert made.ask("admin", "POST", "/tokens", {"name": "bob", "role": "run"})[0] == 409
    assert made.ask("admin", "POST", "/tokens", {"name": "eve", "role": "root"})[0] == 400
    for name in ("a/b", "..", " "):
        assert made.ask("admin", "POST", "/tokens", {"name": name, "role": "run"})[0] in (400, 409), "it could not go"
    assert made.ask("admin", "DELETE", "/tokens/bob") == (204, None)
    assert made.ask(issued["secret"], "GET", "/runs")[0] == 401
    assert made.ask("admin", "DELETE", "/tokens/bob")[0] == 404
    _, tokens = made.ask("admin", "GET", "/tokens")
    assert [(token["name"], token["revoked_at"] is None) for token in tokens] == [
        ("read", True),
        ("run", True),
        ("admin", True),
        ("revoked", False),
        ("bob", False),
    ]
    assert issued["secret"] not in str(tokens) + str(made.ask("admin", "GET", "/audit"))
    assert made.actions() == [
        ("admin", "token.add", "bob"),
        ("bob", "run.create", "new"),
        ("admin", "token.revoke", "bob"),
    ]
    _, audit = made.ask("admin", "GET", "/audit?limit=2")
    assert [row["action"] for row in audit] == ["token.revoke", "run.create"]


def test_a_run_without_a_project_is_nobodys(made: Projects) -> None:
    with made.database.transaction() as transaction:
        transaction.execute(RUNS.update().values(project_id=None))
        assert transaction.execute(select(RUNS.c.name)).scalar_one() == SEARCHED
    assert made.ask("admin", "GET", f"/runs/{SEARCHED}")[0] == 404
    assert made.ask("admin", "GET", "/trees/1")[0] == 404
    assert made.ask("admin", "GET", "/runs") == (200, [])
