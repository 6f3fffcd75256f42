"""Whether this process has the plugins that a stored run was made with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.errors import InputError

DATABASE_FILE = "run.db"
PLUGINS = "plugins"
"""The digests of a run's plugin files by name, in what is stored of it."""


def check_plugins(workdir: Path, digests: Mapping[str, str]) -> None:
    """Let every run of a work folder, if there is any, find the plugins that it was made with.

    Args:
        workdir: the folder, which need not exist.
        digests: of the plugins of this process, by file name.

    Raises:
        InputError: naming the plugin that is missing or has changed.
    """
    if not (workdir / DATABASE_FILE).is_file():
        return
    database = Database(f"sqlite:///{workdir / DATABASE_FILE}")
    try:
        with database.transaction() as transaction:
            stored = runs.configs(transaction)
    finally:
        database.close()
    for name, config in stored.items():
        for plugin, digest in config.get(PLUGINS, {}).items():
            _check_one(f"run {name} in {workdir}", plugin, digest, digests.get(plugin))


def _check_one(holder: str, plugin: str, stored: str, found: str | None) -> None:
    if found is None:
        raise InputError(f"{holder} was made with the plugin {plugin}: name it again, --plugin {plugin}")
    if found != stored:
        raise InputError(
            f"{holder} was made with another {plugin} (sha256 {stored[:12]}…, now {found[:12]}…): "
            "give the file as it was, or choose another --workdir"
        )


def with_plugins(config: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Return what is stored of a run, with the plugins of this process if it has any."""
    return {**config, PLUGINS: dict(digests)} if digests else dict(config)
