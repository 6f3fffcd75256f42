"""A project over HTTP, by its own tokens: shown, audited, and its tokens administered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import projects
from restmcts.domain.access import Role
from restmcts.errors import InputError, NotFoundError
from typer.testing import Result

Command = Callable[..., Result]
Shown = Callable[..., str]
Document = Callable[..., Any]


@pytest.fixture
def admin(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The database of a stack that this process administers a project of over HTTP alone."""
    with database.transaction() as transaction:
        secret = projects.issue_token(transaction, "physics", "root", Role.ADMIN)
    monkeypatch.setenv("RESTMCTS_API_TOKEN", secret)
    return database


def test_a_project_is_shown_and_audited_as_with_the_database(
    admin: Database, workdir: Path, document: Document, shown: Shown
) -> None:
    local = ("--workdir", workdir)
    document("runs", "tag", "mine", "paper")
    for command in (("show", "physics"), ("audit", "physics"), ("token", "list", "physics")):
        assert document("projects", *command) == document("projects", *command, *local), command
        assert shown("projects", *command) == shown("projects", *command, *local), command
    assert document("projects", "audit", "--limit", 1) == document("projects", "audit", "physics", "--limit", 1)
    assert document("projects", "show", "physics")["runs"] == ["mine"]


def test_tokens_are_added_and_revoked(admin: Database, document: Document, shown: Shown, call: Command) -> None:
    added = document("projects", "token", "add", "physics", "bob", "--role", "read")
    assert added == {"project": "physics", "token": "bob", "role": "read", "secret": added["secret"]}
    eve = shown("projects", "token", "add", "physics", "eve").strip()
    with admin.transaction() as transaction:
        callers = [projects.caller_of(transaction, secret) for secret in (added["secret"], eve)]
    assert [(caller.token, caller.role) for caller in callers if caller] == [("bob", "read"), ("eve", "run")]
    assert document("projects", "token", "revoke", "physics", "bob")["revoked"] is True
    again = call("projects", "token", "revoke", "physics", "bob").exception
    assert isinstance(again, NotFoundError) and "it has alice, root, eve" in str(again)
    assert "had a token named" in str(call("projects", "token", "add", "physics", "bob").exception)
    tokens = document("projects", "token", "list", "physics")
    assert [one["name"] for one in tokens if one["revoked_at"] is None] == ["alice", "root", "eve"]
    rows = document("projects", "audit")
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        ("root", "token.revoke", "bob"),
        ("root", "token.add", "eve"),
        ("root", "token.add", "bob"),
    ]


def test_a_token_reaches_its_own_project_alone(admin: Database, call: Command) -> None:
    for command in (
        ("show", "chemistry"),
        ("audit", "chemistry"),
        ("token", "list", "chemistry"),
        ("token", "add", "chemistry", "bob"),
        ("token", "revoke", "chemistry", "root"),
    ):
        refused = call("projects", *command)
        assert isinstance(refused.exception, InputError), refused.output
        assert "RESTMCTS_API_TOKEN is of project physics, and reaches no other" in str(refused.exception)


def test_who_may_not_administer_sees_the_project_without_its_tokens(
    database: Database, document: Document, shown: Shown, call: Command
) -> None:
    found = document("projects", "show", "physics")
    assert found["api_tokens"] is None and found["num_runs"] == 1
    assert "mine" in shown("projects", "show", "physics") and "alice" not in shown("projects", "show", "physics")
    refused = call("projects", "token", "list", "physics")
    assert str(refused.exception) == "token alice may run; this needs one that may admin"
