"""`restmcts runs create`: what a person asks for, as phases, problem sets and checkpoints in
the database.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.arguments.method_options import GateMargin, HeldOut, Labels, MaxTokens, Method, is_held_out
from restmcts_cli.arguments.problem_sources import SOURCES, read_source
from restmcts_cli.arguments.search_options import parse_search
from restmcts_cli.arguments.training_options import Objective, PolicyOptions, ValueOptions, parse_training
from restmcts_cli.reports.shown_tables import Json, print_json, print_note

if TYPE_CHECKING:
    from restmcts.adapters.files.problem_files import BadLine
    from restmcts.adapters.sql.database import Transaction
    from restmcts.domain.problems import Problem
    from restmcts.domain.runs.phases import Phase
    from restmcts.domain.runs.plans import SelfTraining

TRAIN, BOOTSTRAP, HELD_OUT, TEST = "train", "bootstrap", "held-out", "test"
MAX_BOOTSTRAP_PROBLEMS = 1000
BASE, FIRST_VALUE = "base", "value-0"


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


def create(
    name: Annotated[str, typer.Argument(help="A new name, by which every other command knows the run.")],
    problems: Annotated[
        str | None, typer.Argument(help=f"{SOURCES} Without: paused, `problems enqueue` fills it.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="Language model: folder (goes to the stack), hub id, openai+http://… or artifact:…."),
    ] = None,
    value: Annotated[str | None, typer.Option(help="Value model. Without: trained from the policy's samples.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="The run of `restmcts demo`; --policy replaces its base.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --demo: far less of everything.")] = False,
    method: Method = "rest-mcts",
    labels: Labels = None,
    iterations: Annotated[int, typer.Option(help="Rounds of search and training.", min=1)] = 1,
    algorithm: Annotated[
        str, typer.Option(help="How trees are collected: mcts-star, best-of-n, step-beam, …")
    ] = "mcts-star",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="A setting of the algorithm, e.g. branch=4.")
    ] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Generated tokens a tree.", min=1)] = None,
    budget_iterations: Annotated[int | None, typer.Option(help="Rounds of the algorithm a tree.", min=1)] = 16,
    max_tokens: MaxTokens = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first so many problems.", min=1)] = None,
    test: Annotated[str | None, typer.Option(help="Held-out problems on which every policy is graded.")] = None,
    split: Annotated[str, typer.Option(help="Of a data set of the hub.")] = "train",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad line instead of reporting it.")
    ] = False,
    held_out: HeldOut = 200,
    gate_margin: GateMargin = 1.0,
    seed: Annotated[int, typer.Option(help="Decides every sample and the order of training data.", min=0)] = 0,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 0.7,
    max_step_tokens: Annotated[int, typer.Option(help="New tokens of one step at most.", min=1)] = 256,
    template: Annotated[
        str, typer.Option(help="Prompts: auto (the model's own), chat, plain, raw, few-shot, steps-en, steps-zh.")
    ] = "auto",
    top_k: Annotated[
        int | None, typer.Option(help="Right traces a problem that train the policy; without: all.", min=1)
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.", min=1)] = 2,
    batch_size: Annotated[int, typer.Option(help="Examples of one training step.", min=1)] = 8,
    policy_learning_rate: Annotated[float, typer.Option(help="Peak rate of the policy's training.")] = 1e-5,
    value_learning_rate: Annotated[float, typer.Option(help="Peak rate of the value model's training.")] = 2e-5,
    policy_option: PolicyOptions = None,
    value_option: ValueOptions = None,
    value_objective: Objective = "mse",
    paused: Annotated[bool, typer.Option("--paused", help="Begin only at `runs resume`.")] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Store a run; the workers of the stack begin at once, a work folder's run begins at [bold]runs
    work[/bold].

    Example: [bold]restmcts runs create gsm8k hub:openai/gsm8k:main --policy Qwen/Qwen3-0.6B
        --iterations 2[/bold]
    """
    from restmcts.domain.labels.filtering import TraceFilter
    from restmcts.domain.requests import GenerationSettings
    from restmcts.domain.runs.plans import SelfTraining
    from restmcts.domain.runs.promotion import GateSettings
    from restmcts.domain.runs.training_settings import TrainingSettings
    from restmcts.domain.search.protocol import Budget

    if quick and not demo:
        raise InputError("--quick goes with --demo")
    if demo and (problems is not None or test is not None or value is not None):
        raise InputError("--demo brings its own problems and value model; leave out PROBLEMS, --test and --value")
    if not demo and policy is None:
        raise InputError("name the model that is to learn: --policy FOLDER, hub id or artifact:… (or --demo)")

    def training(learning_rate: float) -> TrainingSettings:
        return TrainingSettings(
            learning_rate=learning_rate, num_epochs=epochs, batch_size=batch_size, seed=seed, template=template
        )

    def source(given: str | None) -> "Iterable[Problem]":
        return (
            usable(given, read_source(given, split=split, seed=seed, strict=strict, limit=limit))
            if given is not None
            else ()
        )

    loop = SelfTraining(
        num_iterations=iterations,
        train_sets=(TRAIN,) * iterations,
        bootstrap_set=BOOTSTRAP,
        method=method,
        first_labels=labels,
        search=parse_search(algorithm, option or (), mode="collect", gate=None),
        budget=Budget(tokens=budget_tokens, iterations=budget_iterations),
        generation=GenerationSettings(temperature=temperature, max_step_tokens=max_step_tokens, template=template),
        given_value=value is not None,
        policy_training=parse_training(training(policy_learning_rate), policy_option),
        value_training=parse_training(training(value_learning_rate), value_option),
        value_objective=value_objective,
        traces=TraceFilter(top_k=top_k),
        held_out_set=HELD_OUT if held_out else None,
        gate=GateSettings(gate_margin, held_out),
        test_set=TEST if test is not None else None,
    )
    with connect(workdir, create=True) as connection:
        if demo:
            new = _demo_run(connection, name, policy, seed, quick, paused, max_tokens)
        else:
            sets = {TRAIN: source(problems), **({TEST: source(test)} if test is not None else {})}
            models = _models(connection, {BASE: ("policy", policy), FIRST_VALUE: ("value", value)})
            new = _own_run(name, seed, loop, sets, models, paused or problems is None, max_tokens)
        document = _store(connection, new)
    if json:
        print_json(document)
    else:
        _tell(document, workdir)


