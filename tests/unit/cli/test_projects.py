"""Projects by the command line: made, limited, given tokens, and audited."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import projects
from restmcts.errors import InputError, NotFoundError
from restmcts_cli.main import app
from typer.main import get_command
from typer.testing import Result

Shown = Callable[..., str]
Document = Callable[..., Any]
Command = Callable[..., Result]


@pytest.fixture
def team(workdir: Path, shown: Shown) -> Path:
    """A work folder with a project named "team"."""
    shown("projects", "create", "team", "--workdir", workdir)
    return workdir


def test_a_project_is_limited_and_shown(team: Path, document: Document, shown: Shown) -> None:
    quotas = ("--max-tokens", 5000, "--max-trees-in-flight", 3)
    limited = document("projects", "quota", "team", *quotas, "--workdir", team)
    assert (limited["max_tokens"], limited["max_trees_in_flight"], limited["max_bytes"]) == (5000, 3, None)
    assert (limited["tokens"], limited["num_runs"]) == (0, 0)
    lifted = document("projects", "quota", "team", "--max-tokens", 0, "--workdir", team)
    assert (lifted["max_tokens"], lifted["max_trees_in_flight"]) == (None, 3)
    assert document("projects", "list", "--workdir", team) == [lifted]
    assert document("projects", "show", "team", "--workdir", team) == {**lifted, "runs": [], "api_tokens": []}
    for listed in (shown("projects", "list", "--workdir", team), shown("projects", "show", "team", "--workdir", team)):
        assert "team" in listed and "0/3" in listed


def test_a_token_is_added_used_and_revoked(team: Path, document: Document, shown: Shown, call: Command) -> None:
    added = document("projects", "token", "add", "team", "ada", "--role", "admin", "--workdir", team)
    secret = shown("projects", "token", "add", "team", "bob", "--workdir", team).strip()
    database = Database(f"sqlite:///{team / 'run.db'}")
    with database.transaction() as transaction:
        callers = [projects.caller_of(transaction, one) for one in (added["secret"], secret)]
    database.close()
    assert [(caller.token, caller.role) for caller in callers if caller] == [("ada", "admin"), ("bob", "run")]
    shown("projects", "token", "revoke", "team", "ada", "--workdir", team)
    tokens = document("projects", "token", "list", "team", "--workdir", team)
    assert [(one["name"], one["role"], one["revoked_at"] is None) for one in tokens] == [
        ("ada", "admin", False),
        ("bob", "run", True),
    ]
    assert secret not in shown("projects", "show", "team", "--workdir", team)
    revoked_again = call("projects", "token", "revoke", "team", "ada", "--workdir", team)
    assert isinstance(revoked_again.exception, NotFoundError) and "it has bob" in str(revoked_again.exception)


def test_the_audit_says_what_operators_did(team: Path, document: Document, shown: Shown) -> None:
    shown("projects", "quota", "team", "--max-bytes", 7, "--workdir", team)
    shown("projects", "quota", "team", "--workdir", team)
    shown("projects", "token", "add", "team", "ada", "--role", "read", "--workdir", team)
    shown("projects", "token", "revoke", "team", "ada", "--workdir", team)
    rows = document("projects", "audit", "team", "--workdir", team)
    assert [(row["action"], row["subject"], row["detail"]) for row in rows] == [
        ("token.revoke", "ada", {}),
        ("token.add", "ada", {"role": "read"}),
        ("project.quota", "team", {"max_bytes": 7}),
        ("project.create", "team", {}),
    ]
    assert all(row["actor"].startswith("operator ") for row in rows)
    assert document("projects", "audit", "--limit", 1, "--workdir", team) == rows[:1]
    assert "project.quota" in shown("projects", "audit", "--workdir", team)


def test_a_run_is_created_under_the_quotas_of_a_project(
    team: Path, document: Document, shown: Shown, call: Command
) -> None:
    shown("projects", "quota", "team", "--max-tokens", 1000, "--workdir", team)
    made = ("--demo", "--quick", "--project", "team", "--workdir", team)
    shown("runs", "create", "first", *made, "--max-tokens", 700)
    refused = call("runs", "create", "second", *made, "--max-tokens", 400)
    assert isinstance(refused.exception, InputError) and "has 300 of 1,000 tokens left" in str(refused.exception)
    shown("runs", "create", "rest", *made)
    found = document("projects", "show", "team", "--workdir", team)
    assert (found["runs"], found["tokens"]) == (["first", "rest"], 1000)
    unknown = call("runs", "create", "third", "--demo", "--quick", "--project", "other", "--workdir", team)
    assert isinstance(unknown.exception, NotFoundError) and "there are team" in str(unknown.exception)


def test_every_command_has_help_with_an_example() -> None:
    group = get_command(app).commands["projects"]  # type: ignore[attr-defined]
    commands = {f"{name} ": command for name, command in group.commands.items() if name != "token"}
    commands |= {f"token {name} ": command for name, command in group.commands["token"].commands.items()}
    assert len(commands) == 8
    for name, command in commands.items():
        assert f"restmcts projects {name}" in f"{command.help} ".replace("[/bold]", " "), name


def test_an_unknown_command_of_a_group_below_is_answered_with_those_that_there_are(call: Command) -> None:
    error = call("projects", "token", "drop").exception
    assert str(error).endswith(" projects token has no command 'drop'; it has add, list, revoke")
