"""What is stored and named by nothing: artifacts, copies of them on this machine, and rows. Runs
are deleted here too, with what only they name.

Whoever stores an artifact does so before the row that names it is committed: what is young may
still be given a name.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, Text, cast, delete, func, select, union_all

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads.queries import run_named
from restmcts.adapters.sql.rows import StoredRun
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.annotations import ANNOTATIONS
from restmcts.adapters.sql.state.requests import PROBLEMS, REQUESTS
from restmcts.adapters.sql.state.runs import CHECKPOINTS, DATASETS
from restmcts.adapters.sql.state.token_budget import COUNTS
from restmcts.adapters.sql.state.trees import NODES, PHASES, RUNS, TREES
from restmcts.adapters.sql.state.truth_ledger import LEDGER
from restmcts.adapters.sql.tables import RunState
from restmcts.adapters.storage.manifests import STALE_SECONDS
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.errors import InputError
from restmcts.ports import ArtifactStore, StoredArtifact
from restmcts.usecases.steer import state_in_words

ENDED = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)
STATES = "training-states"
_NAME = re.compile(r"artifact:[\w.-]+/[0-9a-f]{64}")


def _naming(column: ColumnElement[Any], *joins: tuple[Table, ColumnElement[bool]]) -> Select[tuple[str, int, str]]:
    statement = select(cast(column, Text).label("text"), RUNS.c.id, RUNS.c.state)
    for table, condition in joins:
        statement = statement.join(table, condition)
    return statement.where(cast(column, Text).contains(ARTIFACT))


_OF_PHASE = (RUNS, RUNS.c.id == PHASES.c.run_id)
_OF_CHECKPOINT = (RUNS, RUNS.c.id == CHECKPOINTS.c.run_id)
_OF_DATASET = ((PHASES, PHASES.c.id == DATASETS.c.phase_id), _OF_PHASE)
_NAMING = union_all(
    _naming(RUNS.c.config),
    _naming(RUNS.c.trees_in_store),
    _naming(PHASES.c.spec, _OF_PHASE),
    _naming(PHASES.c.result, _OF_PHASE),
    _naming(CHECKPOINTS.c.uri, _OF_CHECKPOINT),
    _naming(CHECKPOINTS.c.lineage, _OF_CHECKPOINT),
    _naming(DATASETS.c.uri, *_OF_DATASET),
    _naming(DATASETS.c.card, *_OF_DATASET),
)
"""Every text that may name an artifact, with its run and the state of that."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What goes with a run.

    Attributes:
        rows: that are deleted, by table.
        artifacts: URIs that nothing names once the run is gone.
        shared: URIs that the run names and others too; they stay.
    """

    run: str
    rows: Mapping[str, int]
    artifacts: Sequence[str]
    shared: Sequence[str]


def delete_run(transaction: Transaction, name: str, *, acts: bool) -> Deletion:
    """Delete the rows of a run that has ended, or find out which they would be; what it stored is
    left to the caller, once this is committed.

    Raises:
        InputError: if there is no such run, it has not ended, or a worker still trains for it.
    """
    run = ended_run(transaction, name, "deleted")
    names = _names(transaction)
    own = sorted(name for name, run_ids in names.items() if run.id in run_ids)
    rows = {table.name: _count(transaction, table, where) for table, where in _rows_of(run.id)}
    if acts:
        for table, where in _rows_of(run.id):
            transaction.execute(delete(table).where(where))
    alone = [name for name in own if len(names[name]) == 1]
    return Deletion(run.name, rows, alone, [name for name in own if len(names[name]) > 1])


def ended_run(transaction: Transaction, name: str, done: str) -> StoredRun:
    """Return a run that nobody works on any more, locked.

    Args:
        done: what is to be done with it: "deleted".

    Raises:
        InputError: if there is no such run, it has not ended, or a worker still trains for it.
    """
    run = runs.lock_run(transaction, run_named(transaction, name).id)
    if run is None or run.state not in ENDED:
        raise InputError(
            f"run {name} is {state_in_words(transaction, run) if run else 'gone'}: a run is {done} once it has ended; "
            f"`restmcts runs cancel {quote(name)}{transaction.place}` ends it"
        )
    under_lease = (PHASES.c.run_id == run.id) & (PHASES.c.lease_until > moment())
    busy = transaction.execute(select(PHASES.c.name).where(under_lease)).scalar()
    if busy is not None:
        raise InputError(f"run {name}: a worker is still busy with its phase {busy}; try again in a minute")
    return run


def _rows_of(run_id: int) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return the tables that hold rows of a run, with which they are, in the order of deletion."""
    tree_ids = select(TREES.c.id).where(TREES.c.run_id == run_id)
    phase_ids = select(PHASES.c.id).where(PHASES.c.run_id == run_id)
    return [
        (REQUESTS, REQUESTS.c.tree_id.in_(tree_ids)),
        (NODES, NODES.c.tree_id.in_(tree_ids)),
        (TREES, TREES.c.run_id == run_id),
        (LEDGER, LEDGER.c.run_id == run_id),
        (ANNOTATIONS, ANNOTATIONS.c.run_id == run_id),
        (COUNTS, COUNTS.c.run_id == run_id),
        (PROBLEMS, PROBLEMS.c.run_id == run_id),
        (DATASETS, DATASETS.c.phase_id.in_(phase_ids)),
        (CHECKPOINTS, CHECKPOINTS.c.run_id == run_id),
        (PHASES, PHASES.c.run_id == run_id),
        (RUNS, RUNS.c.id == run_id),
    ]


