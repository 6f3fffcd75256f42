"""`restmcts runs`: create, see, stop and go on with runs, on the stack or in a work folder."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.runs.spec_settings import Setting
from restmcts.domain.text import counted
from restmcts.errors import InputError, RestMctsError, StorageError
from restmcts.reporting.figures import share_document
from restmcts.reporting.plain_text import plain
from restmcts.reporting.run_states import WAITING
from restmcts.reporting.truth import flip_rows, mark_of, marked, truth_document, truth_in_words

from restmcts_cli.arguments.connection import Connection, OnlyName, Workdir, connect, only_run
from restmcts_cli.arguments.plugin_files import Plugins, check_folder
from restmcts_cli.arguments.run_flags import LOCAL_FLAGS, TEMPLATE, with_flags
from restmcts_cli.arguments.run_requests import SELFTRAIN_RUN, requested_run
from restmcts_cli.commands.records.run_archive import archive, tag
from restmcts_cli.commands.records.run_create import create
from restmcts_cli.commands.records.run_delete import delete
from restmcts_cli.commands.records.run_extend import clone, extend
from restmcts_cli.commands.records.run_list import list_, note_waiting, state_of, times_of
from restmcts_cli.commands.records.run_steer import cancel, pause, resume
from restmcts_cli.commands.records.run_store import restore
from restmcts_cli.reports.shown_tables import Json, lines_of_text, print_fields, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Database
    from restmcts.adapters.sql.reads.queries import PhaseNumbers
    from restmcts.adapters.sql.rows import StoredRun
    from restmcts.adapters.sql.state.blocks import Block

    from restmcts_cli.reports.run_report_data import IterationResult

SECONDS_BETWEEN_LOOKS = 1.0
ENDED = ("done", "failed", "cancelled")
ITERATION_COLUMNS = (
    *("iteration", "greedy_accuracy", "control", "problems_evaluated", "trees_searched", "trees_solved", "tokens"),
    *("traces_learnt", "step_values_learnt"),
)
FLIP_COLUMNS = ("flipped_in", "before", "now", "question")

_SHOWN_OTHERWISE = ("error", "tokens_spent", "max_tokens", "created_at", "finished_at")

app = typer.Typer(help="Create, watch and steer runs.", no_args_is_help=True)
app.command()(create)
app.command()(delete)
app.command()(extend)
app.command()(clone)
app.command()(archive)
app.command()(restore)
app.command()(tag)
app.command("list")(list_)

Name = Annotated[str, typer.Argument(help="The run's name.")]


@app.command()
def show(name: OnlyName = None, workdir: Workdir = None, json: Json = False) -> None:
    """Show a run's phases and iterations with their numbers (accuracy ± standard error, trees,
    solved, tokens), and where it comes from: settings that differ from the defaults, command,
    versions, machine, times.

    Example: [bold]restmcts runs show demo[/bold]
    """
    from restmcts_cli.remote import client
    from restmcts_cli.remote import runs as remote

    if (api := client.over_http(workdir)) is not None:
        remote.show(api, name, json)
        return
    with connect(workdir) as connection:
        run = _show(connection, name or only_run(connection), json, workdir)
    if not json and state_of(run, workdir) == WAITING:
        note_waiting(workdir, [run.name])


@app.command()
def watch(name: OnlyName = None, workdir: Workdir = None, json: Json = False) -> None:
    """Watch a run until it has ended; then show what `runs show` shows. Ctrl-C ends the watching,
    not the run.

    Example: [bold]restmcts runs watch demo[/bold]
    """
    from restmcts_cli.remote import client
    from restmcts_cli.remote import runs as remote

    if (api := client.over_http(workdir)) is not None:
        remote.watch(api, name, json)
        return
    from restmcts_cli.reports.live_display import LiveDisplay

    with connect(workdir) as connection:
        name = name or only_run(connection)
        row = _row(connection, name)
        if state_of(row, workdir) == WAITING:
            note_waiting(workdir, [name])
        with LiveDisplay(f"run {name}", resumption="") as display:
            display.watch(connection.database, row.id)
            shown_reason = None
            try:
                while row.state not in ENDED:
                    if row.state in ("paused", "blocked") and row.error and row.error != shown_reason:
                        print_note(f"run {name} is {row.state}: {row.error}; {_how_it_goes_on(row, workdir)}")
                        shown_reason = row.error
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    row = _row_once_there(connection, name)
            except KeyboardInterrupt:
                print_note(f"run {name} is {state_of(row, workdir)}, and is no longer watched")
        _show(connection, name, json, workdir)
    if row.state in ("failed", "cancelled"):
        raise RestMctsError(f"run {name} {'failed: ' + str(row.error) if row.state == 'failed' else 'was cancelled'}")


@app.command()
def spec(name: OnlyName = None, workdir: Workdir = None, plugin: Plugins = None) -> None:
    """Print a run as a run file (TOML) that makes the same run again.

    Example: [bold]restmcts runs spec demo > run.toml[/bold]
    """
    from restmcts_cli.remote import client
    from restmcts_cli.remote import runs as remote

    if (api := client.over_http(workdir)) is not None:
        typer.echo(remote.run_file(api, name), nl=False)
        return
    from restmcts.adapters.files.run_files import run_file_text

    from restmcts_cli.experiments.requested_runs import stored_run

    if workdir is not None:
        check_folder(workdir)
    with connect(workdir) as connection:
        name = name or only_run(connection)
        row = _row(connection, name)
    found = stored_run(row.config)
    if found is None:
        raise InputError(f"run {name} has no run file: it is an evaluation, or of a version that stored none")
    typer.echo(run_file_text(found), nl=False)


@app.command()
@with_flags((TEMPLATE, *LOCAL_FLAGS), changes_stored=True)
def work(
    name: Name,
    workdir: Annotated[Path, typer.Option(help="The work folder that contains the run.", file_okay=False)],
    given: list[Setting],
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Run a work folder's run in this process, with every service's handlers; after a kill, the
    same command resumes it.

    Example: [bold]restmcts runs work mine --workdir out[/bold]
    """
    print_note(f"run {name} in {workdir}")
    from restmcts_cli.experiments.requested_runs import model_options, stored_run
    from restmcts_cli.reports.live_display import LiveDisplay

    check_folder(workdir)
    with connect(workdir) as connection:
        row = _row(connection, name)
    if row.state == "paused":
        resumption = _resumption(row, workdir)
        raise InputError(f"run {name} is paused{': ' + row.error if row.error else ''}; to go on: {resumption}")
    asked = requested_run(None, given, stored_run(row.config))
    try:
        from restmcts_local.local_run import LocalRun

        options = model_options(asked)
    except ImportError as error:
        raise InputError(
            f"working on a run needs the models, which are not installed here ({error}): restmcts-cli[local]"
        ) from error
    display = LiveDisplay(f"run {name} in {workdir}")
    with LocalRun(workdir, options, display.on_training) as run, display:
        display.watch(run.database, row.id, run.trainings_at_once)
        run.run(row.id, notifies=True)
        _report_again(run.database, row.id, name, workdir)
    with connect(workdir) as connection:
        _show(connection, name, json, workdir)


