"""The option that forecasts a run instead of storing it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restmcts_cli.arguments.connection import connect
from restmcts_cli.reports.shown_tables import console, print_json

if TYPE_CHECKING:
    from restmcts.domain.runs.spec import RunSpec

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Store nothing, and forecast tokens, requests, time, disk and memory: from runs of the same policy that "
        "are done, else, in this process, from a probe of a minute that really does a little of it.",
    ),
]


def show_forecast(spec: "RunSpec", workdir: Path | None, json: bool) -> None:
    """Print what a run will take, in the work folder or, without one, on the stack.

    Raises:
        RestMctsError: if a file, a model or the stack cannot be used, or a probe cannot do the run.
    """
    from restmcts.reporting.forecasts import document, render

    from restmcts_cli.experiments.run_forecast import local_forecast, stack_forecast

    if workdir is not None:
        found = local_forecast(spec, workdir)
    else:
        with connect(None) as connection:
            found = stack_forecast(spec, connection)
    if json:
        print_json(document(found))
    else:
        console().print(render(found))
