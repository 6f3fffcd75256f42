"""`restmcts runs archive --to-store` and `restmcts runs restore`: where the nodes and requests of a
run's trees are.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table
from restmcts_cli.row_progress import shown_progress

if TYPE_CHECKING:
    from restmcts.usecases.tree_archive.to_store import MovedTrees

MIB = 2.0**20


def archive_to_store(names: Sequence[str], yes: bool, workdir: Path | None, json: bool) -> None:
    """Move the nodes and requests of runs to the store, one run after the other, or show what would
    be moved.
    """
    with _needing_parquet():
        from restmcts.usecases.tree_archive.to_store import move_to_store, trees_to_move

    with connect(workdir) as connection, _locked(workdir):
        with connection.database.transaction() as transaction:
            found = [trees_to_move(transaction, name) for name in names]
        if yes:
            for place, before in enumerate(found):
                # each row is written, and then deleted
                num_steps = sum(before.rows.values()) * (1 if before.stored is not None else 2)
                with shown_progress(f"archiving {before.run}", "row", num_steps) as seen:
                    found[place] = move_to_store(connection.database, connection.artifacts, before.run, seen)
    if json:
        print_json([_document(one, yes) for one in found])
    else:
        _show(found, yes)


def restore(
    name: Annotated[str, typer.Argument(help="The run's name.")], workdir: Workdir = None, json: Json = False
) -> None:
    """Bring the nodes and requests of a run back that `runs archive --to-store` moved to the store.

    Stopped in between, the same command continues.

    Example: [bold]restmcts runs restore first[/bold]
    """
    with _needing_parquet():
        from restmcts.usecases.tree_archive.from_store import archive_of, restore_from_store

    with connect(workdir) as connection, _locked(workdir):
        with connection.database.transaction() as transaction:
            num_rows = sum(archive_of(transaction, name).rows.values())
        with shown_progress(f"restoring {name}", "row", num_rows) as seen:
            restored = restore_from_store(connection.database, connection.artifacts, name, seen)
    if json:
        print_json({"run": name, "rows": dict(restored.rows), "stored_bytes": restored.num_bytes})
    else:
        print_note(f"run {name} has its trees again: {_rows_in_words(restored.rows)}")


def _locked(workdir: Path | None) -> AbstractContextManager[object]:
    from restmcts.adapters.storage.folder_lock import lock_folder

    return nullcontext() if workdir is None else lock_folder(workdir)


@contextmanager
def _needing_parquet() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(f"Parquet cannot be written or read here ({error}): install restmcts[data]") from error


def _document(moved: "MovedTrees", done: bool) -> dict[str, object]:
    stored = moved.stored
    return {
        "run": moved.run,
        "rows": dict(moved.rows),
        "row_bytes": moved.row_bytes,
        "uri": stored.uri if stored is not None else None,
        "stored_bytes": stored.num_bytes if stored is not None else None,
        "done": done,
    }


def _show(found: "Sequence[MovedTrees]", done: bool) -> None:
    columns = ("run", "requests", "nodes", "MiB in the database", "MiB in the store")
    rows = [
        {
            "run": one.run,
            **one.rows,
            columns[3]: one.row_bytes / MIB,
            columns[4]: one.stored.num_bytes / MIB if one.stored is not None else None,
        }
        for one in found
    ]
    print_table(columns, rows, empty="")
    for one in found:
        if not done and one.stored is not None and not any(one.rows.values()):
            print_note(f"the trees of run {one.run} are archived already")
    if done:
        print_note("moved to the store; `restmcts runs restore NAME` brings a run's trees back")
    else:
        print_note("nothing is moved yet; to move these rows: --yes")


def _rows_in_words(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{counted(number, 'row')} of {table}" for table, number in rows.items())
