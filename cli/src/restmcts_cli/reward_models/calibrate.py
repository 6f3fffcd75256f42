"""`restmcts prm calibrate`: a reward model's values as chances, fitted on a run's trees."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.domain.text import counted
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, console, print_json, print_note
from restmcts_cli.row_progress import shown_progress

if TYPE_CHECKING:
    from restmcts.domain.stats.temperature import CalibrationResult, Change
    from restmcts.domain.stats.tree_values import ValuedStep
    from restmcts.reporting.tables import Table
    from restmcts_prm_scorer.opening import OpenedPrm

    from restmcts_cli.reward_models.run_trees import LabelledRunTree


def calibrate(
    model: Annotated[
        str, typer.Argument(help="A model as --value takes it: a folder or hub id; MODEL?format=NAME gives the format.")
    ],
    on: Annotated[
        str,
        typer.Option(help="The run whose labelled trees it is fitted on: its held-out trees, or all of its searches."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make: the model with its calibration.", file_okay=False)],
    bias: Annotated[
        bool | None,
        typer.Option(
            "--bias/--no-bias",
            help="Fit a bias beside the temperature. Without: where values are progress and no chances.",
        ),
    ] = None,
    phase: Annotated[str | None, typer.Option(help="The search of the run whose trees are used.")] = None,
    limit: Annotated[int | None, typer.Option(help="Trees at most.", min=1)] = None,
    checkpoint_of: Annotated[
        str | None, typer.Option(help="A run: MODEL is the name of one of its checkpoints then.")
    ] = None,
    workdir: Workdir = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Fit one temperature on a run's labelled trees, so that values are chances of leading to a
    right answer, and write the model with it into a new folder.

    The order of values stays as it is. The figures before and after are of problems on which the
    temperature was not fitted (five parts in turn), with errors over problems.

    Example: [bold]restmcts prm calibrate my-prm --on demo --out my-chances[/bold]
    """
    print_note(f"restmcts prm calibrate: {model} on {on}")
    from restmcts.domain.stats.temperature import calibrated

    from restmcts_cli.arguments.model_sources import check_model_name
    from restmcts_cli.reward_models.run_trees import trees_of_run
    from restmcts_cli.reward_models.stored import stored_model

    _check_new(out)
    if checkpoint_of is None:
        check_model_name(model, "value")
    uri, artifacts = (model, None) if checkpoint_of is None else stored_model(workdir, checkpoint_of, model)
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        found = trees_of_run(transaction, on, phase, limit)
    from restmcts_cli.reward_models.opened import opened_prm

    with opened_prm(uri, device=device, trust_remote_code=trust_remote_code, artifacts=artifacts) as opened:
        if opened.prm is None:
            raise InputError(f"{model} is a server, a judge or an ensemble; only a folder can be calibrated")
        with_bias = opened.rule == "drop" if bias is None else bias
        result = calibrated(_steps(model, on, opened, found), with_bias=with_bias)
        _write(opened, out, result, on)
    _show(model, on, out, result, json)


def _show(model: str, on: str, out: Path, result: "CalibrationResult", json: bool) -> None:
    document = _document(model, on, out, result)
    if json:
        print_json(document)
        return
    console().print(_table(model, on, result).terminal())
    for sentence in document["says"]:
        console().print(f"• {sentence}", markup=False, highlight=False, soft_wrap=True)
    print_note(f"the calibrated model is in {out}")


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; name a new folder")


def _steps(
    model: str, run: str, opened: "OpenedPrm", found: "list[LabelledRunTree]"
) -> "tuple[tuple[ValuedStep, ...], ...]":
    """Return the labelled steps of trees with their values, by problem.

    Raises:
        InputError: if the model scores none of them.
    """
    from restmcts_cli.reward_models.run_trees import paths_of_trees, steps_by_problem, values_of_nodes
    from restmcts_cli.reward_models.scoring import score_solutions

    paths = paths_of_trees(found)
    with shown_progress(f"scoring with {model}", "path", len(paths)) as seen:
        scored = score_solutions(opened.scorer, paths, None, model, seen)
    problems = steps_by_problem(found, values_of_nodes(found, paths, scored))
    if not problems:
        raise InputError(f"{model} could score no path of run {run}: {scored[0].reason}")
    return problems


def _write(opened: "OpenedPrm", out: Path, result: "CalibrationResult", run: str) -> None:
    """Write the model's files and its calibration, which comes after the one that it had."""
    from restmcts.modeling.value.calibration_files import write_calibration

    from restmcts_cli.commands.records.checkpoints import copy_folder

    assert opened.prm is not None, "the caller has checked"
    before = opened.prm.loaded.calibration
    copy_folder(opened.prm.folder, out)
    both = result.calibration if before is None else before.then(result.calibration)
    gains = {name: {"before": one.before.value, "after": one.after.value} for name, one in _changes(result).items()}
    write_calibration(out, both, {"run": run, "problems": result.num_problems, "steps": result.num_steps, **gains})


def _table(model: str, run: str, result: "CalibrationResult") -> "Table":
    from restmcts.reporting.tables import Table

    rows = tuple((name, *_cells(change)) for name, change in _changes(result).items())
    return Table(
        f"{model} on run {run}: calibration",
        ("figure", "before", "after", "difference"),
        rows,
        "Lower is better. NLL: mean negative log-likelihood of what steps led to, in nats. Brier: mean squared error. "
        "ECE: expected calibration error. Errors are over problems; the difference is paired.",
    )


def _changes(result: "CalibrationResult") -> "dict[str, Change]":
    return {"NLL": result.nll, "Brier": result.brier, "ECE": result.calibration_error}


def _cells(change: "Change") -> tuple[str, ...]:
    three = (change.before, change.after, change.difference)
    return tuple(f"{one.value:.4f} ± {one.standard_error:.4f}" for one in three)


def _sentences(result: "CalibrationResult") -> list[str]:
    from restmcts.domain.stats.temperature import HIGHEST, LOWEST

    found = result.calibration
    said = [
        f"Temperature {found.temperature:.3f}, bias {found.bias:.3f}: a value v becomes "
        "sigmoid(logit(v) / temperature + bias).",
        f"Fitted on {counted(result.num_steps, 'labelled step')} of {counted(result.num_problems, 'problem')}; the "
        f"figures are of problems on which it was not fitted ({result.num_folds} parts in turn).",
    ]
    if found.temperature <= LOWEST:
        said.append(
            "The temperature is the lowest that is fitted: values separate right from wrong steps, but are alike."
        )
    if found.temperature >= HIGHEST:
        said.append("The temperature is the highest that is fitted: values say nothing of right and wrong steps.")
    if result.nll.difference.value >= 0.0:
        said.append("On problems on which it was not fitted it gains nothing: use the model as it was.")
    if result.auc is not None:
        siblings = f", sibling accuracy {result.siblings[1].as_percent()}" if result.siblings is not None else ""
        said.append(f"The order of values is as before: AUC {result.auc[1].as_decimal()}{siblings}.")
    said.append("Thresholds of searches (stop_threshold) now refer to chances: set them anew.")
    return said


def _document(model: str, run: str, out: Path, result: "CalibrationResult") -> Mapping[str, Any]:
    return {"model": model, "on": f"run:{run}", "folder": str(out), **asdict(result), "says": _sentences(result)}
