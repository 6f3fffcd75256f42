"""`restmcts runs create`: what a person asks for, as phases, problem sets and checkpoints in
the database.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.adapters.files.plugins import plugin_digests
from restmcts.adapters.files.run_files import is_run_file
from restmcts.domain.runs.spec_plan import HELD_OUT, PROBE, TEST, TRAIN
from restmcts.domain.runs.spec_settings import Setting
from restmcts.domain.text import counted
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection, Workdir, api_settings, connect
from restmcts_cli.arguments.dry_runs import DryRun, show_forecast
from restmcts_cli.arguments.plugin_files import Plugins, refuse_plugins_on_stack
from restmcts_cli.arguments.problem_sources import read_source, usable
from restmcts_cli.arguments.run_flags import RUN_FLAGS, with_flags
from restmcts_cli.arguments.run_requests import RUN_FILE_OR_PROBLEMS, requested_run
from restmcts_cli.reports.shown_tables import Json, print_json, print_note

if TYPE_CHECKING:
    from restmcts.domain.problem_review import ProblemReview
    from restmcts.domain.problems import Problem
    from restmcts.domain.runs.spec import RunSpec
    from restmcts.usecases.create import NewRun
    from restmcts.usecases.requested.answers import CreatedDocument


@with_flags(RUN_FLAGS)
def create(
    name: Annotated[str, typer.Argument(help="A new name; every other command finds the run by it.")],
    given: list[Setting],
    run: Annotated[
        str | None,
        typer.Argument(
            help=f"{RUN_FILE_OR_PROBLEMS} If not given, the run is paused until `problems enqueue` fills it.",
            metavar="[RUN.toml|PROBLEMS]",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="The run of `restmcts demo`; a run file and flags override it.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The run of `restmcts demo --quick`; only with --demo.")
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Start only when `runs resume` is called.")] = False,
    project: Annotated[
        str | None, typer.Option(help="The project whose quotas it is under; if not given, it is under none.")
    ] = None,
    workdir: Workdir = None,
    plugin: Plugins = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Store a run; the workers of the stack start it at once, a work folder's run starts with
    [bold]runs work[/bold].

    Example: [bold]restmcts runs create gsm8k hub:openai/gsm8k:main --policy Qwen/Qwen3-0.6B
        --iterations 2[/bold]
    """
    from restmcts.domain.problem_review import ProblemReview
    from restmcts.domain.text import check_name

    check_name(name, "run")
    print_note(f"restmcts runs create {name}")
    from restmcts_cli.experiments.requested_runs import note_reviews

    spec = _asked(run, given, demo, quick, over_http=_is_over_http(workdir, dry_run))
    if workdir is None:
        refuse_plugins_on_stack()
    if dry_run:
        show_forecast(spec, workdir, json, name)
        return
    reviews = {TRAIN: ProblemReview(), TEST: ProblemReview()}
    created = _stored(name, spec, paused, project, workdir, reviews)
    note_reviews(spec, reviews[TRAIN], reviews[TEST])
    if json:
        print_json(created)
    else:
        show_created(created, workdir)


def _is_over_http(workdir: Path | None, dry_run: bool) -> bool:
    is_one = api_settings(workdir) is not None
    if is_one and dry_run:
        raise InputError(
            "--dry-run: over HTTP nothing is forecast; leave it out, or name a work folder (--workdir) to forecast the "
            "run on this machine"
        )
    return is_one


def _stored(
    name: str,
    spec: "RunSpec",
    paused: bool,
    project: str | None,
    workdir: Path | None,
    reviews: "dict[str, ProblemReview]",
) -> "CreatedDocument":
    from restmcts_cli.remote import client, new_runs

    if (api := client.over_http(workdir)) is not None:
        if project is not None:
            raise InputError("--project: over HTTP the token says which project it is; leave it out")
        return new_runs.create(api, name, spec, paused, reviews)
    with connect(workdir, create=True) as connection:
        return store(connection, replace(new_run(connection, name, spec, paused, reviews), project=project))


