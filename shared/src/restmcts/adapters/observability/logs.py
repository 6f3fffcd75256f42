"""Log lines that say what they are about: run, tree and request ids, in every line, as JSON or
as text.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

Format = Literal["auto", "json", "text"]
MAX_IDS = 32
"""Named of each kind in a line; a batch may be about hundreds of trees."""

_about: ContextVar[dict[str, tuple[int, ...]] | None] = ContextVar("about", default=None)


@contextmanager
def about(**ids: Sequence[int]) -> Iterator[None]:
    """Let every line of the block bear these ids, e.g. `about(runs=[1], trees=[4, 5])`, besides
    those of the blocks around it.
    """
    token = _about.set({**(_about.get() or {}), **{name: tuple(values) for name, values in ids.items()}})
    try:
        yield
    finally:
        _about.reset(token)


def ids_of(message: object) -> dict[str, Sequence[int]]:
    """Return what a message is about, in the form that `about` takes."""
    found: dict[str, Sequence[int]] = {"trees": message.tree_ids} if hasattr(message, "tree_ids") else {}
    for name in ("run", "phase"):
        if hasattr(message, f"{name}_id"):
            found[f"{name}s"] = [getattr(message, f"{name}_id")]
    return found


def configure(service: str, style: Format, level: int | str = logging.INFO) -> None:
    """Send all log lines to standard error; "auto" is text on a terminal and JSON elsewhere."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(service) if as_json else TextLines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, service, message, ids by kind (maybe none),
    and the error.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        ids = _about.get() or {}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "service": self._service,
            "message": record.getMessage(),
            **{name: list(ids.get(name, ())[:MAX_IDS]) for name in ("runs", "phases", "trees", "requests")},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


class TextLines(logging.Formatter):
    """The same for people: `12:00:01 WARNING search trees=4,5: …`."""

    def __init__(self, service: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(where)s: %(message)s", "%H:%M:%S")
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        ids = _about.get() or {}
        shown = [f"{name}={','.join(map(str, values[:MAX_IDS]))}" for name, values in ids.items() if values]
        record.where = " ".join([self._service, *shown])
        return super().format(record)
