"""Options of every command that lets a run go on."""

from typing import Annotated

import typer

MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Generated tokens of the whole run; once they are spent, the run pauses until the number is raised.",
        min=1,
    ),
]