def _names(transaction: Transaction) -> dict[str, set[int]]:
    """Return the URIs of the artifacts that rows name, each with the ids of the runs whose rows do.

    The state that a training saved is named only while its run may go on with it.
    """
    found: dict[str, set[int]] = defaultdict(set)
    for text, run_id, state in transaction.execute(_NAMING):
        for name in _NAME.findall(text):
            if state not in ENDED or f":{STATES}/" not in name:
                found[name].add(run_id)
    return found


def _count(transaction: Transaction, table: Table, where: ColumnElement[bool]) -> int:
    return int(transaction.execute(select(func.count()).select_from(table).where(where)).scalar_one())


@dataclass(frozen=True, slots=True)
class Unnamed:
    """What nothing names.

    Attributes:
        artifacts: in the store.
        young: in the store too, and too young to decide, as uploads that have not ended are for a
            day.
        copies: on this machine, of artifacts that nothing names.
        rows: of trees and runs that are gone, by table.
    """

    artifacts: Sequence[StoredArtifact]
    young: Sequence[StoredArtifact]
    copies: Sequence[StoredArtifact]
    rows: Mapping[str, int]


def unnamed(
    transaction: Transaction, stored: Iterable[StoredArtifact], copies: Iterable[StoredArtifact], min_age_seconds: float
) -> Unnamed:
    """Return what of a store's artifacts, of this machine's copies and of the rows nothing names.

    `stored` must have been read before the transaction began: what is named meanwhile then counts.
    """
    names = _names(transaction)
    of_nobody = [artifact for artifact in stored if artifact.uri not in names]

    def is_young(artifact: StoredArtifact) -> bool:
        return artifact.age_seconds < (min_age_seconds if artifact.is_whole else max(min_age_seconds, STALE_SECONDS))

    return Unnamed(
        artifacts=[artifact for artifact in of_nobody if not is_young(artifact)],
        young=[artifact for artifact in of_nobody if is_young(artifact)],
        copies=[copy for copy in copies if copy.uri not in names],
        rows={table.name: _count(transaction, table, where) for table, where in _rows_of_nobody()},
    )


def delete_rows_of_nobody(transaction: Transaction) -> None:
    """Delete rows of trees and runs that are gone."""
    for table, where in _rows_of_nobody():
        transaction.execute(delete(table).where(where))


def _rows_of_nobody() -> list[tuple[Table, ColumnElement[bool]]]:
    return [
        (REQUESTS, REQUESTS.c.tree_id.not_in(select(TREES.c.id))),
        (NODES, NODES.c.tree_id.not_in(select(TREES.c.id))),
        (COUNTS, COUNTS.c.run_id.not_in(select(RUNS.c.id))),
    ]


def sweep_training_states(database: Database, artifacts: ArtifactStore, min_age_seconds: float) -> list[str]:
    """Remove the states that trainings saved and nobody will go on with; return their URIs.

    Raises:
        StorageError: if the store does not do it.
    """
    stored = [each for each in artifacts.stored(STATES) if each.age_seconds >= min_age_seconds]
    if not stored:
        return []
    with database.transaction() as transaction:
        names = _names(transaction)
    swept = [each.uri for each in stored if each.uri not in names]
    for uri in swept:
        artifacts.remove(uri)
    return swept
