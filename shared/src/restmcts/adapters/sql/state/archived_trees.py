"""Runs whose trees are archived: their nodes and requests are in the artifact store, in place of
their tables. The rows of the trees themselves stay, and every number that is counted from them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from shlex import quote

from sqlalchemy import ColumnElement, LargeBinary, Table, cast, delete, func, literal_column, select, update
from sqlalchemy.types import TypeDecorator

from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import Columns, JsonObject
from restmcts.adapters.sql.tables import NodeRow, RequestRow, Run, TreeRow
from restmcts.errors import InputError

_RUNS, _TREES = table_of(Run), table_of(TreeRow)
MOVED = (table_of(RequestRow), table_of(NodeRow))
"""The tables whose rows are moved, in the order in which they come back: a tree that has nodes has
its requests too.
"""
KEYS: Mapping[str, tuple[str, str]] = {"requests": ("tree_id", "number"), "nodes": ("tree_id", "node_id")}
PLACE_IN_QUEUE = "id"
"""The column of a request that no other row names: where another request has it meanwhile, as
happens on SQLite, the archived one comes back with a new one.
"""
NODES_AT_ONCE = 2000
PLACES_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is counted from nodes and shown of a run, as it was when they were moved.

    Attributes:
        ends: the fields of restmcts.adapters.sql.reads.end_quality.EndQuality, by the phase's id.
        shares: of the votes, by tree, where an accepted answer has changed.
        compared: of how many answers both people and the run have a verdict, and how often it is
            the same.
    """

    ends: Mapping[str, JsonObject | None] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    compared: Sequence[int] = (0, 0)


@dataclass(frozen=True, slots=True)
class TreesInStore:
    """Where the nodes and requests of a run's trees are.

    Attributes:
        uri: of the artifact.
        rows: how many there are, by table.
        num_bytes: of the artifact.
    """

    uri: str
    rows: Mapping[str, int]
    num_bytes: int
    numbers: Numbers


def trees_in_store(stored: JsonObject | None) -> TreesInStore | None:
    """Return what the column of a run says; None: its trees are in the database."""
    if stored is None:
        return None
    return TreesInStore(**{**stored, "numbers": Numbers(**stored["numbers"])})


def numbers_of(transaction: Transaction, run_id: int) -> Numbers | None:
    """Return the numbers of a run whose trees are archived; None: they can be counted."""
    statement = select(_RUNS.c.trees_in_store).where(_RUNS.c.id == run_id)
    stored = trees_in_store(transaction.execute(statement).scalar())
    return stored.numbers if stored is not None else None


def in_words(run: str, place: str) -> str:
    """Return the sentence that people read in place of trees that are archived; `place`: of their
    database.
    """
    restore = f"restmcts runs restore {quote(run)}{place}"
    return f"the trees of run {run} are archived in the store; `{restore}` brings them back"


def check_run_is_here(transaction: Transaction, run_id: int) -> None:
    """Do nothing if the trees of a run are in the database.

    Raises:
        InputError: if they are archived; it says how they come back.
    """
    _check(transaction, _RUNS.c.id == run_id)


def check_trees_are_here(transaction: Transaction, tree_ids: Iterable[int]) -> None:
    """Do nothing if trees are in the database, or nowhere.

    Raises:
        InputError: if one is archived; it says how it comes back.
    """
    _check(transaction, _RUNS.c.id.in_(select(_TREES.c.run_id).where(_TREES.c.id.in_(list(tree_ids)))))


def _check(transaction: Transaction, condition: ColumnElement[bool]) -> None:
    statement = select(_RUNS.c.name).where(condition, _RUNS.c.trees_in_store.is_not(None)).limit(1)
    name = transaction.execute(statement).scalar()
    if name is not None:
        raise InputError(in_words(name, transaction.place))


