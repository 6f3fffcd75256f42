"""Statements that write many rows. On PostgreSQL, one whose text does not depend on how many: each
column comes as an array.

SQLite has no arrays, and no round trips either: there a statement writes one row, and is executed
    once a row.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, bindparam, column, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

Rows = Sequence[Mapping[str, Any]]


def parameters(rows: Rows, as_arrays: bool) -> Any:
    """Return the parameters of a statement of this module for rows that all have the same
    columns.
    """
    if as_arrays:
        return {_bound(name): [row[name] for row in rows] for name in rows[0]}
    return [{_bound(name): value for name, value in row.items()} for row in rows]


@cache
def insertion(table: Any, names: tuple[str, ...], as_arrays: bool) -> Any:
    """Return the statement that inserts rows with these columns."""
    return _inserting(insert, table, names, as_arrays)


@cache
def upsertion(table: Any, names: tuple[str, ...], keys: tuple[str, ...], as_arrays: bool) -> Any:
    """Return the statement that inserts rows, or overwrites the other columns of those whose
    keys are there already.
    """
    statement = _inserting(postgresql.insert if as_arrays else sqlite.insert, table, names, as_arrays)
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=changed)


@cache
def alteration(
    table: Any, names: tuple[str, ...], keys: tuple[str, ...], conditions: tuple[Any, ...], as_arrays: bool
) -> Any:
    """Return the statement that overwrites columns of the rows that have the keys, if they meet
    the conditions.
    """
    values = _unnested(table, names).c if as_arrays else {name: bindparam(_bound(name)) for name in names}
    matching = [table.c[name] == values[name] for name in keys]
    return (
        update(table).where(*matching, *conditions).values({name: values[name] for name in names if name not in keys})
    )


def _inserting(kind: Any, table: Any, names: tuple[str, ...], as_arrays: bool) -> Any:
    if as_arrays:
        return kind(table).from_select(list(names), select(*_unnested(table, names).c))
    return kind(table).values({name: bindparam(_bound(name)) for name in names})


def _unnested(table: Any, names: tuple[str, ...]) -> Any:
    arrays = (bindparam(_bound(name), type_=ARRAY(table.c[name].type)) for name in names)
    columns = (column(name, table.c[name].type) for name in names)
    return func.unnest(*arrays).table_valued(*columns, name="given").render_derived()


def _bound(name: str) -> str:
    """Return the name of a column's parameter; SQLAlchemy keeps the plain one for itself."""
    return f"given_{name}"