def _report_again(database: "Database", run_id: int, name: str, workdir: Path) -> None:
    """Write the report of a self-training again; say which command does so for a demo's run."""
    from restmcts_cli.commands.learning.demo import RUN_NAME
    from restmcts_cli.experiments.requested_runs import stored_run
    from restmcts_cli.experiments.selftrain_run import selftrain_report
    from restmcts_cli.reports.run_report import write_report
    from restmcts_cli.reports.run_results import run_origin

    page = workdir / "report.html"
    origin = run_origin(database, run_id)
    spec = stored_run(origin.run.config)
    command = origin.command_of("demo") if name == RUN_NAME else None
    if name == SELFTRAIN_RUN and spec is not None:
        write_report(selftrain_report(database, run_id, workdir, spec), page)
        print_note(f"report: {page}")
    elif command is not None:
        print_note(f"to write its report {page} again: {command}")


for _steering in (pause, resume, cancel):
    app.command()(_steering)


def _how_it_goes_on(row: "StoredRun", workdir: Path | None) -> str:
    if row.state == "blocked":
        return "it continues by itself once that is available"
    return f"to go on: {_resumption(row, workdir)}"


def _resumption(row: "StoredRun", workdir: Path | None) -> str:
    from restmcts.adapters.sql.state import token_budget

    place = f" --workdir {quote(str(workdir))}" if workdir is not None else ""
    larger = " --max-tokens LARGER" if token_budget.is_spent(row.error) else ""
    return f"restmcts runs resume {quote(row.name)}{place}{larger}"


def _row(connection: Connection, name: str) -> "StoredRun":
    from restmcts.adapters.sql.reads import queries

    with connection.database.transaction() as transaction:
        return queries.run_named(transaction, name)


def _row_once_there(connection: Connection, name: str) -> "StoredRun":
    """Return the run's row; while the database does not answer, say so once and ask again."""
    is_noted = False
    while True:
        try:
            row = _row(connection, name)
        except StorageError as error:
            if not is_noted:
                print_note(f"the database does not answer ({plain(str(error))}); the run is watched again once it does")
            is_noted = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        if is_noted:
            print_note("the database answers again")
        return row


