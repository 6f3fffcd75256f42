"""What every message is: frozen, strict, versioned, small, and mergeable with its like."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Queue(StrEnum):
    """One queue a service."""

    POLICY = "policy"
    PRM = "prm"
    SEARCH = "search"
    LABELS = "labels"
    TRAINER = "trainer"
    COORDINATOR = "coordinator"


RowId = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""The key of a row, within what a database holds."""


class Message(BaseModel):
    """A wake-up: it names rows, and may be lost, doubled or late without harm.

    Class attributes:
        name: the wire name, equal to the Celery task's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: ClassVar[str]

    schema_version: Literal[1] = 1

    @classmethod
    def merged(cls, messages: Sequence[Self]) -> list[Self]:
        """Return fewer messages that ask for the same: equal ones once."""
        return list(dict.fromkeys(messages))


class TreesMessage(Message):
    """A message about trees, at least one."""

    tree_ids: tuple[RowId, ...]

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @classmethod
    def merged(cls, messages: Sequence[Self]) -> list[Self]:
        """Return one message for all trees, each named once."""
        tree_ids = dict.fromkeys(tree_id for message in messages for tree_id in message.tree_ids)
        return [cls(tree_ids=tuple(tree_ids))] if tree_ids else []


class RunMessage(Message):
    """A message about one run."""

    run_id: RowId


class PhaseMessage(Message):
    """A message about one phase of a run."""

    phase_id: RowId
