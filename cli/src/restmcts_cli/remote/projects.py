"""A project over HTTP: a token reaches its own alone, so that whoever names one names that."""

from collections.abc import Mapping
from dataclasses import asdict

from restmcts.adapters.sql.project_rows import StoredAudit, StoredToken
from restmcts.adapters.sql.rows import ListedRun
from restmcts.domain.access import Role
from restmcts.errors import InputError
from restmcts.usecases.requested.answers import ProjectDocument, SecretDocument

from restmcts_cli.remote.client import Api


def named(api: Api, name: str) -> ProjectDocument:
    """Return the project of the token.

    Raises:
        InputError: if it has another name.
    """
    found = api.get(ProjectDocument, "project")
    if found.project != name:
        raise InputError(
            f"RESTMCTS_API_TOKEN is of project {found.project}, and reaches no other over HTTP: name {found.project}, or set "
            f"a token of {name}"
        )
    return found


def described(found: ProjectDocument) -> dict[str, object]:
    """Return a project as it is shown where there is a database."""
    return {"name": found.project, "created_at": found.created_at, **asdict(found.usage), **asdict(found.quotas)}


def shown(api: Api, name: str) -> tuple[Mapping[str, object], list[str], list[StoredToken] | None]:
    """Return a project, the names of its runs, and its tokens; None where the token may not list
    them.
    """
    found = named(api, name)
    run_names = sorted(run.name for run in api.get(list[ListedRun], "runs"))
    tokens = api.get(list[StoredToken], "tokens") if found.role.allows(Role.ADMIN) else None
    return described(found), run_names, tokens


def audit(api: Api, name: str | None, limit: int) -> list[StoredAudit]:
    """Return the last changes in the project, the newest first."""
    if name is not None:
        named(api, name)
    return api.get(list[StoredAudit], "audit", limit=limit)


def issue_token(api: Api, name: str, token: str, role: Role) -> str:
    """Add a token to the project; return its secret."""
    named(api, name)
    return api.post(SecretDocument, "tokens", body={"name": token, "role": role.value}).secret


def tokens_of(api: Api, name: str) -> list[StoredToken]:
    """Return the tokens of the project, revoked ones among them."""
    named(api, name)
    return api.get(list[StoredToken], "tokens")


def revoke_token(api: Api, name: str, token: str) -> None:
    """Let a token of the project be of no use from now on."""
    named(api, name)
    api.delete("tokens", token)
