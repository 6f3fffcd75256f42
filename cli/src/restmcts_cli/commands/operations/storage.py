"""`restmcts storage`: what is stored and nothing names."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted

from restmcts_cli.arguments.connection import ARTIFACTS_FOLDER, Connection, Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.adapters.storage.s3_store import ArtifactCache
    from restmcts.usecases.storage import Unnamed

MIN_AGE_MINUTES = 60.0
MIB = 2.0**20

app = typer.Typer(help="Delete what no run needs any more.", no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", help="Do it; if not given, only report what would be done.")]


@app.callback()
def _group() -> None:
    pass


@app.command()
def prune(
    yes: Yes = False,
    min_age: Annotated[
        float | None,
        typer.Option(
            help="Minutes since an artifact was stored, below which it is kept: the row that names it may not be "
            f"there yet. On a stack {MIN_AGE_MINUTES:.0f} by default, in a work folder 0.",
            min=0.0,
        ),
    ] = None,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Delete artifacts, copies on this machine and rows that no run needs: of deleted runs, failed
    uploads and ended trainings. Lists what would be deleted; deletes it with --yes.

    Workers on other machines delete their copies by themselves.

    Example: [bold]restmcts storage prune --yes[/bold]
    """
    from contextlib import nullcontext

    from restmcts.adapters.storage.folder_lock import lock_folder

    minutes = min_age if min_age is not None else (MIN_AGE_MINUTES if workdir is None else 0.0)
    with connect(workdir) as connection, nullcontext() if workdir is None else lock_folder(workdir):
        found, leftovers = _found(connection, minutes * 60.0)
        if yes:
            _free(connection, found, leftovers)
    if json:
        print_json(_document(found, leftovers, yes))
    else:
        _show(found, leftovers, yes)


def _found(connection: Connection, min_age_seconds: float) -> "tuple[Unnamed, list[Path]]":
    from restmcts.usecases.storage import unnamed

    stored = list(connection.artifacts.stored())
    cache = _cache(connection)
    copies = list(cache.stored()) if cache is not None else []
    with connection.database.transaction() as transaction:
        found = unnamed(transaction, stored, copies, min_age_seconds)
    folder = connection.workdir
    if folder is None:
        return found, []
    return found, [*folder.glob("training-*"), *(folder / ARTIFACTS_FOLDER).glob("*/.partial-*")]


def _cache(connection: Connection) -> "ArtifactCache | None":
    from restmcts.adapters.storage.s3_store import S3ArtifactStore

    return connection.artifacts.cache if isinstance(connection.artifacts, S3ArtifactStore) else None


def _free(connection: Connection, found: "Unnamed", leftovers: Sequence[Path]) -> None:
    from restmcts.usecases.storage import delete_rows_of_nobody

    with connection.database.transaction() as transaction:
        delete_rows_of_nobody(transaction)
    for artifact in found.artifacts:
        connection.artifacts.remove(artifact.uri)
    cache = _cache(connection)
    if cache is not None:
        for copy in found.copies:
            cache.drop(copy.uri)
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)


def _document(found: "Unnamed", leftovers: Sequence[Path], done: bool) -> dict[str, object]:
    return {
        "done": done,
        "artifacts": [asdict(artifact) for artifact in found.artifacts],
        "young": [asdict(artifact) for artifact in found.young],
        "copies": [asdict(copy) for copy in found.copies],
        "folders": [str(folder) for folder in leftovers],
        "rows": dict(found.rows),
        "num_bytes": sum(each.num_bytes for each in (*found.artifacts, *found.copies)),
    }


def _show(found: "Unnamed", leftovers: Sequence[Path], done: bool) -> None:
    rows: list[dict[str, object]] = []
    for where, kept in (("store", found.artifacts), ("this machine", found.copies)):
        rows += [{"what": each.uri, "where": where, "MiB": each.num_bytes / MIB} for each in kept]
    rows += [{"what": str(folder), "where": "work folder"} for folder in leftovers]
    counts = [f"{counted(number, 'row')} of {table}" for table, number in found.rows.items() if number]
    rows += [{"what": what, "where": "database"} for what in counts]
    print_table(("what", "where", "MiB"), rows, empty="nothing is stored that nothing names")
    if found.young:
        print_note(f"{counted(len(found.young), 'artifact')} named by nothing and kept, as still young (--min-age)")
    if rows:
        print_note("freed" if done else "nothing is freed yet; to free it: --yes")
