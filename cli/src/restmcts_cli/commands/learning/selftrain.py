"""`restmcts selftrain`: the whole loop on the user's problems and model, in one process."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.method_options import GateMargin, HeldOut, Labels, MaxTokens, Method, apart
from restmcts_cli.arguments.search_options import parse_search
from restmcts_cli.arguments.training_options import Objective, PolicyOptions, ValueOptions, parse_training
from restmcts_cli.reports.shown_tables import console, print_note

if TYPE_CHECKING:
    from restmcts.domain.problems import Problem
    from restmcts.domain.runs.plans import SelfTraining

    from restmcts_cli.reports.run_report_data import Report

RUN_NAME = "selftrain"
MAX_BOOTSTRAP_PROBLEMS = 1000


def selftrain(
    problems: Annotated[
        Path, typer.Argument(help="JSON lines: question (or content, problem), answer, solution (optional).")
    ],
    policy: Annotated[
        str, typer.Option(help="Causal language model: folder, hub id, or openai+http://HOST:PORT/v1?model=NAME.")
    ],
    workdir: Annotated[
        Path, typer.Option(help="Everything the run makes; the same folder goes on with it.", file_okay=False)
    ],
    value: Annotated[
        str | None, typer.Option(help="Value model: folder or hub id. Without: trained from the policy's samples.")
    ] = None,
    method: Method = "rest-mcts",
    labels: Labels = None,
    iterations: Annotated[int, typer.Option(help="Rounds of search and training.")] = 1,
    algorithm: Annotated[
        str, typer.Option(help="How trees are collected: mcts-star, best-of-n, step-beam, tot-bfs, …")
    ] = "mcts-star",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="A setting of the algorithm, e.g. branch=4.")
    ] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Generated tokens a tree.", min=1)] = None,
    budget_iterations: Annotated[int | None, typer.Option(help="Rounds of the algorithm a tree.", min=1)] = 16,
    max_tokens: MaxTokens = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first so many problems.", min=1)] = None,
    held_out: HeldOut = 200,
    gate_margin: GateMargin = 1.0,
    test: Annotated[Path | None, typer.Option(help="Held-out problems on which every policy is graded.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad line instead of reporting it.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides every sample and the order of training data.", min=0)] = 0,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 0.7,
    max_step_tokens: Annotated[int, typer.Option(help="New tokens of one step at most.", min=1)] = 256,
    max_solution_tokens: Annotated[int, typer.Option(help="New tokens of a whole solution at most.", min=1)] = 1024,
    top_k: Annotated[
        int | None, typer.Option(help="Right traces a problem that train the policy; all if not given.", min=1)
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.", min=1)] = 2,
    batch_size: Annotated[int, typer.Option(help="Examples of one training step.", min=1)] = 8,
    policy_learning_rate: Annotated[float, typer.Option(help="Peak rate of the policy's training.")] = 1e-5,
    value_learning_rate: Annotated[float, typer.Option(help="Peak rate of the value model's training.")] = 2e-5,
    policy_option: PolicyOptions = None,
    value_option: ValueOptions = None,
    value_objective: Objective = "mse",
    template: Annotated[
        str, typer.Option(help="Prompts: auto (the model's own), chat, plain, raw, few-shot, steps-en, steps-zh.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="Of torch: cpu, cuda, cuda:1, …")] = "cpu",
    trees_in_flight: Annotated[int, typer.Option(help="Trees searched side by side.", min=1)] = 64,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one line of JSON.")] = False,
) -> None:
    """Let a model teach itself your problems: search, verify, infer the value of every step, train
    both models, again.

    Killed at any moment and started again with the same [bold]--workdir[/bold], it goes on where it
    was. The report lies in [bold]WORKDIR/report.html[/bold], the checkpoints in
    [bold]WORKDIR/artifacts[/bold].
    """
    from restmcts.domain.labels.filtering import TraceFilter
    from restmcts.domain.requests import GenerationSettings
    from restmcts.domain.runs.plans import SelfTraining
    from restmcts.domain.runs.promotion import GateSettings
    from restmcts.domain.runs.training_settings import TrainingSettings
    from restmcts.domain.search.protocol import Budget
    from restmcts_local.local_run import ModelOptions

    from restmcts_cli.arguments.model_sources import checkpoint_argument

    begin = time.monotonic()
    training = TrainingSettings(num_epochs=epochs, batch_size=batch_size, seed=seed, template=template)
    loop = SelfTraining(
        num_iterations=iterations,
        train_sets=("train",) * max(iterations, 0),
        bootstrap_set="bootstrap",
        method=method,
        first_labels=labels,
        search=parse_search(algorithm, option or (), mode="collect", gate=None),
        budget=Budget(tokens=budget_tokens, iterations=budget_iterations),
        generation=GenerationSettings(
            temperature=temperature,
            max_step_tokens=max_step_tokens,
            max_solution_tokens=max_solution_tokens,
            template=template,
        ),
        given_value=value is not None,
        policy_training=parse_training(replace(training, learning_rate=policy_learning_rate), policy_option),
        value_training=parse_training(replace(training, learning_rate=value_learning_rate), value_option),
        value_objective=value_objective,
        traces=TraceFilter(top_k=top_k),
        held_out_set="held-out" if held_out else None,
        gate=GateSettings(gate_margin, held_out),
        test_set="test" if test is not None else None,
    )
    members = load_problem_file(problems, strict, limit)
    apart_members, train = apart(members, held_out)
    sets = {"train": train, "held-out": apart_members}
    sets["bootstrap"] = sets["train"][:MAX_BOOTSTRAP_PROBLEMS]
    if test is not None:
        sets["test"] = load_problem_file(test, strict, None)
    checkpoints = {"base": ("policy", checkpoint_argument(policy, "policy", trust_remote_code))}
    if value is not None:
        checkpoints["value-0"] = ("value", checkpoint_argument(value, "value", trust_remote_code))
    options = ModelOptions(template, device, trust_remote_code, max_trees_in_flight=trees_in_flight)
    report = _run(workdir, options, loop, sets, checkpoints, seed, max_tokens, begin)
    _show(report, workdir / "report.html", json)


def load_problem_file(path: Path, strict: bool, limit: int | None) -> "list[Problem]":
    """Return the problems of a file of JSON lines; tell of every bad line, and pass over it."""
    from restmcts.adapters.files.problem_files import load_problems

    members, bad_lines = load_problems(path, strict=strict, limit=limit)
    for bad in bad_lines:
        print_note(f"{path}, line {bad.line_number}: {bad.reason}; passed over")
    return members


def _run(
    workdir: Path,
    options: Any,
    loop: "SelfTraining",
    sets: "dict[str, list[Problem]]",
    checkpoints: dict[str, tuple[str, str]],
    seed: int,
    max_tokens: int | None,
    begin: float,
) -> "Report":
    from restmcts.domain.runs.plans import self_training_plan
    from restmcts_local.local_run import LocalRun

    from restmcts_cli.reports.live_display import LiveDisplay

    plan = self_training_plan(loop)
    config = run_config(loop, sets, checkpoints, seed)
    display = LiveDisplay(f"restmcts selftrain in {workdir}")
    with LocalRun(workdir, options, display.on_training) as run, display:
        known = run.find(RUN_NAME)
        if known is not None and known.config != config:
            changed = ", ".join(sorted(name for name in config if known.config.get(name) != config[name]))
            raise InputError(
                f"{workdir} holds a run with other settings ({changed}); give them again or choose another --workdir"
            )
        if known is None:
            run_id = run.create(RUN_NAME, loop.method, seed, config, sets, checkpoints, plan, max_tokens)
        else:
            run_id = run.known(known, max_tokens)
        display.watch(run.database, run_id)
        run.run(run_id, takes_max_tokens=True)
        return _report(run, run_id, workdir, loop, seed, begin)


def run_config(
    loop: "SelfTraining", sets: "dict[str, list[Problem]]", checkpoints: dict[str, tuple[str, str]], seed: int
) -> dict[str, Any]:
    """Return what makes a run the same run, as JSON."""
    from pydantic import TypeAdapter
    from restmcts.domain.runs.plans import SelfTraining

    def digest(members: "Sequence[Problem]") -> str:
        return hashlib.sha256(repr(members).encode()).hexdigest()

    return {
        **TypeAdapter(SelfTraining).dump_python(loop, mode="json"),
        "problems": {name: digest(members) for name, members in sets.items()},
        "checkpoints": {name: uri for name, (_, uri) in checkpoints.items()},
        "seed": seed,
    }


def _report(run: Any, run_id: int, workdir: Path, loop: "SelfTraining", seed: int, begin: float) -> "Report":
    from restmcts_cli.reports.run_report_data import Report
    from restmcts_cli.reports.run_results import example_tree, failed_trees, iteration_results

    num_failed = failed_trees(run.database, run_id)
    return Report(
        title=f"{loop.method} self-training",
        command=f"restmcts selftrain … --workdir {workdir} --seed {seed}",
        seed=seed,
        seconds=time.monotonic() - begin,
        iterations=iteration_results(run.database, run_id),
        tree=example_tree(run.database, run_id, f"collect-{loop.num_iterations}")
        or example_tree(run.database, run_id, "collect-1"),
        notes=(f"{num_failed} trees failed; their reasons are in the table `trees` of run.db.",) if num_failed else (),
    )


def _show(report: "Report", page: Path, json: bool) -> None:
    from restmcts_cli.reports.run_report import render_table, write_report
    from restmcts_cli.reports.run_report_data import json_line

    write_report(report, page)
    shown = console(stderr=json)
    shown.print(render_table(report))
    shown.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    if json:
        typer.echo(json_line(report, str(page)))
