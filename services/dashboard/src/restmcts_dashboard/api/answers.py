"""Answers of the API as JSON, and the documents of a project; those of its runs are in
restmcts.usecases.requested.answers.
"""

import json
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from typing import Any

from fastapi import Response
from restmcts.adapters.sql.project_rows import Usage
from restmcts.domain.access import Role


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was refused, or failed."""

    reason: str


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


def answer(value: object, status: int = 200) -> Response:
    """Return a document as JSON, times in ISO 8601; what UTF-8 cannot encode, as a model may write
    it, is replaced.
    """
    text = json.dumps(value, default=_jsonable, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")


def _jsonable(value: Any) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
