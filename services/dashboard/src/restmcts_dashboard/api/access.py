"""Who asks, by the secret of a token, and what is theirs: a project's callers see the runs of that
project alone, and everything that they change is recorded in the transaction that changes it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from restmcts.adapters.observability.this_process import note_call
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import JsonObject, StoredRun
from restmcts.adapters.sql.state import projects, runs
from restmcts.domain.access import Caller, Role
from restmcts.domain.text import check_name
from restmcts.errors import InputError, NotFoundError

from restmcts_dashboard.source import Source

NO_TOKEN = "give the secret of a token that is not revoked: Authorization: Bearer SECRET"
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a caller whose role allows it."""

    source: Source
    caller: Caller

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Yield a transaction that reads."""
        with self.source.database.transaction() as transaction:
            yield transaction

    @contextmanager
    def changing(self, action: str, subject: str, detail: JsonObject | None = None) -> Iterator[Transaction]:
        """Yield a transaction that changes something, and record that in it; a run that it starts
        is recorded to come from the token.

        Raises:
            HTTPException: 409, if what is stored does not allow the change.
        """
        note_call(f"HTTP API, token {self.caller.token}")
        with _writable(self.source).transaction() as transaction:
            try:
                yield transaction
                projects.record(
                    transaction,
                    action,
                    subject,
                    actor=self.caller.token,
                    project_id=self.caller.project_id,
                    detail=detail or {},
                )
            except NotFoundError:
                raise
            except InputError as error:
                raise HTTPException(409, str(error)) from error

    def run(self, transaction: Transaction, name: str) -> StoredRun:
        """Return a run of the caller's project, with the state that people are shown.

        Raises:
            NotFoundError: if the project has no run of that name, whether or not another one has.
        """
        row = runs.find_run(transaction, name) if _is_name(name) else None
        if row is None or row.project_id != self.caller.project_id:
            raise NotFoundError(f"project {self.caller.project} has no run {name!r}")
        return queries.run_by_id(transaction, row.id)

    def lock_run(self, transaction: Transaction, name: str) -> None:
        """Lock a run of the caller's project: nobody deletes it until the transaction ends.

        Raises:
            NotFoundError: if the project has no run of that name.
        """
        if runs.lock_run(transaction, self.run(transaction, name).id) is None:
            raise NotFoundError(f"project {self.caller.project} has no run {name!r}")


def _is_name(name: str) -> bool:
    try:
        check_name(name, "run")
    except InputError:
        return False
    return True


def _writable(source: Source) -> Database:
    if source.writable is None:
        raise HTTPException(403, "this server only reads")
    return source.writable


def needs(role: Role) -> Callable[..., Visit]:
    """Return the dependency of a route that callers of a role, or a larger one, may ask."""

    def visit(request: Request, credentials: _Credentials) -> Visit:
        source: Source = request.app.state.source
        secret = credentials.credentials if credentials is not None else ""
        with source.database.transaction() as transaction:
            caller = projects.caller_of(transaction, secret) if secret else None
        if caller is None:
            raise HTTPException(401, NO_TOKEN, _CHALLENGE)
        if not caller.role.allows(role):
            raise HTTPException(403, f"token {caller.token} may {caller.role}; this needs one that may {role}")
        return Visit(source, caller)

    return visit


Reader = Annotated[Visit, Depends(needs(Role.READ))]
Runner = Annotated[Visit, Depends(needs(Role.RUN))]
Admin = Annotated[Visit, Depends(needs(Role.ADMIN))]
