"""Routes of a caller's project: its quotas, its tokens, and who did what."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from restmcts.adapters.sql.project_rows import StoredAudit, StoredToken
from restmcts.adapters.sql.state import projects
from restmcts.usecases.requested.answers import ProjectDocument, Quotas, SecretDocument

from restmcts_dashboard.api.access import Admin, Reader
from restmcts_dashboard.api.answers import answer
from restmcts_dashboard.api.bodies import MAX_LISTED, NewToken, check_name_in_address

routes = APIRouter(tags=["project"])


@routes.get("/project", response_model=ProjectDocument)
def show_project(visit: Reader) -> Response:
    """Show the project, its quotas and what counts against them, and what the token may do."""
    caller = visit.caller
    with visit.reading() as transaction:
        found = projects.project_named(transaction, caller.project)
        used = projects.usage(transaction, caller.project_id)
    quotas = Quotas(found.max_tokens, found.max_trees_in_flight, found.max_bytes)
    return answer(ProjectDocument(found.name, found.created_at, caller.token, caller.role, quotas, used))


@routes.get("/tokens", response_model=list[StoredToken])
def list_tokens(visit: Admin) -> Response:
    """List the project's tokens, revoked ones too; no secret is stored."""
    with visit.reading() as transaction:
        return answer(projects.tokens_of(transaction, visit.caller.project))


@routes.post("/tokens", response_model=SecretDocument, status_code=201)
def add_token(visit: Admin, new: NewToken) -> Response:
    """Issue a token; the answer holds its secret, which is never shown again."""
    check_name_in_address(new.name)
    with visit.changing("token.add", new.name, {"role": new.role.value}) as transaction:
        secret = projects.issue_token(transaction, visit.caller.project, new.name, new.role)
    return answer(SecretDocument(new.name, new.role, secret), 201)


@routes.delete("/tokens/{name}", status_code=204)
def revoke_token(visit: Admin, name: str) -> Response:
    """Revoke a token: its secret opens nothing from now on."""
    with visit.changing("token.revoke", name) as transaction:
        projects.revoke_token(transaction, visit.caller.project, name)
    return Response(status_code=204)


@routes.get("/audit", response_model=list[StoredAudit])
def list_audit(visit: Admin, limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100) -> Response:
    """List who changed what in the project, the latest first."""
    with visit.reading() as transaction:
        return answer(projects.audit(transaction, visit.caller.project, limit))
