"""The tables of projects: who may do what, how much of it, and who did it."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, UniqueConstraint
from sqlmodel import Field, SQLModel

from restmcts.adapters.sql.tables import big_key, one_of, time_column, time_of_insertion
from restmcts.domain.access import Role


class ProjectRow(SQLModel, table=True):
    """A project, whose runs share its quotas; None: no limit.

    `max_tokens` is how many its runs may generate in all, `max_trees_in_flight` how many of their
    trees may search at the same time, `max_bytes` what their checkpoints and data may take in the
    store.
    """

    __tablename__ = "projects"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True, unique=True)
    created_at: datetime = Field(sa_column=time_of_insertion())
    max_tokens: int | None = Field(default=None, sa_column=Column(BigInteger))
    max_trees_in_flight: int | None = None
    max_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))


class ApiTokenRow(SQLModel, table=True):
    """A token of a project; `digest` is the SHA-256 of its secret, which is stored nowhere."""

    __tablename__ = "api_tokens"
    __table_args__ = (UniqueConstraint("project_id", "name"), one_of("role", Role, "api_tokens"))

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="projects.id")
    name: str
    role: str
    digest: str = Field(index=True, unique=True)
    created_at: datetime = Field(sa_column=time_of_insertion())
    revoked_at: datetime | None = Field(default=None, sa_column=time_column())


class AuditRow(SQLModel, table=True):
    """Something that somebody changed: `actor` is the name of a token, or an operator, and
    `subject` what was changed. Nothing is ever changed here.
    """

    __tablename__ = "audit"

    id: int | None = Field(default=None, sa_column=big_key())
    at: datetime = Field(sa_column=time_of_insertion())
    project_id: int | None = Field(default=None, foreign_key="projects.id", index=True)
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
