"""Brings the nodes and requests of a run back from the artifact store.

A batch of whole trees is put back at once; the archive goes once every row is there and equal.
Whatever ends this in between, the same call goes on.
"""

from collections.abc import Collection, Mapping

from restmcts.adapters.files.row_groups import RowDigest, read_groups
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads.queries import run_named
from restmcts.adapters.sql.state import archived_trees
from restmcts.adapters.sql.state.archived_trees import MOVED, PLACE_IN_QUEUE, TreesInStore
from restmcts.errors import InputError, StorageError
from restmcts.ports import ArtifactStore
from restmcts.usecases.tree_archive.to_store import Seen, described, lock_archived


def archive_of(transaction: Transaction, name: str) -> TreesInStore:
    """Return where the trees of a run are.

    Raises:
        InputError: if there is no such run, or its trees are not archived.
    """
    stored = archived_trees.trees_in_store(run_named(transaction, name).trees_in_store)
    if stored is None:
        raise InputError(f"the trees of run {name} are not archived: there is nothing to restore")
    return stored


def restore_from_store(database: Database, artifacts: ArtifactStore, name: str, seen: Seen) -> TreesInStore:
    """Put the rows of an archived run back, or go on with that; return what the archive was.

    Raises:
        InputError: if there is no such run, its trees are not archived, or they are of a later
            version of restmcts.
        StorageError: if the store or the database does not do it; the archive stays.
        CorruptArtifactError: if the archive's bytes are not those that were stored.
    """
    with database.transaction() as transaction:
        stored, run = archive_of(transaction, name), run_named(transaction, name)
    folder = artifacts.fetch(stored.uri)
    expected = described(folder)
    done, columns = 0, {}
    for table in MOVED:
        for rows in read_groups(folder / f"{table.name}.parquet"):
            columns[table.name] = rows[0].keys()
            if unknown := rows[0].keys() - set(table.c.keys()):
                raise InputError(f"{stored.uri} is of a later version of restmcts ({min(unknown)}): install that one")
            with database.transaction() as transaction:
                lock_archived(transaction, run.id, stored.uri)
                archived_trees.put_back(transaction, table, rows)
            done += len(rows)
            seen(done)
    if _restored(database, run.id, columns) != {name: one["sha256"] for name, one in expected.items()}:
        raise StorageError(f"run {name}: the rows that are back are not those of {stored.uri}, which stays; try again")
    with database.transaction() as transaction:
        lock_archived(transaction, run.id, stored.uri)
        archived_trees.set_trees_in_store(transaction, run.id, None)
    try:
        artifacts.remove(stored.uri)
    except StorageError as error:
        raise StorageError(
            f"run {name} is restored, and its archive is still stored ({error}); "
            "`restmcts storage prune --yes` deletes it"
        ) from error
    return stored


def _restored(database: Database, run_id: int, columns: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the digests of a run's rows, by table, of the columns that the archive has: later
    versions may have more.
    """
    with database.transaction() as transaction:
        batches = list(archived_trees.batches(transaction, run_id))
    later = {table.name: set(table.c.keys()) - set(columns.get(table.name, ())) for table in MOVED}
    digests = {name: RowDigest({PLACE_IN_QUEUE, *names}) for name, names in later.items()}
    for table in MOVED:
        for batch in batches:
            with database.transaction() as transaction:
                digests[table.name].add(archived_trees.rows_of(transaction, table, batch))
    return {name: digest.value for name, digest in digests.items()}
