"""`restmcts compare`: self-training methods side by side, under one budget, over several seeds,
with their control.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.adapters.files.run_files import is_run_file
from restmcts.domain.runs.spec_settings import Setting, settings_of
from restmcts.errors import InputError

from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.arguments.run_flags import COMPARE_FLAGS, with_flags
from restmcts_cli.arguments.run_requests import RUN_FILE_OR_PROBLEMS, requested_run, requested_settings
from restmcts_cli.reports.shown_tables import console, print_note

if TYPE_CHECKING:
    from restmcts.domain.runs.spec import RunSpec

PASS_AT = 8
Seeds = Annotated[
    str, typer.Option(help="How many seeds, from 0 on (3); or which ones (20,21,22).", metavar="COUNT|LIST")
]
Repeats = Annotated[int, typer.Option(help="How often each method is trained with each seed, in another order.", min=1)]
PassAt = Annotated[
    int | None,
    typer.Option(
        "--pass-at",
        help="Samples of each method's last policy for every test problem, of which one must be right; 0: none. "
        "If not given, 8 for the puzzle, else none.",
        min=0,
    ),
]
MAX_SEEDS = 1000
# What a comparison on a person's own problems has in place of a run's defaults: a number of steps,
# so that all methods train as long.
OWN_PROBLEMS = {
    "iterations": 2,
    "budget": {"iterations": None},
    "policy_training": {"num_steps": 200},
    "value_training": {"num_steps": 200},
    "models": {"trees_in_flight": 1100, "max_batch_tokens": 65_536},
}


@with_flags(COMPARE_FLAGS)
def compare(
    given: list[Setting],
    run: Annotated[
        str | None,
        typer.Argument(help=f"{RUN_FILE_OR_PROBLEMS} If not given, the demo's puzzle.", metavar="[RUN.toml|PROBLEMS]"),
    ] = None,
    methods: Annotated[str, typer.Option(help="Names, separated by commas.")] = "rest-mcts,rest-mcts-paper,rest-em",
    iterations: Annotated[
        int | None, typer.Option(help="Rounds of every method; if not given, the run file's, or 2.", min=1)
    ] = None,
    seeds: Seeds = "3",
    repeats: Repeats = 1,
    pass_at: PassAt = None,
    workdir: Annotated[
        Path, typer.Option(help="Folder for everything that is made; the same folder resumes it.", file_okay=False)
    ] = Path("compare-out"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="The puzzle at the size of `demo --quick`: about a minute for each method and seed."
        ),
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the table to this file, as Markdown.", dir_okay=False)
    ] = None,
    plugin: Plugins = None,
    json: Annotated[bool, typer.Option("--json", help="End with all numbers as one line of JSON.")] = False,
) -> None:
    """Compare self-training methods: the same problems, first policy, training steps and tokens,
    one table with errors.

    The control trains the first policy for as many steps on the seed data alone (the puzzle's
    demonstrations; the solutions that PROBLEMS give, where they do). A comparison that was killed
    at any moment is resumed when it is started again with the same [bold]--workdir[/bold].

    Example: [bold]restmcts compare --methods rest-mcts,rest-em --iterations 2 --seeds 3[/bold]
    """
    begin = time.monotonic()
    names = _names(methods)
    print_note(f"restmcts compare in {workdir}: {', '.join(names)}")
    rounds = [Setting("iterations", iterations, "--iterations")] if iterations is not None else []
    spec = _compared(run, [*rounds, *given], quick)
    from restmcts_cli.experiments.comparison_runs import StudyPlan, run_study, study_of
    from restmcts_cli.experiments.demo_plan import SEARCHES_OF_METHODS
    from restmcts_cli.reports.comparison_report import json_line, markdown_table, render, write_markdown

    num_samples = pass_at if pass_at is not None else PASS_AT if run is None else 0
    searches = SEARCHES_OF_METHODS if run is None else {}
    named = frozenset(setting.name for setting in requested_settings(run, given))
    plan = StudyPlan(names, seeds_of(seeds), searches, repeats, num_samples, named)
    comparison = run_study(study_of(spec, plan), workdir)
    shown = console(stderr=json)
    shown.print(render(comparison))
    shown.print(
        f"{time.monotonic() - begin:.0f} s; everything is in {workdir}", markup=False, highlight=False, soft_wrap=True
    )
    if markdown is not None:
        write_markdown(markdown, markdown_table(comparison))
    if json:
        typer.echo(json_line(comparison))


def _names(methods: str) -> tuple[str, ...]:
    from restmcts.domain.runs.methods import METHODS

    names = tuple(name.strip() for name in methods.split(","))
    for name in names:
        METHODS.get(name)
    if len(set(names)) < len(names):
        raise InputError(f"--methods names one twice: {methods}")
    return names


def seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds that are meant by a count or a list."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts if part or len(parts) == 1):
        raise InputError(f"--seeds {text}: give a count such as 3, or a list such as 20,21,22")
    numbers = tuple(int(part) for part in parts if part)
    if len(parts) == 1:
        numbers = tuple(range(min(numbers[0], MAX_SEEDS)))
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"--seeds {text}: give at least one seed, and none twice")
    return numbers


def _compared(run: str | None, given: list[Setting], quick: bool) -> "RunSpec":
    """Return the run that every method does in its own way."""
    from restmcts_cli.experiments.demo_plan import QUICK, DemoSize, demo_spec

    typed = {setting.name for setting in given}
    if run is None:
        if typed & {"policy", "test"}:
            raise InputError("--policy and --test go with PROBLEMS")
        puzzle = demo_spec(0, QUICK if quick else DemoSize())
        return requested_run(None, given, puzzle)
    if quick:
        raise InputError("--quick is the puzzle's; leave it out with PROBLEMS or a run file")
    spec = requested_run(run, given if is_run_file(run) else [*settings_of(OWN_PROBLEMS, ""), *given])
    has_test = spec.test is not None or spec.puzzles is not None
    if spec.policy is None or not has_test or spec.budget.tokens is None:
        raise InputError("with PROBLEMS give --policy, --test and --budget-tokens; in a run file, budget.tokens")
    return spec
