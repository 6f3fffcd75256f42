"""Every command where there is an API and no database: it asks the API, or says that it cannot."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.errors import InputError, StorageError
from restmcts_cli.arguments.connection import OVER_HTTP
from restmcts_cli.main import app
from typer.main import get_command
from typer.testing import Result

Command = Callable[..., Result]
NOWHERE = "http://127.0.0.1:9"
MAKE_FOLDERS = {"probe", "compare"}
"""Their --workdir is where they work, alone."""

ARGUMENTS = {
    "runs create": ["new", "--policy", "number-paths"],
    "runs extend": ["1", "--iterations", "3"],
    "problems enqueue": ["1", "problems.jsonl"],
    "annotations import": ["problems.jsonl"],
    "checkpoints list": ["1"],
    "checkpoints push": ["1", "1", "some/one"],
    "prm bench": ["some/values", "--on", "1"],
    "prm calibrate": ["some/values", "--on", "1", "--out", "out"],
    "datasets list": ["1"],
    "datasets export": ["1", "1", "out", "--format", "verifiers"],
    "workers autoscale": ["policy-generator=0-4:64"],
    "dead-letters retry": ["--all"],
    "dead-letters drop": ["--all"],
}


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if below := getattr(command, "commands", None):
        for name in below:
            yield from commands(below[name], f"{path} {name}".strip())
    else:
        yield path, command


def reaches_a_stack(path: str, command: Any) -> bool:
    optional = {parameter.name for parameter in command.params if not parameter.required}
    return path == "workers autoscale" or ("workdir" in optional and path not in MAKE_FOLDERS)


@pytest.fixture
def answers(tmp_path: Path, call: Command, monkeypatch: pytest.MonkeyPatch) -> dict[str, Result]:
    """What each command that reaches a stack answers where nothing serves the API."""
    (tmp_path / "problems.jsonl").write_text('{"question": "1 + 1?", "answer": 2}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESTMCTS_ENV_FILE", "none")
    monkeypatch.delenv("RESTMCTS_DATABASE_URL", raising=False)
    monkeypatch.setenv("RESTMCTS_API_URL", NOWHERE)
    monkeypatch.setenv("RESTMCTS_API_TOKEN", "rmp_any")
    found = {}
    for path, command in commands(get_command(app)):
        if reaches_a_stack(path, command):
            needed = [parameter.name for parameter in command.params if parameter.required]
            found[path] = call(*path.split(), *ARGUMENTS.get(path, ["1"] * len(needed)))
    return found


def test_every_command_asks_the_api_or_says_that_it_is_not_available_over_http(answers: dict[str, Result]) -> None:
    over_http = {f"{group} {name}" for group, names in OVER_HTTP.items() for name in names.split(", ")}
    for path, result in answers.items():
        if path in over_http:
            expected, kind = f"{NOWHERE} does not answer", StorageError
        else:
            expected, kind = "this command is not available over HTTP", InputError
        if path == "doctor":
            assert result.exit_code == 1 and expected in result.output
            continue
        assert isinstance(result.exception, kind), (path, result.output, result.exception)
        assert expected in str(result.exception), (path, result.exception)
    assert over_http <= answers.keys() and len(answers) > 45
