"""The option by which local commands take plugin files."""

from pathlib import Path
from typing import Annotated

import typer
from restmcts.adapters.files.plugins import load_plugins, loaded_plugins, plugin_digests
from restmcts.errors import InputError


def _load(paths: list[Path] | None) -> list[Path] | None:
    load_plugins(paths or ())
    return paths


Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="Python file that adds tasks, searches, methods or reward-model formats, for a run in this process; may be repeated.",
        callback=_load,
        is_eager=True,  # before any option that may name what a plugin adds
        show_default=False,
    ),
]


def refuse_plugins_on_stack() -> None:
    """Raise InputError if this process has plugin files: the workers of a stack do not."""
    plugins = ", ".join(str(plugin.path) for plugin in loaded_plugins())
    if plugins:
        raise InputError(
            f"{plugins}: a stack runs only the plugins that are installed in its images; "
            "package the file with an entry point of the group restmcts (docs/extending.md), or run it in a work folder"
        )


def check_folder(workdir: Path) -> None:
    """Let the runs of a work folder, if there are any, find the plugins that they were made with.

    Raises:
        InputError: naming the plugin that is missing or has changed.
    """
    from restmcts.usecases.need_plugins import check_plugins

    check_plugins(workdir, plugin_digests())
