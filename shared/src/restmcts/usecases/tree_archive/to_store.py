"""Moves the nodes and requests of an ended run to the artifact store, as Parquet.

No row is deleted before the files were read back from the store and found to have every row, and
the run's row says where they are. Whatever ends this in between, the same call goes on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from restmcts.adapters.files.row_groups import RowDigest, RowGroups, read_groups
from restmcts.adapters.sql import versions
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads import truth
from restmcts.adapters.sql.reads.end_quality import EndQuality, value_quality
from restmcts.adapters.sql.rows import StoredRun
from restmcts.adapters.sql.state import annotations, archived_trees
from restmcts.adapters.sql.state.archived_trees import MOVED, PLACE_IN_QUEUE, Numbers, TreesInStore
from restmcts.adapters.sql.state.runs import lock_run
from restmcts.errors import CorruptArtifactError, InputError, StorageError
from restmcts.ports import ArtifactStore
from restmcts.usecases.storage import ended_run

KIND = "trees"
DESCRIPTION = "archive.json"
Seen = Callable[[int], None]
"""Is called with how many rows were written, deleted or put back so far, in all."""


@dataclass(frozen=True, slots=True)
class MovedTrees:
    """What is moved, or was.

    Attributes:
        rows: in the database, by table.
        row_bytes: that they take there, without indexes and free space.
        stored: where they are; None: not moved yet.
    """

    run: str
    rows: Mapping[str, int]
    row_bytes: int
    stored: TreesInStore | None


def trees_to_move(transaction: Transaction, name: str) -> MovedTrees:
    """Return what `move_to_store` would move.

    Raises:
        InputError: if there is no such run, it has not ended, or a worker still trains for it.
    """
    run = ended_run(transaction, name, "archived")
    stored = archived_trees.trees_in_store(run.trees_in_store)
    rows, row_bytes = archived_trees.count_rows(transaction, run.id), archived_trees.count_bytes(transaction, run.id)
    return MovedTrees(name, rows, row_bytes, stored)


def move_to_store(database: Database, artifacts: ArtifactStore, name: str, seen: Seen) -> MovedTrees:
    """Move the nodes and requests of an ended run to the store, or go on with that; return what was
    there before.

    Raises:
        InputError: as `trees_to_move`.
        StorageError: if the store does not take them, or they are not what was counted; nothing is
            deleted then.
        CorruptArtifactError: if what was stored cannot be read back as it was.
    """
    with database.transaction() as transaction:
        before = trees_to_move(transaction, name)
        run = ended_run(transaction, name, "archived")
    num_written = 0
    if before.stored is None:
        stored = _stored(database, artifacts, run, before.rows, seen)
        num_written = sum(stored.rows.values())
    else:
        stored = before.stored
        artifacts.fetch(stored.uri)
    _delete(database, run, stored, lambda number: seen(num_written + number))
    database.compact()
    return MovedTrees(name, before.rows, before.row_bytes, stored)


def _stored(
    database: Database, artifacts: ArtifactStore, run: StoredRun, counted: Mapping[str, int], seen: Seen
) -> TreesInStore:
    """Write the rows to the store, read them back, and let the run's row name them."""
    with TemporaryDirectory(prefix="restmcts-trees-") as made:
        written = _write(database, Path(made), run, seen)
        artifact = artifacts.put(Path(made), KIND, {"run": run.name})
    if described(artifacts.fetch(artifact.uri)) != written:
        raise CorruptArtifactError(f"{artifact.uri}: the rows are not those that were written; nothing is deleted")
    rows = {name: one["rows"] for name, one in written.items()}
    with database.transaction() as transaction:
        now = ended_run(transaction, run.name, "archived")
        if now.trees_in_store is not None or not rows == counted == archived_trees.count_rows(transaction, run.id):
            raise StorageError(f"run {run.name} changed while its trees were copied; nothing is deleted, try again")
        stored = TreesInStore(artifact.uri, rows, artifact.num_bytes, _numbers(transaction, run))
        archived_trees.set_trees_in_store(transaction, run.id, stored)
    return stored


def _write(database: Database, folder: Path, run: StoredRun, seen: Seen) -> dict[str, dict[str, Any]]:
    digests = {table.name: RowDigest({PLACE_IN_QUEUE}) for table in MOVED}
    with database.transaction() as transaction:
        batches = list(archived_trees.batches(transaction, run.id))
    for table in MOVED:
        with RowGroups(folder / f"{table.name}.parquet", archived_trees.kinds_of(table)) as groups:
            for batch in batches:
                with database.transaction() as transaction:
                    rows = archived_trees.rows_of(transaction, table, batch)
                digests[table.name].add(rows)
                groups.write(rows)
                seen(sum(one.num_rows for one in digests.values()))
    written = {name: {"rows": one.num_rows, "sha256": one.value} for name, one in digests.items()}
    description = {"run": run.name, "database": versions.newest(), "tables": written}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
    return written


def described(folder: Path) -> dict[str, dict[str, Any]]:
    """Return how many rows the files of an archive have, and their digest, by table.

    Raises:
        CorruptArtifactError: if that is not what its description says.
    """
    found = {}
    for table in MOVED:
        digest = RowDigest({PLACE_IN_QUEUE})
        for rows in read_groups(folder / f"{table.name}.parquet"):
            digest.add(rows)
        found[table.name] = {"rows": digest.num_rows, "sha256": digest.value}
    if found != json.loads((folder / DESCRIPTION).read_text())["tables"]:
        raise CorruptArtifactError(f"{folder}: the rows are not those that {DESCRIPTION} describes")
    return found


def _numbers(transaction: Transaction, run: StoredRun) -> Numbers:
    known: dict[int, EndQuality | None] = {}
    value_quality(transaction, run.id, known)
    ends = {str(phase_id): asdict(one) for phase_id, one in known.items() if one is not None}
    shares = truth.shares_of_flips(transaction, run.id)
    return Numbers(
        ends, {str(tree_id): share for tree_id, share in shares.items()}, annotations.compared(transaction, run.id)
    )


def _delete(database: Database, run: StoredRun, stored: TreesInStore, seen: Seen) -> None:
    with database.transaction() as transaction:
        batches = list(archived_trees.batches(transaction, run.id))
    done = 0
    for batch in batches:
        with database.transaction() as transaction:
            lock_archived(transaction, run.id, stored.uri)
            done += archived_trees.delete_rows(transaction, batch)
        seen(done)


def lock_archived(transaction: Transaction, run_id: int, uri: str) -> None:
    """Lock a run whose trees are there.

    Raises:
        InputError: if they are no more: another process restored or deleted the run.
    """
    run = lock_run(transaction, run_id)
    stored = archived_trees.trees_in_store(run.trees_in_store) if run is not None else None
    if stored is None or stored.uri != uri:
        raise InputError("another process has restored or deleted this run meanwhile; nothing more is done")
