"""Rows of a table as a Parquet file in groups, each written and read at once, and a digest of
their values. Knows nothing of what they mean.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, Any]]
_TYPES = {
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    str: pa.string(),
    datetime: pa.timestamp("us", "UTC"),
}


class RowGroups:
    """Writes rows into a file, group by group.

    Args:
        kinds: the columns with the Python type of their values; any may be None.
    """

    def __init__(self, path: Path, kinds: Mapping[str, type]) -> None:
        self._schema = pa.schema([(name, _TYPES[kind]) for name, kind in kinds.items()])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Rows) -> None:
        """Add a group; no rows are none."""
        if rows:
            self._writer.write_table(pa.Table.from_pylist(list(rows), self._schema), row_group_size=len(rows))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()


def read_groups(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the groups of a file in order."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number).to_pylist()


class RowDigest:
    """Counts rows and digests their values, but for some columns; equal if and only if the rows are
    equal and come in the same order, in whatever groups.
    """

    def __init__(self, besides: Collection[str] = ()) -> None:
        self._digest = hashlib.sha256()
        self._besides = besides
        self.num_rows = 0

    def add(self, rows: Rows) -> None:
        """Digest some more rows."""
        self.num_rows += len(rows)
        for row in rows:
            values = {name: value for name, value in row.items() if name not in self._besides}
            self._digest.update(json.dumps(values, sort_keys=True, default=_in_utc).encode() + b"\n")

    @property
    def value(self) -> str:
        return self._digest.hexdigest()


def _in_utc(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()
