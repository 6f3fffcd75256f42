"""Labelled solutions from wherever a person names: a benchmark or data set of the hub, or a
file.
"""

from collections.abc import Iterator
from pathlib import Path

from restmcts.adapters.files.labelled_solutions import FORMS, labelled_rows, read_labelled
from restmcts.adapters.files.problem_files import BadLine
from restmcts.adapters.files.row_files import NumberedRow, file_rows
from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.errors import InputError

from restmcts_cli.arguments.problem_sources import HUB, hub_rows
from restmcts_cli.reports.shown_tables import print_note
from restmcts_cli.row_progress import with_progress

PROCESS_BENCH, PRM_BENCH = "processbench", "prmbench"
BENCHMARKS = {
    PROCESS_BENCH: ("Qwen/ProcessBench", ("gsm8k", "math", "olympiadbench", "omnimath")),
    PRM_BENCH: ("hitsmy/PRMBench_Preview", ("train",)),
}
"""Data sets of the hub and their splits, by the names of benchmarks."""

MAX_TOLD = 5


def is_source(on: str) -> bool:
    """Return whether labelled solutions are named: a benchmark, a data set, or what is on the
    disk.
    """
    return on in BENCHMARKS or on.startswith(HUB) or Path(on).exists()


def labelled_solutions(on: str, split: str, limit: int | None) -> list[LabelledSolution]:
    """Return the labelled solutions of a source, each once; bad rows are reported and skipped.

    Args:
        on: a benchmark's name, hub:OWNER/NAME[:CONFIG], or a file or folder.
        split: of a data set of the hub.
        limit: of solutions of each split; None: all.

    Raises:
        InputError: if there is none, or the source cannot be read.
        StorageError: if the hub does not give them.
    """
    found: dict[tuple[str, str], LabelledSolution] = {}
    counts: dict[str, int] = {}
    num_bad = 0
    for item in with_progress(_items(on, split), f"reading {on}"):
        if isinstance(item, BadLine):
            num_bad += 1
            if num_bad <= MAX_TOLD:
                print_note(f"{on}, line {item.line_number}: {item.reason}; passed over")
        elif (item.split, item.key) not in found and (limit is None or counts.get(item.split, 0) < limit):
            found[item.split, item.key] = item
            counts[item.split] = counts.get(item.split, 0) + 1
    if num_bad > MAX_TOLD:
        print_note(f"{on}: {num_bad - MAX_TOLD} more lines were passed over")
    if not found:
        raise InputError(f"{on} contains no labelled solution; give {FORMS}")
    return list(found.values())


def numbered_rows(on: str, split: str) -> Iterator[NumberedRow]:
    """Return the rows of a source as they are, all splits of a benchmark one after the other.

    Raises:
        InputError: if the source cannot be read.
        StorageError: if the hub does not give them.
    """
    if on in BENCHMARKS:
        name, splits = BENCHMARKS[on]
        rows: Iterator[NumberedRow] = (row for each in splits for row in hub_rows(name, each))
    else:
        rows = hub_rows(on.removeprefix(HUB), split) if on.startswith(HUB) else file_rows(Path(on))
    return with_progress(rows, f"reading {on}")


def _items(on: str, split: str) -> Iterator[LabelledSolution | BadLine]:
    if on in BENCHMARKS:
        name, splits = BENCHMARKS[on]
        for each in splits:
            yield from labelled_rows(hub_rows(name, each), each)
    elif on.startswith(HUB):
        yield from labelled_rows(hub_rows(on.removeprefix(HUB), split), split)
    else:
        path = Path(on)
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            yield from read_labelled(file)
