"""What queries return: a frozen dataclass each, whose fields are the columns by name.

Those of whole tables are here, each with the meaning of its table in restmcts.adapters.sql.tables;
others are beside their query.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Table

JsonObject = dict[str, Any]
"""A JSON column, to be validated by the class that it was written from."""

Columns = dict[str, Any]
"""Values to be written, by column; SQL expressions among them."""


def columns(kind: type, table: Table, besides: Sequence[str] = ()) -> list[Column[Any]]:
    """Return the columns of a table that a row class names, but for those that come from
    elsewhere.
    """
    return [table.c[field.name] for field in fields(kind) if field.name not in besides]


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run."""

    id: int
    name: str
    method: str
    seed: int
    config: JsonObject
    state: str
    error: str | None
    max_tokens: int | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredProblem:
    """A problem of a set of a run, its true answer included."""

    id: int
    run_id: int
    set_name: str
    position: int
    question: str
    answer: str | None
    solution: list[str] | None
    kind: str
    digest: str
    derived_from: int | None
    begins_with: list[str] | None


@dataclass(frozen=True, slots=True)
class StoredPhase:
    """A phase of a run."""

    id: int
    run_id: int
    position: int
    name: str
    kind: str
    iteration: int
    spec: JsonObject
    state: str
    policy_id: int | None
    value_id: int | None
    result: JsonObject
    attempt: int
    lease_until: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint of a run."""

    id: int
    run_id: int
    name: str
    kind: str
    uri: str
    digest: str
    parent: str | None
    lineage: JsonObject
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """The training data of a phase."""

    id: int
    phase_id: int
    kind: str
    uri: str
    digest: str
    num_rows: int
    card: JsonObject
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion, with the name of the checkpoint that was promoted."""

    checkpoint: str
    id: int
    run_id: int
    kind: str
    checkpoint_id: int
    phase_id: int | None
    created_at: datetime


Condition = ColumnElement[bool]
