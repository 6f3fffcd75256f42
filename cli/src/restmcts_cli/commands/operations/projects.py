"""`restmcts projects`: teams that share a stack, what each may use of it, and their tokens."""

import os
from dataclasses import asdict
from getpass import getuser
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.access import Role

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from restmcts.adapters.sql.database import Transaction
    from restmcts.adapters.sql.project_rows import StoredProject, StoredToken

QUOTAS = ("max_tokens", "max_trees_in_flight", "max_bytes")

app = typer.Typer(help="Share a stack among teams: quotas, tokens, and who did what.", no_args_is_help=True)
token_app = typer.Typer(help="Add, list and revoke the tokens of a project.", no_args_is_help=True)
app.add_typer(token_app, name="token")

Name = Annotated[str, typer.Argument(help="The project's name.", metavar="PROJECT")]
TokenName = Annotated[str, typer.Argument(help="The token's name: who, or what, uses it.", metavar="NAME")]


@app.command()
def create(name: Name, workdir: Workdir = None, json: Json = False) -> None:
    """Add a project; [bold]projects quota[/bold] limits what its runs may use.

    Example: [bold]restmcts projects create algebra[/bold]
    """
    from restmcts.adapters.sql.state import projects

    with connect(workdir, create=True) as connection, connection.database.transaction() as transaction:
        project_id = projects.create_project(transaction, name)
        projects.record(transaction, "project.create", name, actor=_operator(), project_id=project_id)
        place = transaction.place
    if json:
        print_json({"project": name, "id": project_id})
    else:
        print_note(f"project {name} is created; a token for it: restmcts projects token add {quote(name)} NAME{place}")


@app.command("list")
def list_(workdir: Workdir = None, json: Json = False) -> None:
    """List projects with what they use of their quotas.

    Example: [bold]restmcts projects list[/bold]
    """
    from restmcts.adapters.sql.state import projects

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        rows = [_described(transaction, project) for project in projects.list_projects(transaction)]
    if json:
        print_json(rows)
    else:
        columns = ("name", "created_at", "tokens", "trees_in_flight", "bytes", "num_runs")
        print_table(columns, [_in_words(row) for row in rows], empty="no projects")


@app.command()
def show(name: Name, workdir: Workdir = None, json: Json = False) -> None:
    """Show a project: its quotas and what is used of them, its runs and its tokens.

    Example: [bold]restmcts projects show algebra[/bold]
    """
    from restmcts_cli.remote import client
    from restmcts_cli.remote import projects as remote

    api = client.over_http(workdir)
    found, runs, tokens = remote.shown(api, name) if api is not None else _shown(workdir, name)
    if json:
        print_json({**found, "runs": runs, "api_tokens": tokens})
        return
    print_fields({**_in_words(found), "their names": ", ".join(runs) or None})
    if tokens is not None:
        _print_tokens(tokens)


def _shown(workdir: Path | None, name: str) -> "tuple[Mapping[str, object], list[str], list[StoredToken] | None]":
    from restmcts.adapters.sql.state import projects

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        project = projects.project_named(transaction, name)
        runs, tokens = sorted(projects.runs_of(transaction, project.id)), projects.tokens_of(transaction, name)
        return _described(transaction, project), runs, tokens


