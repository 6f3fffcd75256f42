"""Benches of checkpoints: which model a name in a run is, what is kept with it, and how people see
it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restmcts.adapters.models.ensemble import each_member, is_ensemble
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection, connect

if TYPE_CHECKING:
    from restmcts.adapters.sql.rows import StoredCheckpoint
    from restmcts.ports import ArtifactStore

_TOO_LONG = ("misses",)


def stored_model(workdir: Path | None, run: str, name: str) -> "tuple[str, ArtifactStore]":
    """Return where a checkpoint of a run lies, or an ensemble of them, and the store that has the
    files.

    Raises:
        InputError: if there is no such run or checkpoint.
    """
    with connect(workdir) as connection:
        return each_member(name, lambda member: _row(connection, run, member).uri), connection.artifacts


def keep_bench(workdir: Path | None, run: str, name: str, document: Mapping[str, Any]) -> None:
    """Keep what a checkpoint came to on a bench, without the solutions that it missed; of an
    ensemble, which is none, nothing is kept.
    """
    if is_ensemble(name):
        return
    from restmcts.adapters.sql.state import runs

    kept = {field: value for field, value in document.items() if field not in _TOO_LONG}
    with connect(workdir) as connection:
        row = _row(connection, run, name)
        with connection.database.transaction() as transaction:
            runs.add_bench(transaction, row.id, str(document["on"]), kept)


def _row(connection: Connection, run: str, name: str) -> "StoredCheckpoint":
    from restmcts.adapters.sql.reads import queries
    from restmcts.adapters.sql.state import runs

    with connection.database.transaction() as transaction:
        known = runs.checkpoints_of(transaction, queries.run_named(transaction, run).id)
    if name not in known:
        raise InputError(f"run {run} has no checkpoint {name!r}; it has {', '.join(known) or 'none'}")
    return known[name]
