"""Where a row of training data comes from, and what came of a tree: read from the database and
the data sets' files.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from restmcts.adapters.sql.reads import origins, queries
from restmcts.adapters.sql.rows import JsonObject, ListedDataset
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection

NODE_COLUMNS = ("node_id", "rejected_node_id")


@dataclass(frozen=True, slots=True)
class TracedRow:
    """A row of training data; the names are those of the JSON document.

    Attributes:
        number: from 0.
        row: as it is stored.
        data: of the set.
        origin: None for a given solution.
    """

    run: str
    phase: str
    number: int
    row: JsonObject
    data: JsonObject
    problem: origins.ProblemPlace
    origin: origins.TreeOrigin | None

    def document(self) -> dict[str, object]:
        """Return all that is known of the row, the parts of its origin beside the others."""
        fields = asdict(self)
        return fields | (fields.pop("origin") or {})


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A row of training data that a tree gave, and the digest of the checkpoint that it trained."""

    run: str
    phase: str
    trained: str | None
    number: int
    node_id: int


def trace_row(connection: Connection, run: str, phase: str, number: int) -> TracedRow:
    """Return a row, from 0, of the training data of a phase, and all that it came from.

    Raises:
        InputError: if there is no such run, data set or row.
    """
    data = dataset_of(connection, run, phase)
    row = _row(connection.artifacts.fetch(data.uri), number)
    if row is None:
        raise InputError(f"the data set of {phase} has the rows 0 to {data.num_rows - 1}, not {number}")
    dataset = {"kind": data.kind, "digest": data.digest, **_card(data.card)}
    origin = None
    with connection.database.transaction() as transaction:
        problem = origins.problem_of(transaction, row["problem_id"])
        if row["tree_id"] is not None:
            node_ids = [row[name] for name in NODE_COLUMNS if row.get(name) is not None]
            origin = origins.tree_origin(transaction, row["tree_id"], node_ids)
    return TracedRow(run, phase, number, row, dataset, problem, origin)


def rows_of_tree(connection: Connection, tree_id: int) -> list[TrainingRow]:
    """Return the rows of training data that a tree gave.

    Raises:
        InputError: if there is no such tree.
    """
    with connection.database.transaction() as transaction:
        origin = origins.tree_origin(transaction, tree_id, [])
        run = queries.run_named(transaction, origin.run)
        datasets = queries.list_datasets(transaction, run.id)
        trained = {row.name: row.digest for row in queries.list_checkpoints(transaction, run.id)}
    found = []
    for data in datasets:
        if origin.tree.phase in data.card["sources"]:
            numbers = _numbers(connection.artifacts.fetch(data.uri), tree_id)
            digest = trained.get(data.phase)
            found += [TrainingRow(origin.run, data.phase, digest, number, node_id) for number, node_id in numbers]
    return found


def dataset_of(connection: Connection, run: str, phase: str) -> ListedDataset:
    """Return the training data of a phase.

    Raises:
        InputError: if there is no such run, or the phase has none; it says which have.
    """
    with connection.database.transaction() as transaction:
        return queries.dataset_of(transaction, queries.run_named(transaction, run), phase)


def _card(card: JsonObject) -> JsonObject:
    return {name: card[name] for name in ("sources", "solutions_of", "filter") if card.get(name)}


def _row(folder: Path, number: int) -> JsonObject | None:
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
