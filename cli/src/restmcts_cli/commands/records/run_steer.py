"""`restmcts runs pause`, `resume` and `cancel`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.reporting.run_states import WAITING

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.arguments.dry_runs import DryRunOfRest, show_rest
from restmcts_cli.arguments.method_options import MaxTokens
from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.commands.records.run_list import note_waiting, state_of
from restmcts_cli.reports.shown_tables import Json, print_json, print_note

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Transaction

    from restmcts_cli.remote.runs import Steering

Name = Annotated[str, typer.Argument(help="The run's name.")]


def pause(name: Name, workdir: Workdir = None, json: Json = False) -> None:
    """Start nothing new in a run; a training that is in progress ends first.

    Example: [bold]restmcts runs pause demo[/bold]
    """
    from restmcts.usecases import steer

    _steer(workdir, name, "pause", steer.pause, json)


def resume(
    name: Name,
    max_tokens: MaxTokens = None,
    workdir: Workdir = None,
    plugin: Plugins = None,
    dry_run: DryRunOfRest = False,
    json: Json = False,
) -> None:
    """Resume a paused run; a run that has spent its token budget needs a larger one.

    With [bold]--dry-run[/bold] it says what any run, paused or not, has still to do.

    Example: [bold]restmcts runs resume demo --max-tokens 2000000[/bold]
    """
    if dry_run:
        show_rest(name, workdir, json, max_tokens)
        return
    from restmcts.usecases import steer

    _steer(workdir, name, "resume", partial(steer.resume, max_tokens=max_tokens), json, max_tokens)


def cancel(name: Name, workdir: Workdir = None, json: Json = False) -> None:
    """End a run permanently; its results are kept.

    Example: [bold]restmcts runs cancel demo[/bold]
    """
    from restmcts.usecases import steer

    _steer(workdir, name, "cancel", steer.cancel, json)


def _steer(
    workdir: Path | None,
    name: str,
    how: "Steering",
    change: "Callable[[Transaction, str], None]",
    json: bool,
    max_tokens: int | None = None,
) -> None:
    from restmcts_cli.remote import client
    from restmcts_cli.remote import runs as remote

    if (api := client.over_http(workdir)) is not None:
        remote.steer(api, name, how, json, max_tokens)
        return
    from restmcts.adapters.sql.reads import queries

    with connect(workdir) as connection:
        with connection.database.transaction() as transaction:
            change(transaction, name)
        with connection.database.transaction() as transaction:
            run = queries.run_named(transaction, name)
    if json:
        print_json({"run": name, "state": run.state})
        return
    shown = state_of(run, workdir)
    print_note(f"run {name} is {shown}")
    if shown == WAITING:
        note_waiting(workdir, [name])
