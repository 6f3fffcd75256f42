"""What queries over projects return: a frozen dataclass each, as in restmcts.adapters.sql.rows."""

from dataclasses import dataclass
from datetime import datetime

from restmcts.adapters.sql.rows import JsonObject


@dataclass(frozen=True, slots=True)
class StoredProject:
    """A project with its quotas; None: no limit."""

    id: int
    name: str
    created_at: datetime
    max_tokens: int | None
    max_trees_in_flight: int | None
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token of a project without its digest; `role` is a restmcts.domain.access.Role."""

    name: str
    role: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """Something that somebody changed; `project` is None where no project is concerned."""

    id: int
    at: datetime
    project: str | None
    actor: str
    action: str
    subject: str
    detail: JsonObject


@dataclass(frozen=True, slots=True)
class Usage:
    """What counts against the quotas of a project.

    Attributes:
        tokens: budgets of its runs that have not ended, and what its other runs have generated.
        trees_in_flight: of its runs that have not ended, paused ones among them.
        num_bytes: of its checkpoints and data in the store.
        num_runs: that it has, ended ones among them.
    """

    tokens: int
    trees_in_flight: int
    num_bytes: int
    num_runs: int
