"""The command `restmcts`. Commands import what they need when they are called: `--help` needs
no model and no service.
"""

import logging
import os
import sys
import traceback
from importlib import metadata

import typer
from restmcts.errors import RestMctsError

from restmcts_cli.commands.learning import prm
from restmcts_cli.commands.learning.compare import compare
from restmcts_cli.commands.learning.demo import demo
from restmcts_cli.commands.learning.evaluate import evaluate
from restmcts_cli.commands.learning.grade import grade
from restmcts_cli.commands.learning.pool import pool
from restmcts_cli.commands.learning.selftrain import selftrain
from restmcts_cli.commands.operations import db, dead_letters, plugins, workers
from restmcts_cli.commands.operations.doctor import doctor
from restmcts_cli.commands.operations.options import options
from restmcts_cli.commands.operations.stack import app as stack_app
from restmcts_cli.commands.records import checkpoints, datasets, problems, runs, trees
from restmcts_cli.commands.records.ui import ui

app = typer.Typer(
    name="restmcts",
    help="Self-training of language models by process-reward-guided tree search (ReST-MCTS*, arXiv:2406.03816).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(selftrain)
app.command()(evaluate)
app.command()(pool)
app.command()(compare)
app.command()(grade)
app.command()(options)
app.command()(ui)
app.add_typer(stack_app, name="stack")
app.command()(doctor)
app.add_typer(runs.app, name="runs")
app.add_typer(problems.app, name="problems")
app.add_typer(trees.app, name="trees")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(prm.app, name="prm")
app.add_typer(plugins.app, name="plugins")
app.add_typer(datasets.app, name="datasets")
app.add_typer(workers.app, name="workers")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(db.app, name="db")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restmcts {metadata.version('restmcts-cli')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show a traceback with every error."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and end.", callback=_print_version, is_eager=True
    ),
) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("restmcts").setLevel(logging.DEBUG if debug else logging.WARNING)


def run() -> None:
    """Run the command line; errors are one line and an exit code (2 bad input, 1 failure, 130
    interrupted).
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except (RestMctsError, OSError) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code if isinstance(error, RestMctsError) else 1)
