"""Problems from wherever a person names: a file or folder, a data set of the hub, or the demo's
puzzle; streamed.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from restmcts.adapters.files.problem_files import BadLine, problems_of
from restmcts.adapters.files.row_files import NumberedRow, file_rows, form_of_file
from restmcts.adapters.verification.verifiers_tasks import taskset_rows
from restmcts.domain.problems import Problem
from restmcts.domain.text import counted
from restmcts.errors import InputError, StorageError

from restmcts_cli.reports.shown_tables import print_note
from restmcts_cli.row_progress import with_progress

HUB = "hub:"
DEMO = "demo:"
TASKSET = "verifiers:"
SOURCES = (
    "A file (JSON lines or array, CSV, TSV, Parquet, or .gz of these), a folder of such, hub:OWNER/NAME[:CONFIG],"
    " demo:COUNT (number paths), demo:KIND:COUNT or demo:KIND:DIFFICULTY:COUNT (number-paths:6-8, word-problems:3-5),"
    " verifiers:TASKSET (a taskset of the package verifiers, where it is installed)."
)
MAX_NAMED = 5
"""Bad lines that are named one by one."""


def read_source(
    source: str, *, split: str, seed: int, strict: bool, limit: int | None, needs_answers: bool = True
) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad rows of a source as they come, until `limit` problems are out;
    what takes long shows how many rows were read.

    Args:
        split: of a data set of the hub.
        seed: of the demo's puzzles.
        needs_answers: whether a row without an answer is a bad one.

    Raises:
        InputError: if the source cannot be read; in strict mode, at the first bad row.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit of problems must be at least 1, not {limit}")
    if source.startswith(DEMO):
        yield from _puzzles(source.removeprefix(DEMO), seed, limit)
        return
    rows = with_progress(_rows(source, split), f"reading {source}")
    yield from problems_of(rows, source, strict=strict, limit=limit, needs_answers=needs_answers)


def _rows(source: str, split: str) -> Iterator[NumberedRow]:
    if source.startswith(HUB):
        return hub_rows(source.removeprefix(HUB), split)
    if source.startswith(TASKSET):
        return enumerate(taskset_rows(source.removeprefix(TASKSET)), start=1)
    return file_rows(Path(source))


def usable(source: str, items: Iterable[Problem | BadLine]) -> Iterator[Problem]:
    """Yield the problems, and then report the first bad lines and how many more there were.

    Raises:
        InputError: with the first bad line, if no line is a problem; a source without lines yields
            nothing.
    """
    bad: list[BadLine] = []
    num_usable = 0
    for item in items:
        if isinstance(item, Problem):
            num_usable += 1
            yield item
        else:
            bad.append(item)
    if not num_usable and bad:
        raise nothing_usable(source, bad)
    for line in bad[:MAX_NAMED]:
        print_note(f"{source}, line {line.line_number}: {line.reason}; passed over")
    if len(bad) > MAX_NAMED:
        print_note(f"{source}: {counted(len(bad) - MAX_NAMED, 'more line')} passed over")


def nothing_usable(source: str, bad: Sequence[BadLine]) -> InputError:
    """Return why no line of a source is a problem."""
    if not bad:
        return InputError(f"{source} contains no usable problem: it is empty; each needs a question and an answer")
    first = bad[0]
    more = f" ({counted(len(bad) - 1, 'more line')} refused)" if len(bad) > 1 else ""
    return InputError(f"{source} contains no usable problem; line {first.line_number}: {first.reason}{more}")


def form_of_source(source: str) -> str:
    """Return the form of a source, for people.

    Raises:
        InputError: if there is no such file, or its form is not read.
    """
    if source.startswith(HUB):
        return "data set of the hub"
    if source.startswith(TASKSET):
        return "taskset of verifiers"
    return "puzzles of the demo" if source.startswith(DEMO) else form_of_file(Path(source))


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
    from restmcts.domain.tasks.puzzles import SetSizes, puzzle_named, puzzle_names

    from restmcts_cli.experiments.demo_plan import DemoSize

    *kind, count = asked.split(":")
    name, difficulty = (*kind, None, None)[:2] if kind else (KIND, None)
    if name not in puzzle_names() or not (count.isascii() and count.isdigit() and int(count) > 0) or len(kind) > 2:
        raise InputError(
            f"{DEMO}{asked}: write {DEMO} and how many puzzles, e.g. {DEMO}200, {DEMO}word-problems:200 or "
            f"{DEMO}number-paths:6-8:200"
        )
    wanted = int(count)
    # Drawn first, and from the same generator, the held-out puzzles of that seed and difficulty are
    # none of these.
    sizes = SetSizes(0, 1, wanted, DemoSize().test, 0, difficulty)
    yield from (
        puzzle_named(name).make_sets(random.Random(derive_seed(seed, "problems")), sizes).searched[0][: limit or wanted]
    )
