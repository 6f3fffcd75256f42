"""Rows of training data as a page shows them: each step with its weight and value, and the node
that it is from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from restmcts.adapters.sql.rows import JsonObject, ListedDataset
from restmcts.domain.text import counted
from restmcts.errors import NotFoundError, RestMctsError
from restmcts.ports import ArtifactStore

ROWS_ON_A_PAGE = 25
_ONE_AT_A_TIME = Lock()
"""A store's cache may take away for one reader what another reads."""


@dataclass(frozen=True, slots=True)
class TrainedStep:
    """A step; `weight` is how much a policy learns from it, `value` what a value model learns of
    it, in a policy's row the learner's estimate, and in a pair the score of its side.
    """

    text: str
    weight: float | None = None
    value: float | None = None
    role: str = ""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A row; `node_id` is that of its last step, None where a solution was given."""

    number: int
    question: str
    steps: Sequence[TrainedStep]
    tree_id: int | None
    node_id: int | None


def read_page(artifacts: ArtifactStore, data: ListedDataset, page: int) -> list[TrainingRow]:
    """Return the rows of a page, from 0.

    Raises:
        RestMctsError: if this installation cannot read Parquet.
        NotFoundError: if the page is beyond the last.
    """
    begin = page * ROWS_ON_A_PAGE
    found = read_rows(artifacts, data, begin, begin + ROWS_ON_A_PAGE)
    if not found and page:
        raise NotFoundError(
            f"the training data of {data.phase} has no page {page}: it has {counted(data.num_rows, 'row')}"
        )
    return [_row(begin + place, row) for place, row in enumerate(found)]


def read_rows(artifacts: ArtifactStore, data: ListedDataset, begin: int, end: int) -> list[JsonObject]:
    """Return the rows from `begin` up to `end`, counted from 0, as they are stored.

    Raises:
        RestMctsError: if this installation cannot read Parquet.
        StorageError: if the store does not give the data.
    """
    try:
        from restmcts.adapters.files.dataset_shards import rows_between
    except ImportError as error:
        raise RestMctsError(f"training rows cannot be read here ({error}): install restmcts[data]") from error
    with _ONE_AT_A_TIME:
        return rows_between(artifacts.fetch(data.uri), begin, end)


def _row(number: int, row: Mapping[str, Any]) -> TrainingRow:
    return TrainingRow(number, row["question"], _steps(row), row["tree_id"], row["node_id"])


def _steps(row: Mapping[str, Any]) -> list[TrainedStep]:
    if "chosen" in row:
        before = [TrainedStep(text, role="before") for text in row["steps"]]
        sides = (
            TrainedStep(text, value=row.get(f"{side}_value"), role=side)
            for side in ("chosen", "rejected")
            for text in row[side]
        )
        return [*before, *sides]
    empty = [None] * len(row["steps"])
    weights = row.get("weights") or empty
    values = row.get("targets") or row.get("values") or empty
    return [TrainedStep(*one) for one in zip(row["steps"], weights, values, strict=True)]
