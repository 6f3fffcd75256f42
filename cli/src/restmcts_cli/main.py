"""The command `restmcts`. A command's module is imported when it is called, and imports models and
services inside functions: `--help` waits for neither.
"""

import io
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from importlib import metadata
from typing import Any, ClassVar

import typer
from restmcts.errors import RestMctsError
from restmcts.reporting.plain_text import plain

from restmcts_cli.lazy_commands import LazyCommand, LazyGroup
from restmcts_cli.library_notice import LibraryNotice

WORDS = "restmcts_cli.words"


class Commands(LazyGroup):
    """All commands, in the order of their list; the one that is called is remembered, for the runs
    that it creates.
    """

    table: ClassVar[Mapping[str, LazyCommand]] = {
        "demo": LazyCommand(
            "learning.demo:demo",
            "Watch a model teach itself: no server, no GPU, a few minutes with the tiny model.",
        ),
        "probe": LazyCommand(
            "learning.probe:probe",
            "See whether search will pay on your problems before you spend the tokens of a run.",
        ),
        "selftrain": LazyCommand(
            "learning.selftrain:selftrain",
            "Let a model teach itself your problems: search, verify, infer the value of every step, train both "
            "models, and repeat.",
        ),
        "evaluate": LazyCommand(
            "learning.evaluate:evaluate",
            "Measure what search gains: every method answers the same problems under the same budget of generated tokens.",
        ),
        "pool": LazyCommand(
            "learning.pool:pool",
            "Pool evaluations of the same methods: one table, its errors over the problems of all of them.",
        ),
        "compare": LazyCommand(
            "learning.compare:compare",
            "Compare self-training methods: the same problems, first policy, training steps and tokens, one table with "
            "errors.",
        ),
        "gains": LazyCommand(
            "learning.gains:gains",
            "Map where search pays: the gain of each method over ReST^EM at equal tokens, against how often the first "
            "policy was right.",
        ),
        "grade": LazyCommand(
            "learning.grade:grade",
            'Write each line back with its "verdict" (right, wrong or undecided) and the answer that was "extracted".',
        ),
        "regrade": LazyCommand(
            "records.regrade:regrade",
            "Grade the trees of a run again, with the verifier of this version and your plugins.",
        ),
        "options": LazyCommand(
            "operations.options:options",
            "List the settings of a run: their type, default, range, and what they do.",
        ),
        "ui": LazyCommand(
            "records.ui:ui",
            "Show runs and trees in a browser, until Ctrl-C; a run that is in progress in another process is shown "
            "live.",
        ),
        "doctor": LazyCommand(
            "operations.doctor:doctor",
            "Check the sandbox, settings, database, Redis, bucket, queues and what waits in them; exit code 1 if "
            "something is wrong.",
        ),
        "stack": LazyCommand(
            "operations.stack:app", "Run the workers and their servers as plain processes of this machine."
        ),
        "runs": LazyCommand("records.runs:app", "Create, watch and steer runs."),
        "problems": LazyCommand("records.problems:app", "Check and import problems, add them to runs, list them."),
        "trees": LazyCommand("records.trees:app", "Show search trees."),
        "annotations": LazyCommand(
            "records.annotations:app", "List, export and import what people say of steps and answers."
        ),
        "checkpoints": LazyCommand("records.checkpoints:app", "List, fetch, promote and publish models."),
        "prm": LazyCommand(
            "learning.prm:app",
            "Train, measure and calibrate process reward models (PRMs), and check whether a model can guide a search.",
        ),
        "plugins": LazyCommand("operations.plugins:app", "List searches, methods and other extensions."),
        "datasets": LazyCommand("records.datasets:app", "List, read, fetch and import training data."),
        "workers": LazyCommand(
            "operations.workers:app",
            "Show what waits for each kind of worker and what each process does; scale workers.",
        ),
        "dead-letters": LazyCommand(
            "operations.dead_letters:app", "List, retry and drop messages that could not be handled."
        ),
        "projects": LazyCommand(
            "operations.projects:app", "Share a stack among teams: quotas, tokens, and who did what."
        ),
        "storage": LazyCommand("operations.storage:app", "Delete what no run needs any more."),
        "db": LazyCommand("operations.db:app", "Upgrade the database to the tables of this version."),
    }

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of a call, which keeps its words."""
        words = ["restmcts", *args]
        context = super().make_context(info_name, args, parent, **extra)
        context.meta[WORDS] = words
        return context

    def invoke(self, ctx: Any) -> Any:
        """Call the command."""
        from restmcts.adapters.observability.this_process import note_command

        note_command(ctx.meta[WORDS])
        return super().invoke(ctx)


app = typer.Typer(
    name="restmcts",
    cls=Commands,
    help="Self-training of language models by process-reward-guided tree search (ReST-MCTS*, arXiv:2406.03816).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    for library in ("huggingface_hub", "datasets"):  # whose own handlers print their lines
        logging.getLogger(library).propagate = False
    logging.getLogger("restmcts").setLevel(logging.DEBUG if debug else logging.WARNING)


def run() -> None:
    """Run the command line; errors are one line and an exit code (2 bad input, 1 failure, 130
    interrupted).
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        # What the locale cannot write must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.meta_path.insert(0, LibraryNotice())
    try:
        app()
    except (RestMctsError, OSError) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        typer.echo(f"error: {plain(str(error))}", err=True)
        sys.exit(error.exit_code if isinstance(error, RestMctsError) else 1)
    except ModuleNotFoundError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        typer.echo(
            f"error: {error.name} is not installed here, which this needs: the image of the command line has no "
            "models; give the command where restmcts-cli[local,hub] is installed",
            err=True,
        )
        sys.exit(2)
