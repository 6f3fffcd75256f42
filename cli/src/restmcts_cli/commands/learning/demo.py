"""`restmcts demo`: a small model teaches itself the number paths puzzle, end to end, on this
machine.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restmcts_cli.reports.shown_tables import console

if TYPE_CHECKING:
    from restmcts_local.local_run import LocalRun

    from restmcts_cli.experiments.demo_plan import DemoSize
    from restmcts_cli.reports.run_report_data import Report

RUN_NAME = "demo"


def demo(
    seed: Annotated[int, typer.Option(help="Decides the puzzles, the first weights and every sample.", min=0)] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke run of under a minute; its numbers claim nothing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for report.html.", file_okay=False)] = Path("demo-out"),
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one line of JSON.")] = False,
) -> None:
    """Watch a small model teach itself a puzzle: no server, no GPU, no download, a few minutes.

    A Llama of 90,000 parameters learns to write moves of the puzzle "number paths" from clumsy
    demonstrations. Then, twice: MCTS* searches fresh puzzles under a value model, answers are
    verified, the value of every step is inferred from the trees, and both models are trained on
    what was found. At the end: accuracy by iteration beside a control that only saw the
    demonstrations again, and every search method at equal tokens. All of it runs through the same
    handlers, queue and store as a cluster would.
    """
    from restmcts_cli.reports.run_report import render_table, write_report
    from restmcts_cli.reports.run_report_data import json_line

    begin = time.monotonic()
    with _workdir() as workdir:
        report = _run(seed, quick, workdir, begin)
    page = out / "report.html"
    write_report(report, page)
    shown = console(stderr=json)
    shown.print(render_table(report))
    shown.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    if json:
        typer.echo(json_line(report, str(page)))


@contextmanager
def _workdir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="restmcts-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(seed: int, quick: bool, workdir: Path, begin: float) -> "Report":
    import torch
    from restmcts_local.local_run import LocalRun, ModelOptions

    from restmcts_cli.experiments.demo_plan import QUICK, DemoSize, base_policy, demo_plan, demo_problems
    from restmcts_cli.reports.live_display import LiveDisplay

    # The model is too small for its products to be shared between threads: two cost more than they
    # bring.
    torch.set_num_threads(1)
    # Keys and values are not kept: to look them up takes longer than so small a model does
    # (decision 0013).
    options = ModelOptions(
        max_trees_in_flight=1100,
        max_batch_tokens=65_536,
        key_value_bytes=0,
        num_training_threads=1,
        keep_training_logs=False,
    )
    size = QUICK if quick else DemoSize()
    display = LiveDisplay(f"restmcts demo, seed {seed}")
    with LocalRun(workdir, options, display.on_training) as run, display:
        checkpoints = {"base": ("policy", base_policy(seed))}
        run_id = run.create(
            RUN_NAME, "rest-mcts", seed, {}, demo_problems(seed, size), checkpoints, demo_plan(seed, size)
        )
        display.watch(run.database, run_id)
        run.run(run_id)
        return _report(run, run_id, seed, size, begin)


def _report(run: "LocalRun", run_id: int, seed: int, size: "DemoSize", begin: float) -> "Report":
    from restmcts_cli.experiments.demo_plan import NUM_ITERATIONS, QUICK, comparison_names, settings_shown
    from restmcts_cli.reports.exact_value_check import evaluate_checkpoints
    from restmcts_cli.reports.run_report_data import Report
    from restmcts_cli.reports.run_results import example_tree, iteration_results, search_results

    quick = size == QUICK
    return Report(
        title="ReST-MCTS*: a small model teaches itself number paths",
        command=f"restmcts demo --seed {seed}" + (" --quick" if quick else ""),
        seed=seed,
        seconds=time.monotonic() - begin,
        iterations=iteration_results(run.database, run_id),
        search=search_results(run.database, run_id, comparison_names(size)),
        values=evaluate_checkpoints(run, run_id, comparison_names(size)[1][0]),
        tree=example_tree(run.database, run_id, f"collect-{NUM_ITERATIONS}"),
        settings=settings_shown(),
        notes=("A smoke run: far too little of everything for its numbers to mean anything.",) if quick else (),
    )
