"""Problems from wherever a person names: a file of JSON lines or CSV, a data set of the hub, or
the demo's puzzle; streamed.
"""

import csv
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from restmcts.adapters.files.problem_files import BadLine, problem_of_row, read_problems
from restmcts.domain.problems import Problem
from restmcts.errors import InputError, StorageError

from restmcts_cli.reports.shown_tables import print_note

HUB = "hub:"
DEMO = "demo:"
SOURCES = "A file (.jsonl, .csv), hub:OWNER/NAME[:CONFIG], demo:COUNT (number paths) or demo:word-problems:COUNT."
MAX_CELL_CHARACTERS = 10_000_000
NumberedRow = tuple[int, dict[str, Any]]


def read_source(source: str, *, split: str, seed: int, strict: bool, limit: int | None) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad rows of a source as they come, until `limit` problems are out.

    Args:
        split: of a data set of the hub.
        seed: of the demo's puzzles.

    Raises:
        InputError: if the source cannot be read; in strict mode, at the first bad row.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit of problems must be at least 1, not {limit}")
    if source.startswith(HUB):
        yield from checked(hub_rows(source.removeprefix(HUB), split), source, strict, limit)
    elif source.startswith(DEMO):
        yield from _puzzles(source.removeprefix(DEMO), seed, limit)
    elif Path(source).suffix.lower() == ".csv":
        yield from checked(csv_rows(Path(source)), source, strict, limit)
    else:
        yield from read_problems(source, strict=strict, limit=limit)


def usable(source: str, items: Iterable[Problem | BadLine]) -> Iterator[Problem]:
    """Yield the problems; tell of every bad line, and pass over it."""
    for item in items:
        if isinstance(item, Problem):
            yield item
        else:
            print_note(f"{source}, line {item.line_number}: {item.reason}; passed over")


def checked(
    rows: Iterator[NumberedRow],
    source: str,
    strict: bool,
    limit: int | None,
    reader: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad rows among numbered rows; `reader` makes a row of ours of one
    of its own.
    """
    num_problems = 0
    for number, row in rows:
        try:
            problem = problem_of_row(reader(row))
        except InputError as error:
            if strict:
                raise InputError(f"{source}, line {number}: {error}") from None
            yield BadLine(number, str(error))
            continue
        yield problem
        num_problems += 1
        if num_problems == limit:
            return


def csv_rows(path: Path) -> Iterator[NumberedRow]:
    """Yield (line number, row) of a CSV file with a header; empty cells are left out."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                cells = {
                    name: value
                    for name, value in row.items()
                    if name is not None and isinstance(value, str) and value.strip()
                }
                yield reader.line_num, cells
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give {SOURCES[0].lower()}{SOURCES[1:]}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file in UTF-8: {error}") from None


def hub_rows(name: str, split: str) -> Iterator[NumberedRow]:
    """Yield the numbered rows of a data set of the hub, OWNER/NAME[:CONFIG], as they come.

    Raises:
        InputError: if the package is not installed.
        StorageError: if the hub does not give them.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(
            "the package datasets is not installed; `pip install restmcts-cli[hub]`, or give a file"
        ) from error
    path, _, config = name.partition(":")
    try:
        rows = load_dataset(path, config or None, split=split, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield number, dict(row)
    except Exception as error:  # those of whatever HTTP library and file format are behind the data set are among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(
            f"data set {name}, split {split}: {reason}; check its name, its configuration and the network"
        ) from error


def _puzzles(asked: str, seed: int, limit: int | None) -> Iterator[Problem]:
    from restmcts.domain.requests import derive_seed
    from restmcts.domain.tasks.number_paths import KIND
    from restmcts.domain.tasks.puzzles import PUZZLES, SetSizes

    from restmcts_cli.experiments.demo_plan import DemoSize

    kind, colon, count = asked.rpartition(":")
    puzzle = PUZZLES.get(kind if colon else KIND)
    if puzzle is None or not count.isascii() or not count.isdigit() or int(count) < 1:
        raise InputError(f"{DEMO}{asked}: write {DEMO} and how many puzzles, e.g. {DEMO}200 or {DEMO}word-problems:200")
    wanted = int(count)
    # Drawn first, and from the same generator, the demo's held-out puzzles of that seed are none of
    # these.
    sizes = SetSizes(demonstrations=0, iterations=1, searched=wanted, test=DemoSize().test, validation=0)
    yield from puzzle.make_sets(random.Random(derive_seed(seed, "problems")), sizes).searched[0][: limit or wanted]
