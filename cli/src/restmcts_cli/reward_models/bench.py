"""`restmcts prm bench`: a reward model on solutions whose steps people have labelled."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, console, print_json, print_note

if TYPE_CHECKING:
    from restmcts_cli.reward_models.results import BenchResult


def bench(
    model: Annotated[
        str,
        typer.Argument(
            help="A model as --value takes it: folder, hub id or server; MODEL?format=NAME says the format."
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            help="What it is measured on: [bold]processbench[/bold] or [bold]prmbench[/bold] (from the hub), "
            "hub:OWNER/NAME, or a file or folder in the form of these, of PRM800K or of Math-Shepherd."
        ),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(help="Value below which (or drop above which) a step is wrong. Without: chosen on one split."),
    ] = None,
    choose_on: Annotated[
        str | None,
        typer.Option(help="The split on which the threshold with the highest F1 is chosen: gsm8k, or the first one."),
    ] = None,
    split: Annotated[str, typer.Option(help="The split of a data set of the hub.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Solutions of each split at most.", min=1)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for values and the page; killed and started again with the same one, it is resumed.",
            file_okay=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Measure a PRM on labelled solutions: ProcessBench's F1, PRMBench's score, the AUC of its
    steps, its speed, and what it gets most wrong.

    A chance of being right calls a step wrong below a threshold, a value of progress where it
    drops by more than one; `restmcts prm formats` says which of the two a format has.

    Example: [bold]restmcts prm bench Qwen/Qwen2.5-Math-PRM-7B --on processbench --out bench[/bold]
    """
    from restmcts_cli.reward_models.sources import is_source

    if not is_source(on):
        raise InputError(f"{on} is no benchmark (processbench, prmbench), and there is no such file")
    result = _result(model, on, threshold, choose_on, split, limit, out, device, trust_remote_code)
    _show(result, out, json)


def _result(
    model: str,
    on: str,
    threshold: float | None,
    choose_on: str | None,
    split: str,
    limit: int | None,
    out: Path | None,
    device: str,
    trust_remote_code: bool,
) -> "BenchResult":
    from restmcts_cli.reward_models.opened import opened_prm
    from restmcts_cli.reward_models.results import bench_result
    from restmcts_cli.reward_models.scoring import score_solutions
    from restmcts_cli.reward_models.sources import labelled_solutions

    solutions = labelled_solutions(on, split, limit)
    with (
        opened_prm(model, device=device, trust_remote_code=trust_remote_code) as opened,
        Progress(len(solutions)) as seen,
    ):
        scored = score_solutions(opened.scorer, solutions, out, model, seen)
        rule = opened.format.rule
        name = opened.format.name
    return bench_result(model, name, on, rule, solutions, scored, threshold=threshold, choose_on=choose_on)


class Progress:
    """A bar on the terminal, on standard error; nothing where there is no terminal."""

    def __init__(self, total: int) -> None:
        from rich.progress import Progress as Bar

        shown = console(stderr=True)
        self._bar = Bar(console=shown, transient=True, disable=not shown.is_terminal)
        self._task = self._bar.add_task("solutions scored", total=total)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, completed: int) -> None:
        """Show how many have been scored."""
        self._bar.update(self._task, completed=completed)


def _show(result: "BenchResult", out: Path | None, json: bool) -> None:
    from restmcts_cli.reward_models.bench_report import PAGE, bench_document, bench_table, shown_misses, write_page
    from restmcts_cli.reward_models.results import sentences

    table = bench_table(result)
    if out is not None:
        write_page(table.title, sentences(result), [table], shown_misses(result), out / PAGE)
    if json:
        print_json(bench_document(result))
    else:
        console().print(table.terminal())
        for sentence in sentences(result):
            console().print(f"• {sentence}", markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        print_note(f"values and the page lie in {out}")
