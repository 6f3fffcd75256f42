"""Answers of the API as JSON; the documents are in restmcts.usecases.requested.answers."""

import json
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from typing import Any

from fastapi import Response


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was refused, or failed."""

    reason: str


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
