"""A PostgreSQL role for each service, with only the rights that its handlers need.

    python -m restmcts.adapters.sql.roles

migrates the database at RESTMCTS_DATABASE_URL, makes the roles, and leaves each service's own URL
below RESTMCTS_SECRETS_DIR, as a file that Settings reads. Run again, it restores rights and changes
no password that was given out. RESTMCTS_DATABASE_USER and RESTMCTS_DATABASE_PASSWORD, where they
are set, are the URL's user and password as they are, whatever signs are in them.

Whoever searches or proposes cannot read true answers and given solutions: PostgreSQL holds what the
design promises (no answer leakage).
"""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from restmcts.adapters.sql.migrate import LOCK_KEY, upgrade
from restmcts.adapters.sql.tables import ProblemRow
from restmcts.errors import InputError, RestMctsError, StorageError
from restmcts.settings import load_dashboard_settings, secrets_folder

FILE = "restmcts_database_url"
ANSWERS = frozenset({"answer", "solution"})
"""Columns of problems that only those see who label, derive and report."""

WITHOUT_ANSWERS = frozenset({"tree-search", "policy-generator"})
"""The prm-scorer also evaluates new value models, on labelled trees with their problems."""

_EVERYTHING = "INSERT, UPDATE, DELETE"
_WORKER = {
    "workers": _EVERYTHING,
    "outbox": _EVERYTHING,
    "dead_letters": "INSERT, UPDATE",
    "blocks": _EVERYTHING,
}
RIGHTS: dict[str, Mapping[str, str]] = {
    "coordinator": {
        **_WORKER,
        "runs": "UPDATE",
        "phases": "UPDATE",
        "problems": "INSERT",
        "trees": "INSERT, UPDATE",
        "requests": "UPDATE, DELETE",
        "promotions": "INSERT",
        "token_counts": "INSERT, DELETE",
        "projects": "UPDATE",
    },
    "tree-search": {
        **_WORKER,
        "runs": "UPDATE",
        "trees": "UPDATE",
        "nodes": "INSERT, UPDATE",
        "requests": _EVERYTHING,
        "token_counts": "INSERT, DELETE",
    },
    "policy-generator": {**_WORKER, "requests": "UPDATE"},
    "prm-scorer": {
        **_WORKER,
        "runs": "UPDATE",
        "phases": "UPDATE",
        "requests": "UPDATE",
        "promotions": "INSERT",
    },
    "value-labeler": {
        **_WORKER,
        "requests": "UPDATE",
        "runs": "UPDATE",
        "phases": "UPDATE",
        "trees": "UPDATE",
        "nodes": "INSERT, UPDATE",
        "truth_ledger": "INSERT, DELETE",
        "datasets": "INSERT",
    },
    "trainer": {**_WORKER, "runs": "UPDATE", "phases": "UPDATE", "checkpoints": "INSERT", "promotions": "INSERT"},
    "dashboard": {},
    "cli": {},
}
"""What each service writes, by table; all read every table, but for `WITHOUT_ANSWERS`."""

RETRYING = {
    "runs": "UPDATE",
    "phases": "UPDATE",
    "trees": "UPDATE, DELETE",
    "nodes": "DELETE",
    "requests": "DELETE",
    "outbox": "INSERT, DELETE",
    "dead_letters": "DELETE",
    "annotations": "INSERT, DELETE",
}
"""What a dashboard also writes whose token lets people retry what failed, and annotate trees."""

SERVING = {
    "runs": "INSERT, UPDATE",
    "phases": "INSERT",
    "problems": "INSERT",
    "checkpoints": "INSERT",
    "requests": "UPDATE, DELETE",
    "blocks": "UPDATE, DELETE",
    "token_counts": "INSERT, DELETE",
    "outbox": "INSERT, DELETE",
    "projects": "UPDATE",
    "api_tokens": "INSERT, UPDATE",
    "audit": "INSERT",
}
"""What a dashboard also writes that serves the HTTP API to projects."""


def set_up(
    url: str, folder: Path, *, dashboard_retries: bool = False, dashboard_serves: bool = False
) -> dict[str, str]:
    """Make the roles and their files; return each service's URL.

    Raises:
        StorageError: if the database cannot be reached, or its user may not make roles.
    """
    urls = {service: _url_of(url, service, folder / service / FILE) for service in RIGHTS}
    dashboard = ([RETRYING] if dashboard_retries else []) + ([SERVING] if dashboard_serves else [])
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            for service, own in urls.items():
                written = dashboard if service == "dashboard" else [RIGHTS[service]]
                for statement in _statements(connection, service, own, written):
                    connection.execute(text(statement))
    except (OperationalError, ProgrammingError) as error:
        raise StorageError(f"database roles: {str(error.orig).strip().splitlines()[0]}") from error
    finally:
        engine.dispose()
    for service, own in urls.items():
        _write(folder / service / FILE, own)
    return urls


def role_of(service: str) -> str:
    """Return the name of a service's role."""
    return f"restmcts_{service.replace('-', '_')}"


def _url_of(url: str, service: str, file: Path) -> str:
    known = make_url(file.read_text()).password if file.is_file() else None
    own = make_url(url).set(username=role_of(service), password=known or secrets.token_hex(20))
    return own.render_as_string(hide_password=False)


def _statements(connection: Connection, service: str, url: str, written: Sequence[Mapping[str, str]]) -> Iterator[str]:
    role, password = role_of(service), str(make_url(url).password)
    quoted = password.replace("'", "''").replace(":", "\\:")  # a colon would begin a parameter
    known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first()
    yield f"{'ALTER' if known else 'CREATE'} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{quoted}'"
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
    yield f"GRANT USAGE ON SCHEMA public TO {role}"
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    if service in WITHOUT_ANSWERS:
        columns = ", ".join(name for name in ProblemRow.model_fields if name not in ANSWERS)
        yield f"REVOKE SELECT ON problems FROM {role}"
        yield f"GRANT SELECT ({columns}) ON problems TO {role}"
    if service == "cli":
        yield f"GRANT {_EVERYTHING} ON ALL TABLES IN SCHEMA public TO {role}"
    if written:
        yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"
    for table, rights in (one for tables in written for one in tables.items()):
        yield f"GRANT {rights} ON {table} TO {role}"


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.touch(mode=0o640)
    # the command line runs as the person who calls it, in the group of all services
    partial.chmod(0o640)
    partial.write_text(content)
    partial.replace(path)


def _owner_url() -> str:
    written = os.environ.get("RESTMCTS_DATABASE_URL")
    if not written:
        raise InputError("RESTMCTS_DATABASE_URL is not set: it says which database to prepare")
    try:
        url = make_url(written)
    except (ArgumentError, ValueError):
        raise InputError(
            "RESTMCTS_DATABASE_URL is no URL of a database; write its user's password apart, as "
            "RESTMCTS_DATABASE_PASSWORD"
        ) from None
    user, password = (os.environ.get(f"RESTMCTS_DATABASE_{part}") or None for part in ("USER", "PASSWORD"))
    return url.set(username=user, password=password).render_as_string(hide_password=False)


def main() -> None:
    """Migrate, then make the roles; end with 1 or 2 and one line if it cannot be done."""
    try:
        url = _owner_url()
        upgrade(url)
        dashboard = load_dashboard_settings()
        set_up(
            url,
            secrets_folder(),
            dashboard_retries=bool(dashboard.dashboard_token.get_secret_value()),
            dashboard_serves=dashboard.api_enabled,
        )
    except RestMctsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
