"""`restmcts selftrain`: the whole loop on the user's problems and model, in one process."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.runs.spec_settings import Setting
from restmcts.errors import InputError

from restmcts_cli.arguments.dry_runs import DryRun, show_forecast, show_rest
from restmcts_cli.arguments.plugin_files import Plugins, check_folder
from restmcts_cli.arguments.run_flags import LOCAL_FLAGS, RUN_FLAGS, with_flags
from restmcts_cli.arguments.run_requests import RUN_FILE_OR_PROBLEMS, SELFTRAIN_RUN, requested_settings, run_of
from restmcts_cli.reports.shown_tables import console, print_note

if TYPE_CHECKING:
    from restmcts.domain.runs.spec import RunSpec

    from restmcts_cli.reports.run_report_data import Report


@with_flags((*RUN_FLAGS, *LOCAL_FLAGS))
def selftrain(
    workdir: Annotated[
        Path,
        typer.Option(
            help="Folder for everything the run makes; with the run's own folder alone, it is resumed.", file_okay=False
        ),
    ],
    given: list[Setting],
    run: Annotated[
        str | None,
        typer.Argument(
            help=f"{RUN_FILE_OR_PROBLEMS} Without: the run that WORKDIR holds.", metavar="[RUN.toml|PROBLEMS]"
        ),
    ] = None,
    plugin: Plugins = None,
    dry_run: DryRun = False,
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one line of JSON.")] = False,
) -> None:
    """Let a model teach itself your problems: search, verify, infer the value of every step, train
    both models, and repeat.

    A run file holds all settings of a run; flags override it. Killed at any moment and started
    again with the same [bold]--workdir[/bold], the run is resumed; the folder alone is enough. The
    report is in [bold]WORKDIR/report.html[/bold], the checkpoints in
    [bold]WORKDIR/artifacts[/bold].

    With [bold]--dry-run[/bold] it says before anything is stored how many tokens, model requests,
    hours, bytes of disk and memory the run will take.

    Example: [bold]restmcts selftrain problems.jsonl --policy Qwen/Qwen3-0.6B --workdir run1[/bold]
    """
    print_note(f"restmcts selftrain in {workdir}")
    stored = _stored(workdir) if run is None else None
    if run is None and stored is None and not any(_names_problems(setting) for setting in given):
        raise InputError(
            f"{workdir} has no run of selftrain that could be resumed: give problems or a run file{_other_runs(workdir)}"
        )
    settings = requested_settings(run, given, stored)
    check_folder(workdir)
    spec = run_of(settings)
    named = {setting.name for setting in settings}
    if dry_run:
        _forecast(spec, workdir, named, json)
        return
    report = _run(spec, workdir, named)
    _show(report, workdir / "report.html", json)


def _stored(workdir: Path) -> "RunSpec | None":
    """Return the run that a work folder holds, or None if it holds none."""
    from restmcts.adapters.sql.state import runs

    from restmcts_cli.arguments.connection import DATABASE_FILE, connect
    from restmcts_cli.experiments.requested_runs import stored_run

    if not (workdir / DATABASE_FILE).is_file():
        return None
    check_folder(workdir)
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        row = runs.find_run(transaction, SELFTRAIN_RUN)
    return stored_run(row.config) if row is not None else None


def _forecast(spec: "RunSpec", workdir: Path, named: set[str], json: bool) -> None:
    """Say what the run will take, or what is left of it if the folder holds it."""
    from restmcts_cli.experiments.selftrain_run import is_resumed

    if is_resumed(spec, workdir, named):
        show_rest(SELFTRAIN_RUN, workdir, json, spec.max_tokens)
    else:
        show_forecast(spec, workdir, json)


def _names_problems(setting: Setting) -> bool:
    return setting.name == "problems" or setting.name.startswith("puzzles.")


def _other_runs(workdir: Path) -> str:
    """Return how the other runs of a work folder are resumed, or "" if it holds none."""
    from restmcts.adapters.sql.state import runs

    from restmcts_cli.arguments.connection import DATABASE_FILE, connect

    if not (workdir / DATABASE_FILE).is_file():
        return ""
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        names = sorted(runs.configs(transaction))
    return (
        f"; its runs are {', '.join(names)}: restmcts runs work NAME --workdir {quote(str(workdir))}" if names else ""
    )


def _run(spec: "RunSpec", workdir: Path, named: set[str]) -> "Report":
    from restmcts_cli.experiments.selftrain_run import selftrain_report, selftrained_here

    with selftrained_here(spec, workdir, named) as done:
        return selftrain_report(done.run.database, done.run_id, workdir, done.spec)


def _show(report: "Report", page: Path, json: bool) -> None:
    from restmcts_cli.reports.run_report import render_table, write_report
    from restmcts_cli.reports.run_report_data import json_line

    write_report(report, page)
    shown = console(stderr=json)
    shown.print(render_table(report))
    shown.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    see = f"to see the run and its trees: restmcts ui --workdir {quote(str(page.parent))}"
    shown.print(see, markup=False, highlight=False, soft_wrap=True)
    if json:
        typer.echo(json_line(report, str(page)))
