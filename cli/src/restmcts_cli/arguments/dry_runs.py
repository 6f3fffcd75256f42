"""The option that forecasts a run instead of storing it."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import DATABASE_FILE, Connection, connect
from restmcts_cli.arguments.plugin_files import check_folder
from restmcts_cli.reports.shown_tables import console, print_json, print_note

if TYPE_CHECKING:
    from collections.abc import Callable

    from restmcts.adapters.sql.rows import StoredRun
    from restmcts.domain.runs.spec import RunSpec
    from restmcts.reporting.forecasts import RunForecast
    from restmcts.usecases.create import Extension

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Store nothing, and forecast tokens, requests, time, disk and memory: from runs of the same policy that "
        "are done, else, in this process, from a probe of some seconds that really does a little of it.",
    ),
]


DryRunOfRest = Annotated[bool, typer.Option("--dry-run", help="Change nothing, and forecast what is left of the run.")]


def show_forecast(spec: "RunSpec", workdir: Path | None, json: bool, name: str | None = None) -> None:
    """Print what a run will take, in the work folder or, without one, on the stack.

    Args:
        name: that a new run is to have.

    Raises:
        InputError: if a run has that name.
        RestMctsError: if a file, a model or the stack cannot be used, or a probe cannot do the run.
    """
    print_note("forecast: reading problems and models; nothing is stored")
    from restmcts_cli.experiments.run_forecast import local_forecast, stack_forecast

    if workdir is not None:
        if name is not None and (workdir / DATABASE_FILE).is_file():
            with connect(workdir) as connection:
                _check_new(name, connection)
        _show(local_forecast(spec, workdir), json)
        return
    with connect(None) as connection:
        if name is not None:
            _check_new(name, connection)
        _show(stack_forecast(spec, connection), json)


def show_rest(
    name: str,
    workdir: Path | None,
    json: bool,
    max_tokens: int | None = None,
    extended: "Callable[[StoredRun], Extension] | None" = None,
) -> None:
    """Print what is left of a stored run.

    Args:
        max_tokens: the budget that it is to have; None: its own.
        extended: returns what the run is to be with more iterations.

    Raises:
        RestMctsError: if there is no such run, the stack cannot be used, or a probe cannot do it.
    """
    print_note("forecast: reading the run; nothing is changed")
    from restmcts_cli.experiments.rest_forecast import rest_forecast

    if workdir is not None:
        check_folder(workdir)
    with connect(workdir) as connection:
        _show(rest_forecast(name, connection, max_tokens, extended), json)


def _check_new(name: str, connection: Connection) -> None:
    from restmcts.adapters.sql.state import runs

    with connection.database.transaction() as transaction:
        if runs.find_run(transaction, name) is None:
            return
    place = f" --workdir {quote(str(connection.workdir))}" if connection.workdir is not None else ""
    raise InputError(
        f"a run named {name!r} exists already: choose another name; "
        f"`restmcts runs resume {quote(name)}{place} --dry-run` forecasts what is left of it"
    )


def _show(found: "RunForecast", json: bool) -> None:
    from restmcts.reporting.forecasts import document, render

    if json:
        print_json(document(found))
    else:
        console().print(render(found))
