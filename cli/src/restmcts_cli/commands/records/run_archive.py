"""`restmcts runs archive` and `restmcts runs tag`: which runs a list shows, and by which words they
are found.
"""

from typing import Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.commands.records.run_store import archive_to_store
from restmcts_cli.reports.shown_tables import Json, print_json, print_note

Names = Annotated[list[str], typer.Argument(help="Names of runs.")]


def archive(
    names: Names,
    undo: Annotated[bool, typer.Option("--undo", help="Put them back into the lists.")] = False,
    to_store: Annotated[
        bool,
        typer.Option(
            "--to-store",
            help="Move the nodes and requests of their trees from the database to the store, as Parquet, in place of"
            " leaving the runs out of lists; lists what would be moved, and moves it with --yes. The runs have ended.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it, not only report what would move (--to-store).")] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Leave runs out of `runs list` and of the dashboard's list; nothing of them is deleted.

    A run that is in progress is paused or cancelled first.

    With --to-store the rows that take the most space move to the store: the runs stay in the
    lists with all their numbers, and only their trees cannot be opened until
    [bold]restmcts runs restore NAME[/bold] brings them back.

    Example: [bold]restmcts runs archive first second[/bold]
    """
    if to_store and undo:
        raise InputError("--to-store and --undo exclude each other; `restmcts runs restore NAME` brings trees back")
    if to_store:
        archive_to_store(names, yes, workdir, json)
        return
    from restmcts.usecases import steer

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        for name in names:
            steer.archive(transaction, name, archived=not undo)
    if json:
        print_json([{"run": name, "archived": not undo} for name in names])
        return
    place = connection.database.place
    is_now = "listed again" if undo else f"archived; `restmcts runs list --all{place}` lists it"
    for name in names:
        print_note(f"run {name} is {is_now}")


def tag(
    name: Annotated[str, typer.Argument(help="The run's name.")],
    tags: Annotated[list[str], typer.Argument(help="Words by which it is to be found.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take these tags away.")] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Tag a run; the dashboard's list shows tags and finds runs by them.

    Example: [bold]restmcts runs tag demo baseline paper[/bold]
    """
    from restmcts.usecases import steer

    from restmcts_cli.remote import client
    from restmcts_cli.remote import runs as remote

    if (api := client.over_http(workdir)) is not None:
        found = remote.tag(api, name, tags, removed=remove)
    else:
        with connect(workdir) as connection, connection.database.transaction() as transaction:
            found = steer.tag(transaction, name, tags, removed=remove)
    if json:
        print_json({"run": name, "tags": found})
    else:
        print_note(f"run {name} has {'the tags ' + ', '.join(found) if found else 'no tags'}")
