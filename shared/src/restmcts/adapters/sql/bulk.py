"""Statements that write many rows. On PostgreSQL, one whose text does not depend on how many: each
column comes as an array.

SQLite has no arrays, and no round trips either: there a statement writes one row, and is executed
once a row.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Insert,
    Table,
    TableValuedAlias,
    Update,
    bindparam,
    column,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

InsertT = TypeVar("InsertT", bound=Insert)
Rows = Sequence[Mapping[str, Any]]


def parameters(rows: Rows, as_arrays: bool) -> dict[str, list[Any]] | list[dict[str, Any]]:
    """Return the parameters of a statement of this module for rows that all have the same
    columns.
    """
    if as_arrays:
        return {_bound(name): [row[name] for row in rows] for name in rows[0]}
    return [{_bound(name): value for name, value in row.items()} for row in rows]


@cache
def insertion(table: Table, names: tuple[str, ...], as_arrays: bool) -> Insert:
    """Return the statement that inserts rows with these columns."""
    return _inserting(insert, table, names, as_arrays)


@cache
def upsertion(table: Table, names: tuple[str, ...], keys: tuple[str, ...], as_arrays: bool) -> Insert:
    """Return the statement that inserts rows, or overwrites the other columns of those whose
    keys are there already.
    """
    statement: postgresql.Insert | sqlite.Insert
    if as_arrays:
        statement = _inserting(postgresql.insert, table, names, as_arrays)
    else:
        statement = _inserting(sqlite.insert, table, names, as_arrays)
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=changed)


@cache
def alteration(
    table: Table,
    names: tuple[str, ...],
    keys: tuple[str, ...],
    conditions: tuple[ColumnElement[bool], ...],
    as_arrays: bool,
) -> Update:
    """Return the statement that overwrites columns of the rows that have the keys, if they meet
    the conditions.
    """
    values: Mapping[str, ColumnElement[Any]] = {name: bindparam(_bound(name)) for name in names}
    if as_arrays:
        values = dict(_unnested(table, names).c.items())
    matching = [table.c[name] == values[name] for name in keys]
    return (
        update(table).where(*matching, *conditions).values({name: values[name] for name in names if name not in keys})
    )


def _inserting(kind: Callable[[Table], InsertT], table: Table, names: tuple[str, ...], as_arrays: bool) -> InsertT:
    if as_arrays:
        return kind(table).from_select(list(names), select(*_unnested(table, names).c))
    return kind(table).values({name: bindparam(_bound(name)) for name in names})


def _unnested(table: Table, names: tuple[str, ...]) -> TableValuedAlias:
    arrays = (bindparam(_bound(name), type_=ARRAY(table.c[name].type)) for name in names)
    columns = (column(name, table.c[name].type) for name in names)
    return func.unnest(*arrays).table_valued(*columns, name="given").render_derived()


def _bound(name: str) -> str:
    """Return the name of a column's parameter; SQLAlchemy keeps the plain one for itself."""
    return f"given_{name}"
