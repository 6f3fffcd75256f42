"""Options of every command that trains, beyond the few that have a name of their own."""

from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from restmcts.domain.runs.training_settings import TrainingSettings, ValueObjective
from restmcts.errors import InputError

from restmcts_cli.arguments.search_options import named_values

PolicyOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--policy-option",
        help="A setting of the policy's training, e.g. lora_rank=16, precision=bfloat16, packing=true.",
    ),
]
ValueOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--value-option", help="A setting of the value model's training, e.g. validation_share=0.1, patience=3."
    ),
]
Objective = Annotated[
    ValueObjective,
    typer.Option("--value-objective", help="What value models learn: mse, soft, hard, orm or ranking of siblings."),
]
_SETTINGS = TypeAdapter(TrainingSettings)


def parse_training(settings: TrainingSettings, options: Sequence[str] | None) -> TrainingSettings:
    """Return the settings with `name=value` options in place of their own.

    Raises:
        InputError: if there is no such setting, or a value does not fit.
    """
    fields = _SETTINGS.dump_python(settings)
    given = named_values(options or ())
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise InputError(f"training has no setting {unknown[0]!r}; it has {', '.join(sorted(fields))}")
    try:
        return _SETTINGS.validate_python({**fields, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"training setting {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
