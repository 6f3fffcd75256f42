"""Reading problems from files of JSON lines: our own form, GSM8K's, MATH's and SciBench's.

Knows how such files are written; a line that cannot be used is reported with its number and stops
nothing unless asked.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.problems import Problem
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.errors import InputError

QUESTION_FIELDS = ("question", "content", "problem")
SCIBENCH_SUBSETS = frozenset(
    ("atkins", "calculus", "chemmc", "class", "diff", "fund", "matter", "quan", "stat", "thermo")
)

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_GSM8K_ANSWER = re.compile(r"^[ \t]*####[ \t]*(\S.*?)\s*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no usable problem: its number in the file, from 1, and why."""

    line_number: int
    reason: str


def load_problems(
    path: Path | str, *, strict: bool = False, limit: int | None = None
) -> tuple[list[Problem], list[BadLine]]:
    """Return the first `limit` usable problems of a file, in order, and the bad lines met on the
    way.

    Raises:
        InputError: if the file cannot be read or holds no usable problem; in strict mode, at the
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
            f"{path} holds no usable problem{first}; each line must be a JSON object with a question and an answer"
        )
    return problems, bad_lines


def read_problems(path: Path | str, *, strict: bool = False, limit: int | None = None) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad lines of a file as they come, until `limit` problems are out;
    blank lines are passed over.

    Raises:
        InputError: if the file cannot be read or the limit is not above 0; in strict mode, at the
            first bad line.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit of problems must be at least 1, not {limit}")
    num_problems = 0
    for line_number, line in read_lines(path):
        try:
            problem = problem_of_row(json_object(line))
        except InputError as error:
            if strict:
                raise InputError(f"{path}, line {line_number}: {error}") from None
            yield BadLine(line_number, str(error))
            continue
        yield problem
        num_problems += 1
        if num_problems == limit:
            return


def read_lines(path: Path | str) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line) of every line that is not blank.

    Raises:
        InputError: if there is no such file, or it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf") if line_number == 1 else line
                if text.strip():
                    yield line_number, text
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the path of a file of JSON lines") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the path of a file of JSON lines") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def json_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds.

    Raises:
        InputError: saying what the line is instead.
    """
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise InputError("not JSON") from None
    if not isinstance(row, dict):
        raise InputError("not a JSON object")
    return row


def problem_of_row(row: Mapping[str, Any]) -> Problem:
    """Return the problem that a row of any known form holds.

    Raises:
        InputError: saying which field is missing or of the wrong type.
    """
    question = _question(row)
    if "answer" not in row or row["answer"] is None:
        raise InputError('no "answer"')
    answer = text_of_answer(row["answer"])
    steps = _given_steps(row.get("solution"))
    if gsm8k := _GSM8K_ANSWER.search(answer):
        steps = steps or _lines(answer[: gsm8k.start()])
        answer = gsm8k.group(1)
    return Problem(question, answer, _ended(steps, answer), kind_of_row(row))


def _question(row: Mapping[str, Any]) -> str:
    present = [name for name in QUESTION_FIELDS if row.get(name) is not None]
    if not present:
        raise InputError(f"no question (one of {', '.join(QUESTION_FIELDS)})")
    question = row[present[0]]
    if not isinstance(question, str):
        raise InputError(f'"{present[0]}" is not text')
    if not question.strip():
        raise InputError(f'"{present[0]}" is blank')
    return _valid_text(question, present[0]).strip()


def text_of_answer(answer: object) -> str:
    """Return an answer as text: a number in its shortest form, a text stripped.

    Raises:
        InputError: if it is neither, or blank.
    """
    if isinstance(answer, str) and answer.strip():
        return _valid_text(answer, "answer").strip()
    if isinstance(answer, str):
        raise InputError('"answer" is blank')
    if isinstance(answer, bool) or not isinstance(answer, (int, float)) or not math.isfinite(answer):
        raise InputError('"answer" is neither text nor a number')
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() and abs(answer) < 1e15 else str(answer)


def _valid_text(text: str, name: str) -> str:
    """Return the text itself.

    Raises:
        InputError: if it holds half of a surrogate pair, which no file or database takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f'"{name}" is not valid Unicode') from None
    return text


def kind_of_row(row: Mapping[str, Any]) -> str:
    """Return which checker decides: the row's own "kind", "numeric" for a SciBench row, else
    "math".

    Raises:
        InputError: if "kind" is not text.
    """
    kind = row.get("kind")
    if kind is not None and (not isinstance(kind, str) or not kind.strip()):
        raise InputError('"kind" is not text')
    if kind:
        return str(kind).strip()
    is_scibench = row.get("subset") in SCIBENCH_SUBSETS if isinstance(row.get("subset"), str) else "unit" in row
    return "numeric" if is_scibench else "math"


def _given_steps(solution: object) -> list[str]:
    if solution is None:
        return []
    if isinstance(solution, str):
        return _lines(_valid_text(solution, "solution"))
    if not isinstance(solution, list) or not all(isinstance(step, str) for step in solution):
        raise InputError('"solution" is neither text nor a list of texts')
    return [line for step in solution for line in _lines(_valid_text(step, "solution"))]


def _lines(text: str) -> list[str]:
    """Return the lines that are not blank, calculator annotations removed."""
    return [line.strip() for line in _CALCULATOR.sub("", text).splitlines() if line.strip()]


def _ended(steps: list[str], answer: str) -> tuple[str, ...] | None:
    """Return the steps, each with its separator, the last one stating the answer; None where
    there are none.
    """
    if not steps:
        return None
    last = () if states_answer(steps[-1]) and not steps[-1].startswith("####") else (f"The answer is {answer}",)
    kept = steps[:-1] if steps[-1].startswith("####") else steps
    return tuple(step + STEP_SEPARATOR for step in (*kept, *last))
