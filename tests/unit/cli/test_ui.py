"""`restmcts ui` of a work folder obeys the settings of dashboards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts_dashboard import serving
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from starlette.testclient import TestClient
from typer.testing import Result


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Source, str, int]]:
    """What the command would serve, and where."""
    found: list[tuple[Source, str, int]] = []
    monkeypatch.setattr(serving, "serve", lambda source, host, port, ready: found.append((source, host, port)))
    monkeypatch.setenv("RESTMCTS_ENV_FILE", "/dev/null")
    return found


def test_projects_of_a_work_folder_are_reached_over_http(
    workdir: Path, opened: list[Any], call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("projects", "create", "physics", "--workdir", workdir).exit_code == 0
    secret = call("projects", "token", "add", "physics", "ada", "--workdir", workdir).stdout.strip()
    monkeypatch.setenv("RESTMCTS_API_ENABLED", "true")
    assert call("ui", "--workdir", workdir).exit_code == 0
    with TestClient(create_app(opened[0][0]), base_url="http://localhost") as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        assert client.get("/api/v1/project").json()["project"] == "physics"
        new = {"name": "new", "spec": {"policy": "number-paths"}, "problems": [{"question": "1 + 1?", "answer": 2}]}
        assert client.post("/api/v1/runs", json=new).status_code == 201
        assert [run["name"] for run in client.get("/api/v1/runs").json()] == ["new"]


def test_without_the_setting_there_is_no_api(workdir: Path, opened: list[Any], call: Callable[..., Result]) -> None:
    assert call("ui", "--workdir", workdir).exit_code == 0
    source, host, port = opened[0]
    assert (source.serves_api, source.writable, host, port) == (False, None, "127.0.0.1", 8600)


def test_its_address_and_names_are_those_of_the_settings(
    workdir: Path, opened: list[Any], call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PORT": "8700", "HOST": "127.0.0.2", "NAMES": "restmcts.example.org"}.items():
        monkeypatch.setenv(f"RESTMCTS_DASHBOARD_{name}", value)
    assert call("ui", "--workdir", workdir).exit_code == 0
    source, host, port = opened[0]
    assert (host, port) == ("127.0.0.2", 8700)
    assert source.names == ("127.0.0.1", "localhost", "restmcts.example.org")
