"""`restmcts prm`: process reward models, their formats and their health."""

from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table
from restmcts_cli.reward_models.bench import bench
from restmcts_cli.reward_models.calibrate import calibrate
from restmcts_cli.reward_models.train import train

if TYPE_CHECKING:
    from restmcts.domain.problems import Problem
    from restmcts.modeling.prm.doctor import PrmFinding
    from restmcts.modeling.prm.format import PrmFormat
    from restmcts_prm_scorer.opening import OpenedPrm


_FIELDS = ("name", "models", "meaning", "low", "high", "aggregation", "rule", "marker", "routes", "good_class")

app = typer.Typer(
    help="Train, measure and calibrate process reward models (PRMs), and check whether a model can guide a search."
)
app.command()(bench)
app.command()(calibrate)
app.command()(train)


@app.command()
def formats(plugin: Plugins = None, json: Json = False) -> None:
    """List the formats that are known, and what their scores mean.

    Example: [bold]restmcts prm formats[/bold]
    """
    from restmcts.modeling.prm.format import PRM_FORMATS

    rows = [_described(each) for each in PRM_FORMATS.values()]
    if json:
        print_json(rows)
        return
    for row in rows:
        row["range"] = f"{row['low']:g} to {row['high']:g}"
    print_table(("name", "models", "meaning", "range", "aggregation", "rule"), rows, empty="no formats")


def _described(known: "PrmFormat") -> dict[str, object]:
    """Return what a format says of itself."""
    return {name: getattr(known, name) for name in _FIELDS}


@app.command()
def doctor(
    model: Annotated[
        str,
        typer.Argument(
            help="A model as --value takes it: folder, hub id or server; MODEL?format=NAME gives the format."
        ),
    ],
    problems: Annotated[
        str | None,
        typer.Option(
            help="Your solved problems, any source of `problems check`: whether the model distinguishes their steps from "
            "steps with a wrong number decides then, and the built-in arithmetic is shown beside."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Problems of --problems that are read at most.", min=1)] = 50,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Load a PRM, say which format it seems to have, and test it: whether it can be read, and
    whether right steps score above wrong ones; exit code 1 if something is wrong.

    Example: [bold]restmcts prm doctor Qwen/Qwen2.5-Math-PRM-7B --problems solved.jsonl[/bold]
    """
    print_note(f"restmcts prm doctor: {model}")
    from restmcts_cli.arguments.model_sources import check_model_name

    check_model_name(model, "value")
    solved = _solved(problems, limit) if problems is not None else None
    from restmcts_cli.reward_models.opened import opened_prm

    with opened_prm(model, device=device, trust_remote_code=trust_remote_code) as opened:
        findings = _findings(opened, problems, solved)
    right = all(finding.right for finding in findings if finding.decides)
    if json:
        shown = {**_described(opened.format), "rule": opened.rule, "said": _is_said(opened, model)}
        print_json(
            {"model": model, "format": shown, "right": right, "checks": [asdict(finding) for finding in findings]}
        )
    else:
        known, how = opened.format, "as said" if _is_said(opened, model) else "as its files show"
        meaning = {"meaning": known.meaning, "whole solutions": f"the {known.aggregation} of their steps' scores"}
        print_fields({"model": model.partition("?")[0], "format": f"{known.name}, {how}", **meaning})
        if opened.prm is not None and opened.prm.loaded.calibration is not None:
            print_fields({"calibrated with": asdict(opened.prm.loaded.calibration)})
        rows = [asdict(finding) | {"right": _mark(finding)} for finding in findings]
        print_table(("right", "check", "found", "remedy"), rows, empty="no checks")
        print_fields({"verdict": "fit for use" if right else "not fit as it is: see what is wrong"})
    if not right:
        raise typer.Exit(1)


def _is_said(opened: "OpenedPrm", model: str) -> bool:
    """Return whether the person said the format of a model."""
    from restmcts.modeling.prm.reference import parse_reference

    return opened.prm is None or parse_reference(model).format is not None


def _mark(finding: "PrmFinding") -> str:
    return "right" if finding.right else "WRONG" if finding.decides else "wrong"


def _solved(source: str, limit: int) -> "list[Problem]":
    """Return the solved ones among the first problems of a source.

    Raises:
        InputError: if it cannot be read, or has none.
    """
    from restmcts_cli.arguments.problem_sources import read_source, usable

    rows = read_source(source, split="train", seed=0, strict=False, limit=None)
    solved = list(islice((problem for problem in usable(source, rows) if problem.solution), limit))
    if not solved:
        raise InputError(f"{source} has no problem with a solution; give solved problems, or leave out --problems")
    return solved


def _findings(opened: "OpenedPrm", source: str | None, solved: "list[Problem] | None") -> "list[PrmFinding]":
    """Return what is found of a model: first whether it can be read, then what its scores mean."""
    from restmcts.modeling.prm.doctor import examine, examine_scorer
    from restmcts.modeling.prm.meaning import ARITHMETIC, arithmetic_problems, examine_meaning

    found = list(examine(opened.prm) if opened.prm is not None else examine_scorer(opened.scorer))
    found.append(examine_meaning(opened.scorer, ARITHMETIC, arithmetic_problems(), decides=solved is None))
    if source is not None and solved is not None:
        found.append(examine_meaning(opened.scorer, source, solved, decides=True))
    return found
