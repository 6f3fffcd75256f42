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
class RunFacts:
    """A run without its settings, which lists do not need."""

    id: int
    name: str
    method: str
    seed: int
    state: str
    error: str | None
    max_tokens: int | None
    created_at: datetime
    finished_at: datetime | None
    archived_at: datetime | None
    tags: list[str]
    notified_state: str | None


@dataclass(frozen=True, slots=True)
class StoredRun(RunFacts):
    """A run."""

    config: JsonObject
    provenance: list[JsonObject] | None
    trees_in_store: JsonObject | None
    project_id: int | None


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
    num_bytes: int | None
    parent: str | None
    lineage: JsonObject
    benches: JsonObject
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """The training data of a phase."""

    id: int
    phase_id: int
    kind: str
    uri: str
    digest: str
    num_bytes: int | None
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


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run, with how many of its phases and trees there are and how many of them have ended;
    `tokens_spent` is None where it has no token budget.
    """

    id: int
    name: str
    method: str
    state: str
    seed: int
    error: str | None
    max_tokens: int | None
    created_at: datetime
    finished_at: datetime | None
    archived_at: datetime | None
    tags: list[str]
    num_phases: int
    num_phases_ended: int
    tokens_spent: int | None
    num_trees: int
    num_trees_ended: int


@dataclass(frozen=True, slots=True)
class TreeFacts:
    """A tree without its nodes; `phase` is a name, `problem` a position in its set, `staleness` the
    trainings of the policy between the one that wrote it and the one that learns from it.
    """

    id: int
    phase: str
    staleness: int
    problem: int
    question: str
    state: str
    verdict: str | None
    solved: bool | None
    answer: str | None
    iterations: int
    tokens: int
    model_calls: int
    seconds: float
    prompt_tokens: int
    reused_tokens: int
    scored_tokens: int
    stop_reason: str | None
    chosen_node: int | None
    error: str | None
    seed: int
    num_attempts: int
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedTree(TreeFacts):
    """A tree of a list; `nodes` is how many it has."""

    nodes: int


@dataclass(frozen=True, slots=True)
class FailedTree(ListedTree):
    """A tree that failed, with its run."""

    run: str
    run_id: int


@dataclass(frozen=True, slots=True)
class ShownTree(TreeFacts):
    """A tree with the name of its run and the true answer of its problem."""

    true_answer: str | None
    run: str
    num_nodes: int


@dataclass(frozen=True, slots=True)
class ShownNode:
    """A node of a tree that is known; `search_value` is None where nothing is known of the node
    (restmcts.domain.tree.known_value).
    """

    node_id: int
    parent_id: int | None
    step: str
    depth: int
    log_prob: float
    num_tokens: int
    model_value: float | None
    search_value: float | None
    visits: int
    expanded: bool
    final: bool
    multiplicity: int
    origin: str
    verdict: str | None
    score: float | None
    verdict_source: str | None
    reason: str | None
    reasoning_distance: int | None
    step_is_right: bool | None
    weighted_reward: float | None
    quality_value: float | None


@dataclass(frozen=True, slots=True)
class TreeWithNodes(ShownTree):
    """A tree with its nodes in order of creation."""

    nodes: list[ShownNode]


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """A problem set of a run, with one of its questions."""

    set: str
    num_problems: int
    example: str


@dataclass(frozen=True, slots=True)
class ListedProblem:
    """A problem of a set that is known, its true answer included."""

    position: int
    question: str
    answer: str | None
    solution: list[str] | None
    kind: str


@dataclass(frozen=True, slots=True)
class ListedCheckpoint(StoredCheckpoint):
    """A checkpoint with the name of its run, whether it is the promoted one of its kind, and
    whether it was that at any time.
    """

    run: str
    promoted: bool
    was_promoted: bool


@dataclass(frozen=True, slots=True)
class ListedDataset(StoredDataset):
    """Training data with the names of its run and of the phase that it trains."""

    run: str
    phase: str


Condition = ColumnElement[bool]
