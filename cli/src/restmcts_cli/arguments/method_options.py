"""Options of every command that lets a run go on."""

from typing import Annotated

import typer

MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Generated tokens of the whole run. Once they are spent it is paused; a larger number lets it go on.",
        min=1,
    ),
]
