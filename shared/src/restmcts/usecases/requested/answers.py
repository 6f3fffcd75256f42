"""What is answered over HTTP about projects and their runs: written by the dashboard, read by the
command line. Rows that are there already are answered as they are (restmcts.adapters.sql.rows).
"""

from dataclasses import dataclass
from datetime import datetime

from restmcts.adapters.sql.project_rows import Usage
from restmcts.adapters.sql.reads.queries import PhaseNumbers
from restmcts.adapters.sql.state.blocks import Block
from restmcts.domain.access import Role


@dataclass(frozen=True, slots=True)
class RunDocument:
    """A run with the numbers of its phases.

    Attributes:
        state: running, paused, done, failed or cancelled; blocked where it waits for something that
            its workers cannot have.
        error: why it failed, was paused by itself, or is blocked.
        trees: of all phases.
        tokens: generated in all phases so far.
        tokens_spent: of `max_tokens`; None where the run has no token budget.
        promoted: the checkpoint of each kind that the run goes on with.
        blocked: what it cannot have.
        mark: "unchecked" where nothing checks the verdicts on its trees, else empty.
    """

    run: str
    method: str
    state: str
    error: str | None
    seed: int
    created_at: datetime
    finished_at: datetime | None
    trees: int
    tokens: int
    max_tokens: int | None
    tokens_spent: int | None
    promoted: dict[str, str]
    blocked: list[Block]
    mark: str
    phases: list[PhaseNumbers]


@dataclass(frozen=True, slots=True)
class CreatedDocument:
    """A new run; `problems` are counted by set."""

    run: str
    id: int
    state: str
    problems: dict[str, int]


@dataclass(frozen=True, slots=True)
class StateDocument:
    """The state of a run after a change."""

    run: str
    state: str


@dataclass(frozen=True, slots=True)
class AddedDocument:
    """How many problems were added to a run, by set."""

    run: str
    added: dict[str, int]


@dataclass(frozen=True, slots=True)
class ExtendedDocument:
    """A run that has more iterations: how many in all, and the phases that were added."""

    run: str
    iterations: int
    phases: list[str]


@dataclass(frozen=True, slots=True)
class TagsDocument:
    """The tags of a run after a change, in alphabetical order."""

    run: str
    tags: list[str]


@dataclass(frozen=True, slots=True)
class Quotas:
    """What the runs of a project may take together; null: as much as they want.

    Attributes:
        max_tokens: that they may generate.
        max_trees_in_flight: that may search at the same time.
        max_bytes: of their checkpoints and data in the store.
    """

    max_tokens: int | None
    max_trees_in_flight: int | None
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class ProjectDocument:
    """The caller's project, and what the caller may do in it."""

    project: str
    created_at: datetime
    token: str
    role: Role
    quotas: Quotas
    usage: Usage


@dataclass(frozen=True, slots=True)
class SecretDocument:
    """A new token; its secret is shown this once."""

    token: str
    role: Role
    secret: str
