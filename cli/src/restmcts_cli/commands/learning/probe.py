"""`restmcts probe`: how often a policy solves the problems at hand, and whether search will pay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.runs.spec_settings import Setting
from restmcts.errors import InputError

from restmcts_cli.arguments.plugin_files import Plugins, check_folder
from restmcts_cli.arguments.run_flags import PROBE_FLAGS, with_flags
from restmcts_cli.arguments.run_requests import RUN_FILE_OR_PROBLEMS, requested_run
from restmcts_cli.reports.shown_tables import console, print_note

if TYPE_CHECKING:
    from restmcts.domain.runs.spec import RunSpec

HERE = "the settings of this command"
LIMIT = 200


@with_flags(PROBE_FLAGS)
def probe(
    run: Annotated[str, typer.Argument(help=RUN_FILE_OR_PROBLEMS, metavar="RUN.toml|PROBLEMS")],
    given: list[Setting],
    samples: Annotated[int, typer.Option(help="Samples of each problem.", min=1, max=64)] = 4,
    workdir: Annotated[
        Path, typer.Option(help="Folder for everything that is made; the same folder resumes it.", file_okay=False)
    ] = Path("probe-out"),
    plugin: Plugins = None,
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one line of JSON.")] = False,
) -> None:
    """See whether search will pay on your problems before you spend the tokens of a run.

    Every problem is sampled a few times, and searched once in as many tokens, by the search that
    [bold]selftrain[/bold] would use. The table shows the problems by how many of their samples are
    right, and how many of each row the search solves; the sentences below it say which method to
    expect more of. Without [bold]--limit[/bold], the first 200 problems are asked.

    Example: [bold]restmcts probe problems.jsonl --policy Qwen/Qwen3-0.6B[/bold]
    """
    print_note(f"restmcts probe in {workdir}: search against samples")
    check_folder(workdir)
    spec = _probed(run, given)
    from restmcts_cli.experiments.probe_runs import run_probe
    from restmcts_cli.reports.probe_report import json_line, render

    found = run_probe(spec, samples, workdir)
    console(stderr=json).print(render(found))
    if json:
        typer.echo(json_line(found))


def _probed(run: str, given: list[Setting]) -> "RunSpec":
    """Return the run whose problems are asked, none of them held out."""
    all_asked = Setting("promotion.num_problems", 0, HERE)
    spec = requested_run(run, [*given, all_asked])
    if spec.limit is None:
        spec = spec.model_copy(update={"limit": LIMIT})
    if spec.puzzles is not None:
        raise InputError(f"{run}: its policy is not trained yet; give demo:KIND:DIFFICULTY:COUNT and --policy FOLDER")
    if spec.policy is None:
        raise InputError("name the model that is to be probed: --policy FOLDER, a hub id or a server")
    if spec.search.needs_values:
        raise InputError(
            f"{spec.search.algorithm} asks a value model, which a probe has not; give -o score=false, or another "
            "--algorithm such as best-first or forked"
        )
    return spec