@app.command()
def quota(
    name: Name,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens that its runs may generate in all; 0: any number.", min=0)
    ] = None,
    max_trees_in_flight: Annotated[
        int | None, typer.Option(help="Trees of its runs that may search at the same time; 0: any number.", min=0)
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(help="Bytes that its checkpoints and data may take in the store; 0: any.", min=0)
    ] = None,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Limit what the runs of a project may use; what is not given stays as it is.

    Example: [bold]restmcts projects quota algebra --max-tokens 5000000[/bold]
    """
    from restmcts.adapters.sql.state import projects

    given = {"max_tokens": max_tokens, "max_trees_in_flight": max_trees_in_flight, "max_bytes": max_bytes}
    changed = {quota: number for quota, number in given.items() if number is not None}
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        project = projects.project_named(transaction, name)
        projects.set_quotas(transaction, name, **changed)
        if changed:
            projects.record(
                transaction, "project.quota", name, actor=_operator(), project_id=project.id, detail=changed
            )
        found = _described(transaction, projects.project_named(transaction, name))
    if json:
        print_json(found)
    else:
        print_fields(_in_words(found))


@app.command()
def audit(
    name: Annotated[str | None, typer.Argument(help="The project's name; without: all projects.")] = None,
    limit: Annotated[int, typer.Option(help="How many changes are listed, the newest first.", min=1)] = 100,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """List who changed what, by their tokens or as operators.

    Example: [bold]restmcts projects audit algebra[/bold]
    """
    from restmcts.adapters.sql.state import projects

    from restmcts_cli.remote import client
    from restmcts_cli.remote import projects as remote

    if (api := client.over_http(workdir)) is not None:
        rows = remote.audit(api, name, limit)
    else:
        with connect(workdir) as connection, connection.database.transaction() as transaction:
            rows = projects.audit(transaction, name, limit)
    if json:
        print_json(rows)
    else:
        columns = ("at", "project", "actor", "action", "subject", "detail")
        print_table(columns, [asdict(row) | {"detail": row.detail or None} for row in rows], empty="no changes")


@token_app.command("add")
def add_token(
    name: Name,
    token: TokenName,
    role: Annotated[
        Role,
        typer.Option(help="What its owner may do: read runs; create and steer them too; manage tokens as well."),
    ] = Role.RUN,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Add a token to a project and print its secret, which is shown this once.

    Example: [bold]restmcts projects token add algebra ada --role run[/bold]
    """
    from restmcts.adapters.sql.state import projects

    from restmcts_cli.remote import client
    from restmcts_cli.remote import projects as remote

    if (api := client.over_http(workdir)) is not None:
        secret = remote.issue_token(api, name, token, role)
    else:
        with connect(workdir) as connection, connection.database.transaction() as transaction:
            secret = projects.issue_token(transaction, name, token, role)
            _record_token(transaction, "token.add", name, token, {"role": role.value})
    if json:
        print_json({"project": name, "token": token, "role": role.value, "secret": secret})
        return
    print_note(f"token {token} of project {name} may {role.value}; its secret is shown this once:")
    typer.echo(secret)


@token_app.command("list")
def list_tokens(name: Name, workdir: Workdir = None, json: Json = False) -> None:
    """List the tokens of a project, revoked ones among them.

    Example: [bold]restmcts projects token list algebra[/bold]
    """
    from restmcts.adapters.sql.state import projects

    from restmcts_cli.remote import client
    from restmcts_cli.remote import projects as remote

    if (api := client.over_http(workdir)) is not None:
        rows = remote.tokens_of(api, name)
    else:
        with connect(workdir) as connection, connection.database.transaction() as transaction:
            rows = projects.tokens_of(transaction, name)
    if json:
        print_json(rows)
    else:
        _print_tokens(rows)


@token_app.command("revoke")
def revoke_token(name: Name, token: TokenName, workdir: Workdir = None, json: Json = False) -> None:
    """Revoke a token at once; its name stays in the audit and cannot be used again.

    Example: [bold]restmcts projects token revoke algebra ada[/bold]
    """
    from restmcts.adapters.sql.state import projects

    from restmcts_cli.remote import client
    from restmcts_cli.remote import projects as remote

    if (api := client.over_http(workdir)) is not None:
        remote.revoke_token(api, name, token)
    else:
        with connect(workdir) as connection, connection.database.transaction() as transaction:
            projects.revoke_token(transaction, name, token)
            _record_token(transaction, "token.revoke", name, token, {})
    if json:
        print_json({"project": name, "token": token, "revoked": True})
    else:
        print_note(f"token {token} of project {name} is revoked")


def _record_token(transaction: "Transaction", action: str, project: str, token: str, detail: dict[str, object]) -> None:
    from restmcts.adapters.sql.state import projects

    project_id = projects.project_named(transaction, project).id
    projects.record(transaction, action, token, actor=_operator(), project_id=project_id, detail=detail)


def _operator() -> str:
    """Return who gives the command, as this machine knows them."""
    try:
        return f"operator {getuser()}"
    except (KeyError, OSError):  # containers have users without a name
        return f"operator {os.getuid()}"


def _described(transaction: "Transaction", project: "StoredProject") -> dict[str, object]:
    from restmcts.adapters.sql.state import projects

    used = asdict(projects.usage(transaction, project.id))
    return {"name": project.name, "created_at": project.created_at, **used} | {
        quota: getattr(project, quota) for quota in QUOTAS
    }


def _in_words(found: "Mapping[str, object]") -> dict[str, object]:
    """Return what is used of each quota, and the quota where there is one."""
    used = {"tokens": "max_tokens", "trees_in_flight": "max_trees_in_flight", "num_bytes": "max_bytes"}
    shown = {
        name.removeprefix("num_"): f"{found[name]:,}" if found[quota] is None else f"{found[name]:,}/{found[quota]:,}"
        for name, quota in used.items()
    }
    return {"name": found["name"], "created_at": found["created_at"], **shown, "num_runs": found["num_runs"]}


def _print_tokens(tokens: "Sequence[StoredToken]") -> None:
    rows = [asdict(token) | {"token": token.name} for token in tokens]
    print_table(("token", "role", "created_at", "revoked_at"), rows, empty="no tokens")