def _asked(run: str | None, given: list[Setting], demo: bool, quick: bool, *, over_http: bool) -> "RunSpec":
    from restmcts_cli.experiments.demo_plan import DEMO, QUICK, demo_spec

    if quick and not demo:
        raise InputError("--quick goes with --demo")
    own_models = any(setting.name in ("problems", "test", "value") for setting in given)
    if demo and ((run is not None and not is_run_file(run)) or own_models):
        raise InputError("--demo has its own problems and value model; leave out PROBLEMS, --test and --value")
    base = demo_spec(0, QUICK if quick else DEMO) if demo else None
    return requested_run(run, given, base, over_http=over_http)


def new_run(
    connection: Connection, name: str, spec: "RunSpec", paused: bool, reviews: "dict[str, ProblemReview]"
) -> "NewRun":
    """Return the run that a document asks for, ready to be stored.

    Args:
        connection: to where it is to be stored.
        reviews: of the problems for training and for testing, filled while these are read.

    Raises:
        InputError: if a model, a file or a setting cannot be used.
    """
    from restmcts.domain.runs.spec_plan import spec_plan
    from restmcts.usecases.requested import runs as requested

    from restmcts_cli.arguments.model_sources import locate_model
    from restmcts_cli.experiments.requested_runs import models_of

    digests: dict[str, str] = {}

    def locate(model: str, kind: str) -> str:
        uri, digest = locate_model(connection, model, kind)
        digests[uri] = digest
        return uri

    phases = spec_plan(spec)
    models = models_of(spec, locate)
    problems = read_sets(spec, reviews)
    return requested.requested_run(
        name, spec, phases, models, problems, paused=paused, digests=digests, plugins=plugin_digests()
    )


def read_sets(spec: "RunSpec", reviews: "dict[str, ProblemReview]") -> "dict[str, Iterable[Problem]]":
    """Return the problems of a run's sets; those of files are read, and reviewed, as they are
    stored.
    """
    from restmcts.usecases.requested.runs import puzzle_sets

    from restmcts_cli.experiments.requested_runs import value_bench_set

    if spec.puzzles is not None:
        drawn = puzzle_sets(spec.puzzles, spec.seed, spec.iterations)
        return {**{name: members for name, members in drawn.items() if members}, **value_bench_set(spec)}

    def source(given: str, limit: int | None, needs_answers: bool = True) -> "Iterable[Problem]":
        items = read_source(
            given, split=spec.split, seed=spec.seed, strict=spec.strict, limit=limit, needs_answers=needs_answers
        )
        return usable(given, items)

    train = source(spec.problems, spec.limit, spec.truth.knows_answers) if spec.problems is not None else ()
    sets: dict[str, Iterable[Problem]] = {TRAIN: reviews[TRAIN].passing(train), **value_bench_set(spec)}
    if spec.test is not None:
        sets[TEST] = reviews[TEST].passing(source(spec.test, None))
    if spec.probe is not None and spec.probe != HELD_OUT:
        sets[PROBE] = source(spec.probe, None)
    return sets


def store(connection: Connection, new: "NewRun") -> "CreatedDocument":
    """Write the run in one transaction: all of it, or nothing."""
    from restmcts.usecases.requested.answers import CreatedDocument
    from restmcts.usecases.requested.runs import store_requested

    with connection.database.transaction() as transaction:
        created = store_requested(transaction, new)
    state = "paused" if new.paused else "running"
    return CreatedDocument(new.name, created.run_id, state, dict(created.num_problems))


def show_created(created: "CreatedDocument", workdir: Path | None) -> None:
    """Say what was stored, and what can be done with it."""
    place = f" --workdir {quote(str(workdir))}" if workdir is not None else ""
    sets = ", ".join(f"{counted(count, 'problem')} in {name}" for name, count in created.problems.items())
    state = "stored" if workdir is not None and created.state == "running" else created.state
    print_note(f"run {created.run} is {state}: {sets}")
    if created.problems.get(TRAIN) == 0:
        print_note(f"to fill it: restmcts problems enqueue {quote(created.run)} FILE{place}")
    if created.state == "paused":
        print_note(f"to begin: restmcts runs resume {quote(created.run)}{place}")
    elif workdir is not None:
        print_note(f"to work on it: restmcts runs work {quote(created.run)}{place}")
    else:
        print_note(f"to see it work: restmcts runs watch {quote(created.run)}")
