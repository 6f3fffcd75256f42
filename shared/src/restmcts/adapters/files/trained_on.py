"""Which problems a checkpoint was trained on: digests of their questions, in a file beside the
weights that grows with the lineage.

A problem that is evaluated on is looked up there. Models that were not trained here have no such
file: of them nothing is known.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from restmcts.domain.problems import question_digest

TRAINED_ON = "trained_on.txt"


def read_trained_on(model: Path | str) -> frozenset[str]:
    """Return the digests of all questions in the training data of a model and of its parents;
    empty where it names none.
    """
    path = Path(model) / TRAINED_ON
    return frozenset(path.read_text(encoding="ascii").split()) if path.is_file() else frozenset()


def write_trained_on(output: Path, parent: Path | str, dataset: Path) -> None:
    """Write beside a new checkpoint what it was trained on: the questions of its dataset, and
    those of its parent.
    """
    digests = read_trained_on(parent).union(question_digest(question) for question in _questions(dataset))
    (output / TRAINED_ON).write_text("".join(f"{digest}\n" for digest in sorted(digests)), encoding="ascii")


def _questions(dataset: Path) -> Iterable[str]:
    for shard in sorted(dataset.glob("train-*.parquet")):
        yield from pq.read_table(shard, columns=["question"]).column("question").unique().to_pylist()
