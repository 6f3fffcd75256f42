"""Where a row of training data comes from, and what came of a tree: read from the database and
the data sets' files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from restmcts.adapters.sql import queries
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection

NODE_COLUMNS = ("node_id", "rejected_node_id")


def trace_row(connection: Connection, run: str, phase: str, number: int) -> dict[str, Any]:
    """Return a row, from 0, of the training data of a phase, and all that it came from.

    "row" as it stands; "data" of the set; "problem"; and, unless the row is a given solution,
    "tree" with its seed and settings, "nodes" with the labels of the row's own nodes, and the
    checkpoints "policy" and "value" that the tree was searched with.

    Raises:
        InputError: if there is no such run, data set or row.
    """
    data = _dataset(connection, run, phase)
    row = _row(connection.artifacts.fetch(data["uri"]), number)
    if row is None:
        raise InputError(f"the data set of {phase} has the rows 0 to {data['num_rows'] - 1}, not {number}")
    dataset = {"kind": data["kind"], "digest": data["digest"], **_card(data["card"])}
    with connection.database.transaction() as transaction:
        found = {"run": run, "phase": phase, "number": number, "row": row, "data": dataset}
        found["problem"] = queries.problem_of(transaction, row["problem_id"])
        if row["tree_id"] is not None:
            node_ids = [row[name] for name in NODE_COLUMNS if row.get(name) is not None]
            found |= queries.tree_origin(transaction, row["tree_id"], node_ids)
    return found


def rows_of_tree(connection: Connection, tree_id: int) -> list[dict[str, Any]]:
    """Return the rows of training data that a tree gave: run, phase, number from 0, node, and the
    checkpoint that they trained.

    Raises:
        InputError: if there is no such tree.
    """
    with connection.database.transaction() as transaction:
        origin = queries.tree_origin(transaction, tree_id, [])
        run = queries.run_named(transaction, origin["run"])
        datasets = queries.list_datasets(transaction, run.id)
        trained = {row["name"]: row["digest"] for row in queries.list_checkpoints(transaction, run.id)}
    found = []
    for data in datasets:
        if origin["tree"]["phase"] in data["card"]["sources"]:
            place = {"run": origin["run"], "phase": data["phase"], "trained": trained.get(data["phase"])}
            numbers = _numbers(connection.artifacts.fetch(data["uri"]), tree_id)
            found += [{**place, "number": number, "node_id": node_id} for number, node_id in numbers]
    return found


def _dataset(connection: Connection, run: str, phase: str) -> dict[str, Any]:
    with connection.database.transaction() as transaction:
        rows = queries.list_datasets(transaction, queries.run_named(transaction, run).id)
    found = next((row for row in rows if row["phase"] == phase), None)
    if found is None:
        raise InputError(
            f"run {run} has no data set for {phase!r}; it has {', '.join(row['phase'] for row in rows) or 'none'}"
        )
    return found


def _card(card: Mapping[str, Any]) -> dict[str, Any]:
    return {name: card[name] for name in ("sources", "solutions_of", "filter") if card.get(name)}


def _row(folder: Path, number: int) -> dict[str, Any] | None:
    from pyarrow import parquet

    for shard in _shards(folder):
        with parquet.ParquetFile(shard) as file:
            if 0 <= number < file.metadata.num_rows:
                return dict(file.read().slice(number, 1).to_pylist()[0])
            number -= file.metadata.num_rows
    return None


def _numbers(folder: Path, tree_id: int) -> Iterator[tuple[int, int]]:
    """Yield the places of a tree's rows with their nodes."""
    from pyarrow import parquet

    first = 0
    for shard in _shards(folder):
        columns = parquet.read_table(shard, columns=["tree_id", "node_id"]).to_pydict()
        for place, owner in enumerate(columns["tree_id"]):
            if owner == tree_id:
                yield first + place, columns["node_id"][place]
        first += len(columns["tree_id"])


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("train-*.parquet"))