def set_trees_in_store(transaction: Transaction, run_id: int, stored: TreesInStore | None) -> None:
    """Store where a run's trees are; None: in the database."""
    value = asdict(stored) if stored is not None else None
    transaction.execute(update(_RUNS).where(_RUNS.c.id == run_id).values(trees_in_store=value))


def batches(transaction: Transaction, run_id: int) -> Iterator[list[int]]:
    """Yield the trees of a run in order of creation, so many at once that they have about
    `NODES_AT_ONCE` nodes.
    """
    statement = select(_TREES.c.id, _TREES.c.nodes).where(_TREES.c.run_id == run_id).order_by(_TREES.c.id)
    batch: list[int] = []
    num_nodes = 0
    for tree_id, nodes in transaction.execute(statement):
        batch.append(tree_id)
        num_nodes += nodes + 1
        if num_nodes >= NODES_AT_ONCE:
            yield batch
            batch, num_nodes = [], 0
    if batch:
        yield batch


def rows_of(transaction: Transaction, table: Table, tree_ids: Sequence[int]) -> list[Columns]:
    """Return all rows of a table of `MOVED` that belong to some trees, in order of its key."""
    key = [table.c[name] for name in KEYS[table.name]]
    statement = select(table).where(table.c.tree_id.in_(tree_ids)).order_by(*key)
    return [dict(row) for row in transaction.execute(statement).mappings()]


def delete_rows(transaction: Transaction, tree_ids: Sequence[int]) -> int:
    """Delete the nodes and requests of some trees; return how many rows there were."""
    return sum(transaction.execute(delete(table).where(table.c.tree_id.in_(tree_ids))).rowcount for table in MOVED)


def put_back(transaction: Transaction, table: Table, rows: Sequence[Columns]) -> None:
    """Insert the rows of some whole trees in place of those that are there of them."""
    transaction.execute(delete(table).where(table.c.tree_id.in_({row["tree_id"] for row in rows})))
    if PLACE_IN_QUEUE in table.c and _are_taken(transaction, table, [row[PLACE_IN_QUEUE] for row in rows]):
        rows = [{name: value for name, value in row.items() if name != PLACE_IN_QUEUE} for row in rows]
    transaction.insert(table, rows)


def _are_taken(transaction: Transaction, table: Table, places: Sequence[int]) -> bool:
    column = table.c[PLACE_IN_QUEUE]
    parts = (places[start : start + PLACES_AT_ONCE] for start in range(0, len(places), PLACES_AT_ONCE))
    return any(transaction.execute(select(column).where(column.in_(part)).limit(1)).first() for part in parts)


def count_rows(transaction: Transaction, run_id: int) -> dict[str, int]:
    """Return how many rows of the tables of `MOVED` a run has."""
    return {
        table.name: int(transaction.execute(select(func.count()).where(_in_run(table, run_id))).scalar_one())
        for table in MOVED
    }


def count_bytes(transaction: Transaction, run_id: int) -> int:
    """Return how many bytes those rows take, without indexes and free space."""
    return sum(
        int(transaction.execute(select(_size(transaction, table)).where(_in_run(table, run_id))).scalar_one())
        for table in MOVED
    )


def _in_run(table: Table, run_id: int) -> ColumnElement[bool]:
    return table.c.tree_id.in_(select(_TREES.c.id).where(_TREES.c.run_id == run_id))


def _size(transaction: Transaction, table: Table) -> ColumnElement[int]:
    if transaction.connection.dialect.name == "postgresql":
        return func.coalesce(func.sum(func.pg_column_size(literal_column(table.name))), 0)
    length = sum(func.coalesce(func.length(cast(column, LargeBinary)), 0) for column in table.c)
    return func.coalesce(func.sum(length), 0)


def kinds_of(table: Table) -> dict[str, type]:
    """Return the columns of a table with the Python type of what is in them."""
    types = {column.name: column.type for column in table.c}
    return {
        name: (kind.impl_instance if isinstance(kind, TypeDecorator) else kind).python_type
        for name, kind in types.items()
    }
