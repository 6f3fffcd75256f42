"""`restmcts runs delete`: a run's rows, and the artifacts that only it names."""

from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted
from restmcts.errors import StorageError

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.usecases.storage import Deletion


def delete(
    name: Annotated[str, typer.Argument(help="The run's name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; if not given, only report what would be deleted.")] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Delete a run that has ended: its trees, problems and numbers, and the checkpoints and data
    that no other run uses. Lists what would be deleted; deletes it with --yes.

    Example: [bold]restmcts runs delete first --yes[/bold]
    """
    from restmcts.adapters.storage.folder_lock import lock_folder
    from restmcts.usecases.storage import delete_run

    with connect(workdir) as connection, nullcontext() if workdir is None else lock_folder(workdir):
        with connection.database.transaction() as transaction:
            deletion = delete_run(transaction, name, acts=yes)
        if yes:
            _remove(connection, deletion)
    if json:
        print_json({**asdict(deletion), "done": yes})
    else:
        _show(deletion, yes)


def _remove(connection: Connection, deletion: "Deletion") -> None:
    try:
        for uri in deletion.artifacts:
            connection.artifacts.remove(uri)
    except StorageError as error:
        raise StorageError(
            f"run {deletion.run} is deleted, and some of its artifacts are not ({error}); "
            f"`restmcts storage prune --yes{connection.database.place}` deletes them"
        ) from error


def _show(deletion: "Deletion", done: bool) -> None:
    rows = [f"{counted(number, 'row')} of {table}" for table, number in deletion.rows.items() if number]
    print_table(("what",), [{"what": what} for what in (*rows, *deletion.artifacts)], empty="")
    if deletion.shared:
        print_note(f"other runs name {counted(len(deletion.shared), 'artifact')}, not deleted")
    print_note(f"run {deletion.run} is deleted" if done else "nothing is deleted yet; to delete it: --yes")
