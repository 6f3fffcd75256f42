"""Training data as folders of Parquet shards with a card; readable with
`datasets.load_dataset("parquet", ...)`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_SHARD = 50_000
ROWS_PER_BATCH = 1_000
_LINEAGE = [("problem_id", pa.int64()), ("tree_id", pa.int64()), ("node_id", pa.int64())]
# A row a path. A weight is null where a step teaches nothing; a value where it is not known. `pair`
# is the same number for a chosen step and its rejected one, which follows it.
POLICY_SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("weights", pa.list_(pa.float64())),
        ("values", pa.list_(pa.float64())),
        ("leaf_counts", pa.list_(pa.int64())),
        ("log_probs", pa.list_(pa.float64())),
        ("finished", pa.bool_()),
        ("pair", pa.int64()),
        ("model_value", pa.float64()),
        *_LINEAGE,
    ]
)
VALUE_SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("targets", pa.list_(pa.float64())),
        ("leads_to_right", pa.list_(pa.bool_())),
        ("finished", pa.bool_()),
        *_LINEAGE,
    ]
)
# `steps` is the partial solution before the pair; `node_id` is that of the chosen step, where it is
# one step of a tree.
PREFERENCE_SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("chosen", pa.list_(pa.string())),
        ("rejected", pa.list_(pa.string())),
        ("chosen_finished", pa.bool_()),
        ("rejected_finished", pa.bool_()),
        ("chosen_value", pa.float64()),
        ("rejected_value", pa.float64()),
        *_LINEAGE,
        ("rejected_node_id", pa.int64()),
    ]
)


class _SharedText:
    """Counts the text of paths, and that of their trees: a question, and steps after the same
    steps, once. Paths of one question follow one another.
    """

    def __init__(self) -> None:
        self._question: str | None = None
        self._known: set[tuple[str, ...]] = set()
        self._of_paths = self._of_trees = 0

    @property
    def saved(self) -> float:
        """The share of the text that training on trees need not read again."""
        return 1.0 - self._of_trees / self._of_paths if self._of_paths else 0.0

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Count rows."""
        for row in rows:
            if row["question"] != self._question:
                self._question, self._known = row["question"], set()
                self._of_trees += len(row["question"])
            self._of_paths += len(row["question"]) + sum(map(len, row["steps"]))
            for length, step in enumerate(row["steps"], start=1):
                path = tuple(row["steps"][:length])
                if path not in self._known:
                    self._known.add(path)
                    self._of_trees += len(step)


def write_shards(
    rows: Iterator[dict[str, Any]], schema: pa.Schema, card: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Write rows as Parquet and the card, completed with the counts, the label histogram (by
    tenths) and, of a policy's paths, the share of text that `tree_packing` saves; return the card.
    """
    num_rows = num_shards = 0
    histogram: Counter[str] = Counter()
    trees_seen: set[int] = set()
    shared = _SharedText()
    while shard := list(islice(rows, ROWS_PER_SHARD)):
        pq.write_table(pa.Table.from_pylist(shard, schema), folder / f"train-{num_shards:05d}.parquet")
        num_shards += 1
        num_rows += len(shard)
        trees_seen.update(row["tree_id"] for row in shard if row["tree_id"] is not None)
        shared.add(shard)
        histogram.update(f"{target:.1f}" for row in shard for target in row.get("targets", ()) if target is not None)
    card = {**card, "num_rows": num_rows, "num_trees": len(trees_seen), "targets": dict(sorted(histogram.items()))}
    if schema is POLICY_SCHEMA:
        card["tree_packing_saves"] = round(shared.saved, 3)
    (folder / "card.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")
    return card


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of a dataset, in order."""
    return [row for shard in sorted(folder.glob("train-*.parquet")) for row in pq.read_table(shard).to_pylist()]


def rows_between(folder: Path, begin: int, end: int) -> list[dict[str, Any]]:
    """Return the rows of a dataset from `begin` up to `end`, counted from 0; shards without any of
    them are not read.
    """
    found: list[dict[str, Any]] = []
    first = 0
    for shard in sorted(folder.glob("train-*.parquet")):
        with pq.ParquetFile(shard) as file:
            last = first + file.metadata.num_rows
            if first < end and begin < last:
                found += _rows_within(file, max(begin - first, 0), end - first)
            first = last
    return found


def _rows_within(file: pq.ParquetFile, begin: int, end: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one shard from `begin` up to `end`; a part of them is in memory at once."""
    first = 0
    for batch in file.iter_batches(ROWS_PER_BATCH):
        if first >= end:
            return
        if begin < first + len(batch):
            start = max(begin - first, 0)
            yield from batch.slice(start, end - first - start).to_pylist()
        first += len(batch)
