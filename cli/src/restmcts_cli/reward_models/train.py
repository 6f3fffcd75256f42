"""`restmcts prm train`: a value model from training data in a folder."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note
from restmcts_cli.row_progress import shown_progress

if TYPE_CHECKING:
    from restmcts.domain.runs.training_settings import TrainingSettings
    from restmcts.modeling.training.training_rows import ValueExample


class Objective(StrEnum):
    """What a value model learns (restmcts.domain.runs.training_settings.ValueObjective)."""

    SOFT = "soft"
    HARD = "hard"
    ORM = "orm"
    MSE = "mse"
    RANKING = "ranking"
    SIBLINGS = "siblings"
    PROGRESS = "progress"


def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder that `restmcts datasets import` made, or `datasets pull` of a value model's data.",
            exists=True,
            file_okay=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to make: the value model.", file_okay=False)],
    trunk: Annotated[
        str,
        typer.Option(help="What training begins with: a value model, or a language model that gets a fresh head."),
    ],
    objective: Annotated[
        Objective,
        typer.Option(
            help="What it learns of the labels: soft, their cross-entropy as values from 0 to 1; hard, whether a step leads "
            "to a right answer; the others are those of a run's value_objective (`restmcts options run`)."
        ),
    ] = Objective.SOFT,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--training",
            help="A setting of training, name=value; repeat it: `restmcts options training` lists them.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train a value model on labelled steps, of others or of a run.

    Example: [bold]restmcts prm train my-labels my-prm --trunk Qwen/Qwen2.5-0.5B[/bold]
    """
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    print_note(f"restmcts prm train: {trunk} on {data}")
    from restmcts_cli.arguments.model_sources import check_model_name

    check_model_name(trunk, None)
    settings, examples = _settings(setting or []), _examples(data)
    from restmcts.modeling.training.training import train_value
    from restmcts.modeling.training.training_loop import Attempt

    with shown_progress(f"training {trunk}", "step") as seen:
        attempt = Attempt(on_progress=lambda step, total, _: seen(step, total=total))
        report = train_value(trunk, examples, settings, out, attempt, objective=objective.value)
    figures = {name: value for name, value in asdict(report).items() if name != "losses"}
    if json:
        print_json({"folder": str(out), "objective": objective.value, **figures})
        return
    held_out = {f"held-out {name}": round(value, 4) for name, value in figures.pop("held_out").items()}
    figures.pop("held_out_before")
    print_fields(figures | held_out)
    print_note(f"the value model is in {out}; `restmcts prm bench {quote(str(out))} --on …` measures it")


def _settings(options: list[str]) -> "TrainingSettings":
    from pydantic import TypeAdapter, ValidationError
    from restmcts.domain.runs.training_settings import TrainingSettings

    from restmcts_cli.arguments.search_options import named_values

    given = named_values(options)
    known = TrainingSettings.__dataclass_fields__
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise InputError(f"training has no setting {unknown!r}; it has {', '.join(known)}")
    try:
        return TypeAdapter(TrainingSettings).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"training: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _examples(folder: Path) -> "list[ValueExample]":
    from restmcts.modeling.training.training_rows import ValueExample

    from restmcts_cli.reward_models.value_data import stored_value_rows

    return [ValueExample.of_row(row) for row in stored_value_rows(folder)]
