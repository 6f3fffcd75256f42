"""Reading problems from files of any form: one route for all, from rows to problems.

A row that cannot be used is reported with its number and stops nothing unless asked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restmcts.adapters.files.problem_rows import problem_of_row
from restmcts.adapters.files.row_files import FORMS, NumberedRow, file_rows
from restmcts.domain.problems import Problem
from restmcts.errors import InputError

RowReader = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that contains no usable problem: its number in the file, from 1, and why."""

    line_number: int
    reason: str


def load_problems(
    path: Path | str, *, strict: bool = False, limit: int | None = None
) -> tuple[list[Problem], list[BadLine]]:
    """Return the first `limit` usable problems of a file, in order, and the bad lines met on the
    way.

    Raises:
        InputError: if the file cannot be read or contains no usable problem; in strict mode, at the
            first bad line.
    """
    problems: list[Problem] = []
    bad_lines: list[BadLine] = []
    for item in read_problems(path, strict=strict, limit=limit):
        if isinstance(item, Problem):
            problems.append(item)
        else:
            bad_lines.append(item)
    if not problems:
        first = f"; line {bad_lines[0].line_number}: {bad_lines[0].reason}" if bad_lines else " (it is empty)"
        raise InputError(
            f"{path} contains no usable problem{first}; give {FORMS}, each row with a question and an answer"
        )
    return problems, bad_lines


def read_problems(
    path: Path | str, *, strict: bool = False, limit: int | None = None, needs_answers: bool = True
) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad lines of a file as they come, until `limit` problems are out;
    blank lines are passed over, and what has no answer is bad where answers are needed.

    Raises:
        InputError: if the file cannot be read or the limit is not above 0; in strict mode, at the
            first bad line.
    """
    rows = file_rows(Path(path))
    yield from problems_of(rows, str(path), strict=strict, limit=limit, needs_answers=needs_answers)


def problems_of(
    rows: Iterable[NumberedRow],
    source: str,
    *,
    strict: bool,
    limit: int | None,
    reader: RowReader = dict,
    needs_answers: bool = True,
) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad rows among numbered rows, until `limit` problems are out.

    Args:
        rows: as a file or a data set gives them.
        source: their name, for messages.
        strict: whether the first bad row ends all.
        limit: how many problems at most; None: all.
        reader: makes a row of a known form of one of a benchmark's own.
        needs_answers: whether a row without an answer is a bad one.

    Raises:
        InputError: if the limit is not above 0; in strict mode, at the first bad row.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit of problems must be at least 1, not {limit}")
    num_problems = 0
    for number, row in rows:
        item = _problem(number, row, reader, needs_answers)
        if isinstance(item, BadLine) and strict:
            raise InputError(f"{source}, line {number}: {item.reason}")
        yield item
        num_problems += isinstance(item, Problem)
        if num_problems == limit:
            return


def _problem(
    number: int, row: Mapping[str, Any] | InputError, reader: RowReader, needs_answer: bool
) -> Problem | BadLine:
    if isinstance(row, InputError):
        return BadLine(number, str(row))
    try:
        return problem_of_row(reader(row), needs_answer=needs_answer)
    except InputError as error:
        return BadLine(number, str(error))
