"""`restmcts plugins`: what is registered, and where it comes from."""

import typer

from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, print_json, print_table

_CHOSEN_BY = {
    "answering": "evaluate --methods",
    "learners": "--learner",
    "methods": "--method",
    "prm-formats": "MODEL?format=",
    "searches": "--algorithm",
    "tasks": "a problem's kind",
}

app = typer.Typer(help="List searches, methods and other extensions.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep the group a group while it has one command."""


@app.command("list")
def list_(plugin: Plugins = None, json: Json = False) -> None:
    """List what can be added to: its entries by table, how a person chooses one, and where each
    comes from, a distribution or a plugin file.

    Example: [bold]restmcts plugins list --plugin my_search.py[/bold]
    """
    from restmcts.registry import registries

    rows = [
        {
            "table": table.table,
            "name": entry.name,
            "chosen_by": _chosen_by(table.table, entry.name),
            "origin": entry.origin,
        }
        for table in registries()
        for entry in table.entries()
    ]
    if json:
        print_json(rows)
    else:
        print_table(("table", "name", "chosen_by", "origin"), rows, empty="")


def _chosen_by(table: str, name: str) -> str:
    """Return how a person chooses an entry: an engine by the scheme of the policy's URI, unless it
    runs weights that have none.
    """
    from restmcts.adapters.models.engines import VLLM, WEIGHTS

    if table == "engines":
        return "--engine" if name in (WEIGHTS, VLLM) else f"--policy {name}+http://"
    return _CHOSEN_BY.get(table, "")
