"""The tables of what moves runs: messages on their way, messages that failed, what is waited for,
what is spent of token budgets, and the processes of the stack.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, Integer, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from restmcts.adapters.sql.tables import Need, big_key, one_of, time_column, time_of_insertion


class OutboxRow(SQLModel, table=True):
    """A message that was decided in a transaction and is to be published after it; deleted once
    published.
    """

    __tablename__ = "outbox"

    id: int | None = Field(default=None, sa_column=big_key())
    name: str
    body: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=time_of_insertion())


class DeadLetterRow(SQLModel, table=True):
    """A message that could not be handled, with its reason; `num_times` counts how often that was
    so, `last_at` is when it last was, and `digest` is that of all its texts.
    """

    __tablename__ = "dead_letters"
    __table_args__ = (Index("ix_dead_letters_digest", "digest", unique=True),)

    id: int | None = Field(default=None, primary_key=True)
    queue: str
    name: str
    body: str = Field(sa_column=Column(Text, nullable=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=time_of_insertion())
    digest: str | None = None
    num_times: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    last_at: datetime | None = Field(default=None, sa_column=time_column())


class BlockRow(SQLModel, table=True):
    """Something that a run needs and that is not available now, with the reason: the model of a
    checkpoint, what a phase reads or writes, or a plugin of the whole run.

    It is not asked for again before `retry_at`; whoever has it at last deletes the row.
    """

    __tablename__ = "blocks"
    __table_args__ = (UniqueConstraint("need", "need_id"), one_of("need", Need, "blocks"))

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", ondelete="CASCADE", index=True)
    need: str
    need_id: int
    reason: str = Field(sa_column=Column(Text, nullable=False))
    num_tries: int
    since: datetime = Field(sa_column=time_of_insertion())
    retry_at: datetime = Field(sa_column=time_column(nullable=False))


class WorkerRow(SQLModel, table=True):
    """A process that takes the messages of one queue, as it last reported itself; one that ended as
    it should is gone.

    `doing` is the wire name of the message that it handles, None while it waits, and `since` when
    that began; `num_done` counts messages and, within them, batches and reports of training.
    """

    __tablename__ = "workers"

    id: str = Field(primary_key=True)
    queue: str
    host: str
    pid: int
    started_at: datetime = Field(sa_column=time_column(nullable=False))
    seen_at: datetime = Field(sa_column=time_column(nullable=False))
    doing: str | None = None
    since: datetime = Field(sa_column=time_column(nullable=False))
    num_done: int = 0


class TokenCountRow(SQLModel, table=True):
    """Tokens generated in a run that has a token budget: all that were counted so far, or what
    one transaction adds to them.
    """

    __tablename__ = "token_counts"

    id: int | None = Field(default=None, sa_column=big_key())
    run_id: int = Field(index=True)
    tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
