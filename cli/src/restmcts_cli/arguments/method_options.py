"""Options of every command that makes a run: the method, what is held out for its gates, what
it may generate.
"""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer

T = TypeVar("T")

ONE_IN = 10
"""Of the problems to train on is held out, until there are enough."""

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