def _own_run(
    name: str,
    seed: int,
    loop: "SelfTraining",
    sets: "dict[str, Iterable[Problem]]",
    models: dict[str, tuple[str, str]],
    paused: bool,
    max_tokens: int | None,
) -> NewRun:
    from pydantic import TypeAdapter
    from restmcts.domain.runs.plans import SelfTraining, self_training_plan

    config = TypeAdapter(SelfTraining).dump_python(loop, mode="json")
    return NewRun(name, loop.method, seed, config, self_training_plan(loop), sets, models, paused, max_tokens)


def _demo_run(
    connection: Connection, name: str, policy: str | None, seed: int, quick: bool, paused: bool, max_tokens: int | None
) -> NewRun:
    from restmcts_cli.experiments.demo_plan import QUICK, DemoSize, base_policy, demo_plan, demo_problems

    size = QUICK if quick else DemoSize()
    fresh = base_policy(seed)
    models = _models(connection, {BASE: ("policy", policy)}) if policy is not None else {BASE: (fresh, fresh)}
    problems: dict[str, Iterable[Problem]] = dict(demo_problems(seed, size))
    config = {"demo": "quick" if quick else "full"}
    return NewRun(name, "rest-mcts", seed, config, demo_plan(seed, size), problems, models, paused, max_tokens)


def _models(connection: Connection, given: dict[str, tuple[str, str | None]]) -> dict[str, tuple[str, str]]:
    from restmcts_cli.arguments.model_sources import locate_model

    return {name: locate_model(connection, model, kind) for name, (kind, model) in given.items() if model is not None}


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
    phase uses one that has no problems of its own.
    """
    from restmcts.adapters.sql import queries
    from restmcts.usecases import steer

    run = queries.run_named(transaction, run_name)
    phases = queries.phase_numbers(transaction, run.id)
    sizes = {row["set"]: row["num_problems"] for row in queries.list_problem_sets(transaction, run.id)}
    bootstraps = any(phase.purpose == "bootstrap" for phase in phases) and run.config.get("bootstrap_set") == BOOTSTRAP
    num_held_out = run.config["gate"]["num_problems"] if run.config.get("held_out_set") == HELD_OUT else 0
    limits = {BOOTSTRAP: MAX_BOOTSTRAP_PROBLEMS if bootstraps else 0, HELD_OUT: num_held_out}
    room = {name: limit - sizes.get(name, 0) if set_name == TRAIN else 0 for name, limit in limits.items()}
    kept: dict[str, list[Problem]] = {BOOTSTRAP: [], HELD_OUT: []}

    def passed_on() -> "Iterator[Problem]":
        for number, problem in enumerate(problems):
            if len(kept[HELD_OUT]) < room[HELD_OUT] and is_held_out(number):
                kept[HELD_OUT].append(problem)
                continue
            if len(kept[BOOTSTRAP]) < room[BOOTSTRAP]:
                kept[BOOTSTRAP].append(problem)
            yield problem

    counts = {set_name: steer.append_problems(transaction, run_name, set_name, passed_on())}
    return counts | {
        name: steer.append_problems(transaction, run_name, name, found) for name, found in kept.items() if found
    }


def usable(source: str, items: "Iterable[Problem | BadLine]") -> "Iterator[Problem]":
    """Yield the problems; tell of every bad line, and pass over it."""
    from restmcts.domain.problems import Problem

    for item in items:
        if isinstance(item, Problem):
            yield item
        else:
            print_note(f"{source}, line {item.line_number}: {item.reason}; passed over")


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
