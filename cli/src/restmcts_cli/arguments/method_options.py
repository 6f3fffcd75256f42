"""Options of every command that makes a run: the method, what is held out for its gates, what
it may generate.
"""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer
from restmcts.domain.runs.methods import METHODS, FirstLabels

T = TypeVar("T")

ONE_IN = 10
"""Of the problems to train on is held out, until there are enough."""

Method = Annotated[
    str, typer.Option(help=f"Self-training method: {', '.join(METHODS)}.", autocompletion=lambda: list(METHODS))
]
Labels = Annotated[
    FirstLabels | None,
    typer.Option(help="Where the labels of the first value model's data come from; without: what the method takes."),
]
HeldOut = Annotated[
    int,
    typer.Option(
        help="Of the problems, one in ten up to so many judge new checkpoints and train nothing; 0: no gate.", min=0
    ),
]
GateMargin = Annotated[
    float,
    typer.Option(help="A new checkpoint is promoted unless it is so many standard errors worse than the old.", min=0),
]

MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Generated tokens of the whole run. Once they are spent it is paused; a larger number lets it go on.",
        min=1,
    ),
]


def apart(problems: Sequence[T], num_held_out: int) -> tuple[list[T], list[T]]:
    """Return the problems that are held out, at most so many, and the others."""
    held_out = [problem for number, problem in enumerate(problems) if is_held_out(number)][:num_held_out]
    return held_out, [
        problem for number, problem in enumerate(problems) if not is_held_out(number) or number >= ONE_IN * num_held_out
    ]


def is_held_out(number: int) -> bool:
    """Return whether the problem of that place, from 0, is one to be held out."""
    return number % ONE_IN == ONE_IN - 1