def _show(connection: Connection, name: str, json: bool, workdir: Path | None) -> "StoredRun":
    from restmcts.adapters.sql.reads import queries
    from restmcts.adapters.sql.reads.run_times import run_times
    from restmcts.adapters.sql.reads.truth import read_truth
    from restmcts.adapters.sql.state import annotations, blocks, token_budget
    from restmcts.reporting.annotations import annotations_in_words
    from restmcts.reporting.run_origins import RunOrigin

    from restmcts_cli.reports.run_results import checkpoint_warnings, iteration_results
    from restmcts_cli.reports.terminal.phase_table import phase_documents, print_phases

    with connection.database.transaction() as transaction:
        run = queries.run_named(transaction, name)
        spent = token_budget.spent(transaction, run.id) if run.max_tokens is not None else None
        phases = queries.phase_numbers(transaction, run.id)
        truth = read_truth(transaction, run.id, run.config)
        promoted = {row.kind: row.name for row in queries.list_checkpoints(transaction, run.id) if row.promoted}
        blocked = blocks.blocks_of(transaction, run.id) if run.state == blocks.BLOCKED else []
        annotated = annotations.counts(transaction, run.id)
        warnings = checkpoint_warnings(transaction, run.id, phases, mark_of(truth))
        times, now = run_times(transaction, [run.id])[run.id], transaction.now()
        origin = RunOrigin(run, times.started, transaction.place)
    iterations = iteration_results(connection.database, run.id)
    facts = {"run": run.name, **_facts(run, phases), "tokens_spent": spent, "promoted": promoted}
    if json:
        print_json(
            {
                **facts,
                **origin.document,
                "blocked": [asdict(block) for block in blocked],
                "warnings": warnings,
                "truth": truth_document(truth),
                "annotations": asdict(annotated) if annotated is not None else None,
                "trees_in_store": run.trees_in_store,
                "phases": phase_documents(phases),
                "iterations": [_iteration(one) for one in iterations],
            }
        )
        return run
    state = state_of(run, workdir)
    print_fields(
        {
            **{name: value for name, value in facts.items() if name not in _SHOWN_OTHERWISE},
            "state": state,
            **times_of(times, state, now),
            "token_budget": f"{spent:,} of {run.max_tokens:,} spent" if run.max_tokens is not None else None,
            **_reasons(run, blocked, connection.database.place),
            **truth_in_words(truth),
            **annotations_in_words(annotated),
            "promoted": ", ".join(promoted.values()) or None,
        }
    )
    mark = mark_of(truth)
    print_phases(phases, mark)
    _print_iterations(iterations, mark)
    if flipped := flip_rows(truth):
        print_table(FLIP_COLUMNS, flipped, empty="")
    print_fields({f"warning ({number})": warning for number, warning in enumerate(warnings, 1)})
    print_fields({**{name: lines_of_text(one) for name, one in origin.settings_lines().items()}, **origin.lines()})
    return run


def _facts(run: "StoredRun", phases: "Sequence[PhaseNumbers]") -> dict[str, object]:
    return {
        **{name: getattr(run, name) for name in ("method", "state", "error", "seed", "created_at", "finished_at")},
        "trees": sum(phase.num_trees for phase in phases),
        "tokens": sum(phase.tokens for phase in phases),
        "max_tokens": run.max_tokens,
    }


def _reasons(run: "StoredRun", blocked: "Sequence[Block]", place: str) -> dict[str, object]:
    from restmcts.adapters.sql.state import archived_trees

    archived = {"archived": archived_trees.in_words(run.name, place)} if run.trees_in_store is not None else {}
    whys: dict[str, object] = {f"blocked ({number})": _described(block) for number, block in enumerate(blocked, 1)}
    return (whys or ({"reason": run.error} if run.error else {})) | archived


def _described(block: "Block") -> str:
    tried = f"tried {counted(block.num_tries, 'time')} since {block.since:%H:%M:%S}"
    return f"{block.reason}; {tried}, again at {block.retry_at:%H:%M:%S}"


def _iteration(result: "IterationResult") -> dict[str, object]:
    graded = {"greedy": result.greedy, "control": result.control}
    figures = {name: share_document(one.estimate) if one is not None else None for name, one in graded.items()}
    numbers = {name: value for name, value in asdict(result).items() if name not in graded}
    return {**numbers, **figures}


def _print_iterations(iterations: "Sequence[IterationResult]", mark: str) -> None:
    rows = []
    for result in iterations:
        row = {"greedy_accuracy": result.greedy, "control": result.control}
        shown = {name: marked(one.estimate.as_percent(), mark) for name, one in row.items() if one is not None}
        figure = result.greedy or result.control
        rows.append(
            {
                **_iteration(result),
                **shown,
                "problems_evaluated": figure.estimate.n if figure is not None else None,
                "trees_searched": result.num_trees,
                "trees_solved": marked(result.num_solved, mark),
                "tokens": result.num_tokens,
                "traces_learnt": result.num_policy_samples,
                "step_values_learnt": result.num_value_samples,
            }
        )
    if any(row["num_trees"] or row.get("greedy_accuracy") for row in rows):
        print_table(ITERATION_COLUMNS, rows, empty="")
