"""`restmcts compare`: self-training methods side by side, under one budget, over several seeds,
with their control.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.reports.shown_tables import console

if TYPE_CHECKING:
    from restmcts_cli.experiments.comparison_runs import Study

DEMO_BUDGET_TOKENS = 110


def compare(
    problems: Annotated[
        Path | None, typer.Argument(help="Problems to train on, JSON lines; without: the demo's puzzle.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Names, separated by commas.")] = "rest-mcts,rest-em,self-rewarding",
    iterations: Annotated[int, typer.Option(help="Rounds of every method.", min=1)] = 2,
    seeds: Annotated[int, typer.Option(help="How often everything is done, with the seeds 0, 1, …", min=1)] = 3,
    workdir: Annotated[
        Path, typer.Option(help="Everything that is made; the same folder goes on with it.", file_okay=False)
    ] = Path("compare-out"),
    budget_tokens: Annotated[
        int | None,
        typer.Option(help=f"Generated tokens a problem and iteration; for the puzzle {DEMO_BUDGET_TOKENS}.", min=1),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The puzzle in smoke size; its numbers claim nothing.")
    ] = False,
    policy: Annotated[str | None, typer.Option(help="With PROBLEMS: causal language model, folder or hub id.")] = None,
    test: Annotated[Path | None, typer.Option(help="With PROBLEMS: those on which every policy is graded.")] = None,
    limit: Annotated[int | None, typer.Option(help="With PROBLEMS: use only the first so many.", min=1)] = None,
    steps: Annotated[int, typer.Option(help="With PROBLEMS: optimizer steps of every training.", min=1)] = 200,
    batch_size: Annotated[int, typer.Option(help="With PROBLEMS: examples of one step.", min=1)] = 8,
    policy_learning_rate: Annotated[
        float, typer.Option(help="With PROBLEMS: peak rate of the policy's training.")
    ] = 1e-5,
    value_learning_rate: Annotated[
        float, typer.Option(help="With PROBLEMS: peak rate of the value model's training.")
    ] = 2e-5,
    device: Annotated[str, typer.Option(help="Of torch: cpu, cuda, cuda:1, …")] = "cpu",
    trees_in_flight: Annotated[int, typer.Option(help="Trees searched side by side.", min=1)] = 1100,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the table to this file, as Markdown.", dir_okay=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="End with all numbers as one line of JSON.")] = False,
) -> None:
    """Compare self-training methods: the same problems, first policy, training steps and tokens,
    one table with errors.

    The control trains the first policy for as many steps on the seed data alone (the puzzle's
    demonstrations; the solutions that PROBLEMS give, where they do). Killed at any moment and
    started again with the same [bold]--workdir[/bold], it goes on.

    Example: [bold]restmcts compare --methods rest-mcts,rest-em --iterations 2 --seeds 3[/bold]
    """
    from restmcts.domain.runs.methods import METHODS

    from restmcts_cli.experiments.comparison_runs import GivenSizes, demo_study, given_study, run_study
    from restmcts_cli.reports.comparison_report import json_line, markdown_table, render, write_markdown

    begin = time.monotonic()
    names = tuple(name.strip() for name in methods.split(","))
    unknown = next((name for name in names if name not in METHODS), None)
    if unknown is not None:
        raise InputError(f"method {unknown!r}: there are {', '.join(METHODS)}")
    if len(set(names)) < len(names):
        raise InputError(f"--methods names one twice: {methods}")
    study: Study
    if problems is None:
        if policy is not None or test is not None:
            raise InputError("--policy and --test go with PROBLEMS")
        study = demo_study(names, iterations, seeds, budget_tokens or DEMO_BUDGET_TOKENS, quick)
    else:
        if policy is None or test is None or budget_tokens is None or quick:
            raise InputError("with PROBLEMS give --policy, --test and --budget-tokens, and not --quick")
        sizes = GivenSizes(limit, steps, batch_size, policy_learning_rate, value_learning_rate)
        study = given_study(names, iterations, seeds, budget_tokens, problems, test, policy, sizes)
    comparison = run_study(study, workdir, device, trees_in_flight)
    shown = console(stderr=json)
    shown.print(render(comparison))
    shown.print(
        f"{time.monotonic() - begin:.0f} s; everything lies in {workdir}", markup=False, highlight=False, soft_wrap=True
    )
    if markdown is not None:
        write_markdown(markdown, markdown_table(comparison))
    if json:
        typer.echo(json_line(comparison))
