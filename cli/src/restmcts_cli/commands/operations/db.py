"""`restmcts db`: the tables of the stack's database, or of a work folder."""

from pathlib import Path

import typer

from restmcts_cli.arguments.connection import DATABASE_FILE, Workdir, stack_settings
from restmcts_cli.reports.shown_tables import Json, print_json, print_note

app = typer.Typer(help="Upgrade the database to the tables of this version.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def upgrade(workdir: Workdir = None, json: Json = False) -> None:
    """Make the tables, or upgrade them to this version; their rows are kept. The command may be
    repeated.

    For an evaluation, the folder is its [bold]--out[/bold].

    Example: [bold]restmcts db upgrade --workdir run1[/bold]
    """
    from restmcts.adapters.sql.migrate import upgrade as migrate
    from restmcts.adapters.storage.folder_lock import lock_folder

    if workdir is None:
        before, now = migrate(stack_settings().database_url.get_secret_value())
    else:
        folder = _with_runs(workdir)
        with lock_folder(folder):
            before, now = migrate(f"sqlite:///{folder / DATABASE_FILE}")
    if json:
        print_json({"database": "up to date", "from": before, "to": now})
    elif before == now:
        print_note(f"the database is up to date: version {now}")
    elif before is None:
        print_note(f"the database has the tables of version {now}")
    else:
        print_note(f"the database is upgraded from {before} to {now}")


def _with_runs(workdir: Path) -> Path:
    """Return the folder itself, or the one below it in which an evaluation keeps its run."""
    below = workdir / "work"
    is_evaluation = (below / DATABASE_FILE).is_file() and not (workdir / DATABASE_FILE).exists()
    return below if is_evaluation else workdir
