"""`restmcts db`: the tables of the stack's database, or of a work folder."""

import typer

from restmcts_cli.arguments.connection import Workdir, connect, stack_settings
from restmcts_cli.reports.shown_tables import Json, print_json, told

app = typer.Typer(help="Bring the database to the tables of this version.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def upgrade(workdir: Workdir = None, json: Json = False) -> None:
    """Make the tables, or change them to those of this version; what is in them stays. Safe to call
    again.

    Example: [bold]restmcts db upgrade[/bold]
    """
    if workdir is not None:
        with connect(workdir, create=True):
            pass
    else:
        from restmcts.adapters.sql.migrate import upgrade as migrate

        migrate(stack_settings().database_url.get_secret_value())
    if json:
        print_json({"database": "up to date"})
    else:
        told("the database is up to date")
