"""Options of every command that makes a self-training run: the method, and what is held out for its gates."""

from typing import Annotated

import typer
from restmcts.domain.methods import METHODS

ONE_IN = 10
"""Of the problems to train on is held out, until there are enough."""

Method = Annotated[str, typer.Option(help=f"Self-training method: {', '.join(METHODS)}.", autocompletion=lambda: list(METHODS))]
HeldOut = Annotated[
    int, typer.Option(help="Of the problems, one in ten up to so many judge new checkpoints and train nothing; 0: no gate.", min=0)
]
GateMargin = Annotated[
    float, typer.Option(help="A new checkpoint is promoted unless it is so many standard errors worse than the old.", min=0)
]


def is_held_out(number: int) -> bool:
    """Return whether the problem of that place, from 0, is one to be held out."""
    return number % ONE_IN == ONE_IN - 1
