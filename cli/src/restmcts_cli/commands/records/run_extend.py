"""`restmcts runs extend` and `restmcts runs clone`: what comes after a run that is stored."""

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.runs.spec_settings import Setting
from restmcts.domain.text import counted
from restmcts.reporting.run_states import WAITING, work_command

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.arguments.dry_runs import DryRunOfRest, show_rest
from restmcts_cli.arguments.method_options import MaxTokens
from restmcts_cli.arguments.plugin_files import Plugins, check_folder, refuse_plugins_on_stack
from restmcts_cli.arguments.run_flags import RUN_FLAGS, with_flags
from restmcts_cli.arguments.run_requests import requested_run
from restmcts_cli.commands.records.run_create import new_run, show_created, store
from restmcts_cli.commands.records.run_list import state_of
from restmcts_cli.reports.shown_tables import Json, print_json, print_note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from restmcts.adapters.sql.rows import StoredRun
    from restmcts.domain.problem_review import ProblemReview
    from restmcts.domain.problems import Problem
    from restmcts.domain.runs.spec import RunSpec
    from restmcts.usecases.create import Extension
    from restmcts.usecases.requested.answers import CreatedDocument

Name = Annotated[str, typer.Argument(help="The run's name.")]


def extend(
    name: Name,
    iterations: Annotated[
        int,
        typer.Option(help="How many iterations the run is to have in all, those that it has done included."),
    ],
    max_tokens: MaxTokens = None,
    workdir: Workdir = None,
    plugin: Plugins = None,
    dry_run: DryRunOfRest = False,
    json: Json = False,
) -> None:
    """Give a run more iterations: what it has done stays, and it goes on from its last models.

    It is then the run that it would have been with as many iterations from the beginning. The
    evaluations at its end are made again with the new models.

    Example, for 3 iterations in all: [bold]restmcts runs extend demo --iterations 3[/bold]
    """
    if dry_run:
        show_rest(name, workdir, json, max_tokens, lambda row: _extension(row, iterations))
        return
    from restmcts_cli.remote import client
    from restmcts_cli.remote import runs as remote

    if (api := client.over_http(workdir)) is not None:
        added, then = remote.extend(api, name, iterations, max_tokens), _to_see(name, "")
    else:
        added, then = _extended(workdir, name, iterations, max_tokens)
    if json:
        print_json({"run": name, "iterations": iterations, "phases": added})
        return
    print_note(f"run {name} has {counted(iterations, 'iteration')} in all now; added {counted(len(added), 'phase')}:")
    for phase in added:
        print_note(f"  {phase}")
    print_note(then)


def _extended(workdir: Path | None, name: str, iterations: int, max_tokens: int | None) -> tuple[list[str], str]:
    """Return the phases that were added, and what to do next."""
    from restmcts.adapters.sql.reads import queries
    from restmcts.usecases.create import extend_run

    if workdir is not None:
        check_folder(workdir)
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        row = queries.run_named(transaction, name)
        added = list(extend_run(transaction, name, replace(_extension(row, iterations), max_tokens=max_tokens)))
        state, place = state_of(queries.run_named(transaction, name), workdir), transaction.place
    if workdir is not None and state == WAITING:
        return added, f"to let it work: {work_command(name, workdir)}"
    return added, _to_see(name, place)


def _to_see(name: str, place: str) -> str:
    return f"to see it work: restmcts runs watch {quote(name)}{place}"


def _extension(row: "StoredRun", iterations: int) -> "Extension":
    from restmcts.usecases.requested.stored_runs import extension_of

    return extension_of(row, iterations)


@with_flags(RUN_FLAGS, changes_stored=True)
def clone(
    name: Name,
    new_name: Annotated[str, typer.Argument(help="The new run's name.", metavar="NEW")],
    given: list[Setting],
    paused: Annotated[bool, typer.Option("--paused", help="Start only when `runs resume` is called.")] = False,
    workdir: Workdir = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Store a new run with a stored run's settings and problems; flags and [bold]--set[/bold]
    change settings, and all others stay those of the stored run.

    Example: [bold]restmcts runs clone first second --set search.num_alternatives=3[/bold]
    """
    from restmcts.domain.problem_review import ProblemReview
    from restmcts.domain.runs.spec_plan import TEST, TRAIN
    from restmcts.domain.text import check_name

    check_name(new_name, "run")
    print_note(f"restmcts runs clone {quote(name)} {quote(new_name)}")
    from restmcts_cli.remote import client, new_runs

    if workdir is None:
        refuse_plugins_on_stack()
    else:
        check_folder(workdir)
    reviews = {TRAIN: ProblemReview(), TEST: ProblemReview()}
    if (api := client.over_http(workdir)) is not None:
        created = new_runs.clone(api, name, new_name, given, paused, reviews)
    else:
        created = _cloned(workdir, name, new_name, given, paused, reviews)
    if json:
        print_json(created)
    else:
        show_created(created, workdir)


def _cloned(
    workdir: Path | None,
    name: str,
    new_name: str,
    given: list[Setting],
    paused: bool,
    reviews: "dict[str, ProblemReview]",
) -> "CreatedDocument":
    from restmcts.adapters.sql.reads import queries
    from restmcts.usecases.requested.stored_runs import has_other_problems, stored_spec

    with connect(workdir) as connection:
        with connection.database.transaction() as transaction:
            row = queries.run_named(transaction, name)
        stored = stored_spec(row)
        spec = requested_run(None, given, stored)
        made = new_run(connection, new_name, spec, paused, reviews)
        if not has_other_problems(stored, spec):
            bench = _other_bench(stored, spec)
            digests = {name: one for name, one in row.config.get("problems", {}).items() if name not in bench}
            problems = _problems(connection, row.id) | bench
            made = replace(made, problems=problems, config={**made.config, "problems": digests}, paused=paused)
        return store(connection, made)


def _other_bench(stored: "RunSpec", asked: "RunSpec") -> "dict[str, Iterable[Problem]]":
    """Return the set of labelled solutions of a clone that names others than the stored run."""
    from restmcts_cli.experiments.requested_runs import value_bench_set

    return {} if stored.promotion.value_bench == asked.promotion.value_bench else value_bench_set(asked)


def _problems(connection: Connection, run_id: int) -> "dict[str, Iterable[Problem]]":
    from restmcts.usecases.stored_sets import stored_problem_sets

    with connection.database.transaction() as transaction:
        return dict(stored_problem_sets(transaction, run_id))
