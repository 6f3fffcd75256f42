"""`restmcts runs create`: what a person asks for, as phases, problem sets and checkpoints in
the database.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.adapters.files.run_files import is_run_file
from restmcts.domain.runs.spec_plan import BOOTSTRAP, FIRST_VALUE, HELD_OUT, SEEDS, TEST, TRAIN
from restmcts.domain.runs.spec_settings import Setting
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.arguments.method_options import is_held_out
from restmcts_cli.arguments.problem_sources import read_source, usable
from restmcts_cli.arguments.run_flags import RUN_FLAGS, with_flags
from restmcts_cli.arguments.run_requests import RUN_FILE_OR_PROBLEMS, requested_run
from restmcts_cli.reports.shown_tables import Json, print_json, print_note

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Transaction
    from restmcts.domain.problems import Problem
    from restmcts.domain.runs.phases import Phase
    from restmcts.domain.runs.spec import RunSpec


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be stored; problems are read as they are stored."""

    name: str
    method: str
    seed: int
    config: dict[str, Any]
    phases: "list[Phase]"
    problems: "dict[str, Iterable[Problem]]"
    models: dict[str, tuple[str, str]]
    paused: bool
    max_tokens: int | None


@with_flags(RUN_FLAGS)
def create(
    name: Annotated[str, typer.Argument(help="A new name, by which every other command knows the run.")],
    given: list[Setting],
    run: Annotated[
        str | None,
        typer.Argument(
            help=f"{RUN_FILE_OR_PROBLEMS} Without: the run is paused until `problems enqueue` fills it.",
            metavar="[RUN.toml|PROBLEMS]",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="The run of `restmcts demo`; a run file and flags override it.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --demo: far less of everything.")] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Begin only at `runs resume`.")] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Store a run; the workers of the stack begin at once, a work folder's run begins at [bold]runs
    work[/bold].

    Example: [bold]restmcts runs create gsm8k hub:openai/gsm8k:main --policy Qwen/Qwen3-0.6B
        --iterations 2[/bold]
    """
    spec = _asked(run, given, demo, quick)
    with connect(workdir, create=True) as connection:
        document = _store(connection, _new_run(connection, name, spec, paused))
    if json:
        print_json(document)
    else:
        _tell(document, workdir)


def _asked(run: str | None, given: list[Setting], demo: bool, quick: bool) -> "RunSpec":
    from restmcts_cli.experiments.demo_plan import QUICK, DemoSize, demo_spec

    if quick and not demo:
        raise InputError("--quick goes with --demo")
    own_models = any(setting.name in ("problems", "test", "value") for setting in given)
    if demo and ((run is not None and not is_run_file(run)) or own_models):
        raise InputError("--demo brings its own problems and value model; leave out PROBLEMS, --test and --value")
    return requested_run(run, given, demo_spec(0, QUICK if quick else DemoSize()) if demo else None)


def _new_run(connection: Connection, name: str, spec: "RunSpec", paused: bool) -> NewRun:
    from restmcts.domain.runs.spec_plan import spec_plan

    from restmcts_cli.arguments.model_sources import locate_model
    from restmcts_cli.experiments.requested_runs import models_of, run_config

    digests: dict[str, str] = {}

    def locate(model: str, kind: str) -> str:
        uri, digest = locate_model(connection, model, kind)
        digests[uri] = digest
        return uri

    phases = spec_plan(spec)
    models = models_of(spec, locate)
    return NewRun(
        name=name,
        method=spec.method,
        seed=spec.seed,
        config=run_config(spec, models, {}),
        phases=phases,
        problems=_problems(spec),
        models={checkpoint: (uri, digests.get(uri, uri)) for checkpoint, (_, uri) in models.items()},
        paused=paused or (spec.problems is None and spec.puzzles is None),
        max_tokens=spec.max_tokens,
    )


def _problems(spec: "RunSpec") -> "dict[str, Iterable[Problem]]":
    """Return the problems of a run's sets; those of files are read as they are stored."""
    from restmcts_cli.experiments.requested_runs import puzzle_sets

    if spec.puzzles is not None:
        return dict(puzzle_sets(spec.puzzles, spec.seed, spec.iterations))

    def source(given: str, limit: int | None) -> "Iterable[Problem]":
        items = read_source(given, split=spec.split, seed=spec.seed, strict=spec.strict, limit=limit)
        return usable(given, items)

    sets: dict[str, Iterable[Problem]] = {TRAIN: source(spec.problems, spec.limit) if spec.problems is not None else ()}
    return sets | ({TEST: source(spec.test, None)} if spec.test is not None else {})


def _store(connection: Connection, new: NewRun) -> dict[str, Any]:
    """Write the run in one transaction: all of it, or nothing."""
    from restmcts.adapters.sql import runs
    from restmcts.usecases import steer

    with connection.database.transaction() as transaction:
        run_id = runs.create_run(transaction, new.name, new.method, new.seed, new.config, new.max_tokens)
        runs.add_phases(transaction, run_id, new.phases)
        for name, (uri, digest) in new.models.items():
            kind = "value" if name == FIRST_VALUE else "policy"
            runs.add_checkpoint(transaction, run_id, name, kind, uri, digest)
        counts: dict[str, int] = {}
        for set_name, members in new.problems.items():
            counts |= add_to_set(transaction, new.name, set_name, members)
        empty = next((name for name, count in counts.items() if not count and not (name == TRAIN and new.paused)), None)
        if empty is not None:
            raise InputError(f"no usable problem for the set {empty!r}; each needs a question and an answer")
        if new.paused:
            steer.hold(transaction, run_id)
        else:
            steer.begin(transaction, run_id)
    return {"run": new.name, "id": run_id, "state": "paused" if new.paused else "running", "problems": counts}


def add_to_set(
    transaction: "Transaction", run_name: str, set_name: str, problems: "Iterable[Problem]"
) -> dict[str, int]:
    """Add problems to a set of a run as they come; return how many by set.

    Of the problems for the set "train" one in ten is held out, until the run has as many as it
    judges new checkpoints on: they go to the set "held-out". The first thousand of the others are
    also those from which the first value model is trained: they fill the set "bootstrap" where a
    phase uses one that has no problems of its own. Those with a solution are also the set "seeds"
    of a run whose first policy is trained on given solutions.
    """
    from restmcts.adapters.sql import queries
    from restmcts.usecases import steer

    from restmcts_cli.experiments.requested_runs import MAX_BOOTSTRAP_PROBLEMS

    run = queries.run_named(transaction, run_name)
    phases = queries.phase_numbers(transaction, run.id)
    sizes = {row["set"]: row["num_problems"] for row in queries.list_problem_sets(transaction, run.id)}
    bootstraps = any(phase.purpose == "bootstrap" for phase in phases) and run.config.get("bootstrap_set") == BOOTSTRAP
    num_held_out = run.config["gate"]["num_problems"] if run.config.get("held_out_set") == HELD_OUT else 0
    limits = {BOOTSTRAP: MAX_BOOTSTRAP_PROBLEMS if bootstraps else 0, HELD_OUT: num_held_out}
    room = {name: limit - sizes.get(name, 0) if set_name == TRAIN else 0 for name, limit in limits.items()}
    kept: dict[str, list[Problem]] = {BOOTSTRAP: [], HELD_OUT: [], SEEDS: []}
    has_seeds = set_name == TRAIN and run.config.get("seed_set") == SEEDS

    def passed_on() -> "Iterator[Problem]":
        for number, problem in enumerate(problems):
            if len(kept[HELD_OUT]) < room[HELD_OUT] and is_held_out(number):
                kept[HELD_OUT].append(problem)
                continue
            if len(kept[BOOTSTRAP]) < room[BOOTSTRAP]:
                kept[BOOTSTRAP].append(problem)
            if has_seeds and problem.solution:
                kept[SEEDS].append(problem)
            yield problem

    counts = {set_name: steer.append_problems(transaction, run_name, set_name, passed_on())}
    return counts | {
        name: steer.append_problems(transaction, run_name, name, found) for name, found in kept.items() if found
    }


def _tell(document: dict[str, Any], workdir: Path | None) -> None:
    place = f" --workdir {workdir}" if workdir is not None else ""
    sets = ", ".join(f"{count:,} problems in {name}" for name, count in document["problems"].items())
    print_note(f"run {document['run']} is {document['state']}: {sets}")
    if document["problems"].get(TRAIN) == 0:
        print_note(f"to fill it: restmcts problems enqueue {document['run']} FILE{place}")
    if document["state"] == "paused":
        print_note(f"to begin: restmcts runs resume {document['run']}{place}")
    elif workdir is not None:
        print_note(f"to work on it: restmcts runs work {document['run']}{place}")
    else:
        print_note(f"to see it work: restmcts runs watch {document['run']}")
