"""The tables. States are text with a check constraint, times are UTC, big things are named by URI
and digest.

Rows are for reading; hot paths write through the tables of `SQLModel.metadata` in bulk
(restmcts.adapters.sql.*).
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from restmcts.adapters.sql.clock import UtcDateTime, moment


class RunState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"


class PhaseState(StrEnum):
    PENDING = "pending"
    SEARCHING = "searching"
    WRITING = "writing"
    TRAINING = "training"
    PROMOTING = "gating"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class TreeState(StrEnum):
    WAITING = "waiting"
    SEARCHING = "searching"
    ENDED = "ended"
    LABELLED = "labelled"
    FAILED = "failed"


class RequestState(StrEnum):
    WAITING = "waiting"
    LEASED = "leased"
    ANSWERED = "answered"
    APPLIED = "applied"


class RequestKind(StrEnum):
    PROPOSE = "propose"
    SCORE = "score"
    CALL = "call"


class Need(StrEnum):
    CHECKPOINT = "checkpoint"
    PHASE = "phase"
    RUN = "run"


class NodeOrigin(StrEnum):
    SEARCH = "search"
    ROLLOUT = "rollout"
    SOLUTION = "solution"
    OBSERVATION = "observation"
    GIVEN_OBSERVATION = "given-observation"


def one_of(column: str, states: type[StrEnum], table: str) -> CheckConstraint:
    allowed = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"ck_{table}_{column}")


# Index takes options of every type.
def _only(condition: str) -> dict[str, Any]:
    """Return the options of an index over the rows that meet a condition."""
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


def big_key() -> Column[int]:
    """Return a 64-bit key column; SQLite counts rows up by itself only in a plain INTEGER."""
    return Column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


def time_column(nullable: bool = True) -> Column[datetime]:
    return Column(UtcDateTime(), nullable=nullable)


def time_of_insertion() -> Column[datetime]:
    return Column(UtcDateTime(), nullable=False, default=moment())


class Run(SQLModel, table=True):
    """A run: a list of phases over its problem sets.

    `error` says why it failed or was paused by itself; `max_tokens` is how many its policy may
    generate (None: no limit). `notified_state` is the state that somebody was last notified of, if
    the run is still in it. `tags` are words of people; an archived run is left out of lists.
    `provenance` is what restmcts.domain.provenance records; None: the run is older than that.
    `trees_in_store` is what restmcts.adapters.sql.state.archived_trees says of nodes and requests
    that are in the store; None: they are in their tables. `project_id` is whose quotas it is under;
    None: it is a run of the operators, under none.
    """

    __tablename__ = "runs"
    __table_args__ = (one_of("state", RunState, "runs"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True, unique=True)
    method: str
    seed: int = Field(sa_column=Column(BigInteger, nullable=False))
    config: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: str = Field(default=RunState.RUNNING, index=True)
    error: str | None = None
    max_tokens: int | None = Field(default=None, sa_column=Column(BigInteger))
    created_at: datetime = Field(sa_column=time_of_insertion())
    finished_at: datetime | None = Field(default=None, sa_column=time_column())
    archived_at: datetime | None = Field(default=None, sa_column=time_column())
    notified_state: str | None = None
    provenance: list[dict[str, Any]] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    trees_in_store: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    project_id: int | None = Field(default=None, foreign_key="projects.id", index=True)
    tags: list[str] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False, default=list, server_default="[]")
    )


class ProblemRow(SQLModel, table=True):
    """A problem of one set of one run. Only labelers and graders read `answer` and `solution`.

    A problem `derived_from` another is that problem as a later phase asks it: in other words, or
    beginning with given steps.
    """

    __tablename__ = "problems"
    __table_args__ = (UniqueConstraint("run_id", "set_name", "position"),)

    id: int | None = Field(default=None, sa_column=big_key())
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE")
    set_name: str
    position: int
    question: str = Field(sa_column=Column(Text, nullable=False))
    answer: str | None = Field(default=None, sa_column=Column(Text))
    solution: list[str] | None = Field(default=None, sa_column=Column(JSON))
    kind: str = "math"
    digest: str = Field(index=True)
    derived_from: int | None = Field(default=None, sa_column=Column(BigInteger))
    begins_with: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class PhaseRow(SQLModel, table=True):
    """One phase of a run (restmcts.domain.runs.phases); a training phase is also its job,
    which a worker leases.
    """

    __tablename__ = "phases"
    __table_args__ = (UniqueConstraint("run_id", "name"), one_of("state", PhaseState, "phases"))

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE")
    position: int
    name: str
    kind: str
    iteration: int
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    state: str = PhaseState.PENDING
    policy_id: int | None = None
    value_id: int | None = None
    result: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    attempt: int = 0
    lease_until: datetime | None = Field(default=None, sa_column=time_column())
    started_at: datetime | None = Field(default=None, sa_column=time_column())
    finished_at: datetime | None = Field(default=None, sa_column=time_column())


class TreeRow(SQLModel, table=True):
    """A search of one problem in one phase: its state, what it has spent, what it answered.

    `version` counts the transactions that advanced it; `updated_at` is when it last went on or was
    woken, `num_attempts` how often it was woken since it last went on.
    """

    __tablename__ = "trees"
    __table_args__ = (
        UniqueConstraint("phase_id", "problem_id"),
        Index("ix_trees_phase_state", "phase_id", "state", "id"),
        one_of("state", TreeState, "trees"),
    )

    id: int | None = Field(default=None, sa_column=big_key())
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE", index=True)
    phase_id: int = Field(foreign_key="phases.id", ondelete="CASCADE")
    problem_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    seed: int = Field(sa_column=Column(BigInteger, nullable=False))
    state: str = TreeState.WAITING
    version: int = 0
    num_attempts: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    scored_tokens: int = 0
    model_calls: int = 0
    nodes: int = 0
    iterations: int = 0
    seconds: float = 0.0
    stop_reason: str | None = None
    chosen_node: int | None = None
    answer: str | None = Field(default=None, sa_column=Column(Text))
    verdict: str | None = None
    solved: bool | None = None
    error: str | None = Field(default=None, sa_column=Column(Text))
    started_at: datetime | None = Field(default=None, sa_column=time_column())
    updated_at: datetime | None = Field(default=None, sa_column=time_column())
    ended_at: datetime | None = Field(default=None, sa_column=time_column())


class NodeRow(SQLModel, table=True):
    """A node of a tree (restmcts.domain.tree) and, once the tree is labelled, its label
    (restmcts.domain.labels.inferred).
    """

    __tablename__ = "nodes"

    tree_id: int = Field(sa_column=Column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True))
    node_id: int = Field(primary_key=True)
    parent_id: int | None = None
    step: str = Field(sa_column=Column(Text, nullable=False))
    depth: int
    log_prob: float = 0.0
    num_tokens: int = 0
    model_value: float | None = None
    search_value: float = 0.0
    visits: int = 0
    expanded: bool = False
    final: bool = False
    multiplicity: int = 0
    origin: str = NodeOrigin.SEARCH
    verdict: str | None = None
    score: float | None = None
    verdict_source: str | None = None
    reason: str | None = Field(default=None, sa_column=Column(Text))
    reasoning_distance: int | None = None
    step_is_right: bool | None = None
    weighted_reward: float | None = None
    quality_value: float | None = None


class TruthLedgerRow(SQLModel, table=True):
    """What a tree was found to say (restmcts.domain.truth.ledger), where that does not rest on
    a true answer.
    """

    __tablename__ = "truth_ledger"

    tree_id: int = Field(sa_column=Column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True))
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE", index=True)
    digest: str
    iteration: int
    answer: str | None = Field(default=None, sa_column=Column(Text))
    agreement: float | None = None
    is_probe: bool = False


class AnnotationRow(SQLModel, table=True):
    """What a person says of a step of a tree, or of the answer that ends with it
    (restmcts.domain.labels.annotations).
    """

    __tablename__ = "annotations"
    __table_args__ = (UniqueConstraint("tree_id", "node_id", "subject", "who"),)

    id: int | None = Field(default=None, sa_column=big_key())
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE", index=True)
    tree_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    node_id: int
    subject: str
    verdict: str
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    who: str
    source: str
    created_at: datetime = Field(sa_column=time_of_insertion())


class RequestRow(SQLModel, table=True):
    """A request to a model or to a tool: what is asked, who may serve it, what came back, and when
    the search took the answer.

    Requests of one kind, checkpoint and generation settings may share a batch. An answer
    counts only if it comes from the current `attempt`; `error` is why the last one failed. Applied
    requests in `applied_order` replay their tree. `max_tokens` is how many its answer may cost,
    where its run has a token budget.
    """

    __tablename__ = "requests"
    __table_args__ = (
        UniqueConstraint("tree_id", "number"),
        # Small however many requests were ever applied: what waits, and what is leased or to be
        # applied.
        Index("ix_requests_waiting", "kind", "id", **_only("state = 'waiting'")),
        Index("ix_requests_batch", "checkpoint_id", "generation", "id", **_only("state = 'waiting'")),
        Index("ix_requests_open", "state", "tree_id", **_only("state IN ('leased', 'answered')")),
        one_of("state", RequestState, "requests"),
    )

    id: int | None = Field(default=None, sa_column=big_key())
    tree_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    problem_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    number: int
    kind: str
    checkpoint_id: int
    generation: str
    num_prompt_chars: int
    max_tokens: int | None = None
    payload: str = Field(sa_column=Column(Text, nullable=False))
    state: str = RequestState.WAITING
    attempt: int = 0
    lease_until: datetime | None = Field(default=None, sa_column=time_column())
    answer: str | None = Field(default=None, sa_column=Column(Text))
    error: str | None = Field(default=None, sa_column=Column(Text))
    applied_order: int | None = None
    elapsed_seconds: float | None = None


class CheckpointRow(SQLModel, table=True):
    """A model by name within its run; the weights are where `uri` says, under their digest.

    `benches` holds what it was measured on, and what that came to. `num_bytes` is what it takes in
    the store; None: that is not known, as of models that a run was given.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("run_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE")
    name: str
    kind: str
    uri: str
    digest: str
    num_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    parent: str | None = None
    lineage: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    benches: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, default=dict, server_default="{}")
    )
    created_at: datetime = Field(sa_column=time_of_insertion())


class PromotionRow(SQLModel, table=True):
    """A checkpoint became the one of its kind that its run goes on with, by a promotion's decision
    or by a person's (no phase).

    The newest row of a run and kind is the pointer; nothing is ever changed here.
    """

    __tablename__ = "promotions"
    __table_args__ = (Index("ix_promotions_pointer", "run_id", "kind", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE")
    kind: str
    checkpoint_id: int = Field(foreign_key="checkpoints.id", ondelete="CASCADE")
    phase_id: int | None = Field(default=None, foreign_key="phases.id", ondelete="CASCADE")
    created_at: datetime = Field(sa_column=time_of_insertion())


class DatasetRow(SQLModel, table=True):
    """The training data of one phase; `num_bytes` is what they take in the store, if known."""

    __tablename__ = "datasets"

    id: int | None = Field(default=None, primary_key=True)
    phase_id: int = Field(foreign_key="phases.id", ondelete="CASCADE", unique=True)
    kind: str
    uri: str
    digest: str
    num_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    num_rows: int
    card: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(sa_column=time_of_insertion())
