"""`restmcts grade`: verdicts for predictions in a file of JSON lines.

Every line comes back, the bad ones too; knows nothing of models or searches.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from restmcts.adapters.files.problem_rows import in_common_form, kind_of_row, text_of_answer
from restmcts.adapters.files.row_files import json_row, read_lines
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.answers.normalisation import strip_wrappers
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.segmenters import outside_thoughts
from restmcts.domain.tasks.answers import AnswerTask
from restmcts.domain.tasks.task import TASKS
from restmcts.domain.text import counted
from restmcts.errors import InputError, StorageError

from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import print_note
from restmcts_cli.row_progress import with_progress

MAX_BARE_ANSWER_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Prediction:
    """One usable line.

    Attributes:
        extracted: the answer found in the prediction; None: there is none, or the kind of problem
            is verified by whole solutions.
        answer: the true one.
        kind: of the problem.
        question: the problem's, where the line has it.
        text: the whole prediction.
    """

    extracted: str | None
    answer: str
    kind: str
    question: str
    text: str


def grade(
    file: Annotated[
        Path,
        typer.Argument(help='JSON lines with "prediction", "answer" and, if not "math", "kind"; for code, "tests".'),
    ],
    out: Annotated[Path | None, typer.Option(help="Write here instead of to standard output.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds that one line may take.")] = 5.0,
    plugin: Plugins = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print the counts of verdicts at the end.")] = False,
) -> None:
    """Write each line back with its "verdict" (right, wrong or undecided) and the answer that
    was "extracted".

    Code: {"prediction": "…", "kind": "code", "tests": …}, whose program is extracted from its
    fences and run in a sandbox. The tests are {"entry_point": "add", "code": "assert add(1, 2) ==
    3"}, or {"stdin": [{"input": "1 2", "output": "3"}]} for a program that reads and prints. Such a
    line also comes back with the "score", its share of tests passed, and the "reason".
    """
    print_note(f"restmcts grade: {file}" + (f" to {out}" if out is not None else ""))
    counts: Counter[str] = Counter()
    num_bad = 0
    is_silent = out is None and sys.stdout.isatty()
    with AnswerVerifier(time_limit_seconds=time_limit) as verifier, _destination(out) as destination:
        for line_number, line in read_lines(file) if is_silent else _with_progress(file):
            graded = grade_line(line, verifier)
            if "error" in graded:
                num_bad += 1
                typer.echo(f"{file}, line {line_number}: {graded['error']}", err=True)
            counts[graded["verdict"]] += 1
            destination.write(json.dumps(graded) + "\n")
        if counts.total() == num_bad:
            which = "no line that can be graded" if counts else "no lines"
            raise InputError(f"{file} contains {which}; each must be a JSON object with a prediction and an answer")
    if summary:
        typer.echo(_summary(counts, num_bad), err=True)


def _summary(counts: Counter[str], num_bad: int) -> str:
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    return f"{counted(counts.total(), 'line')}: {verdicts}" + (
        f" ({num_bad} of them could not be used)" if num_bad else ""
    )


def grade_line(line: bytes, verifier: AnswerVerifier) -> dict[str, Any]:
    """Return a line's object with "verdict" and "extracted", and with "error" where the line
    cannot be graded.
    """
    row: dict[str, Any] = {"line": line.decode(errors="replace").rstrip("\r\n")}
    try:
        found = json_row(line)
        if isinstance(found, InputError):
            raise found
        row = found
        prediction = prediction_of_row(row)
        return {**row, **_graded(prediction, verifier), "extracted": prediction.extracted}
    except InputError as error:
        return {**row, "verdict": str(Verdict.UNDECIDED), "extracted": None, "error": str(error)}


def prediction_of_row(row: dict[str, Any]) -> Prediction:
    """Return what a row asks to be graded.

    Raises:
        InputError: saying which field is missing or of the wrong type.
    """
    if row.get("prediction") is None:
        raise InputError('no "prediction"')
    kind = kind_of_row(row)
    problem = in_common_form(row)
    if problem.get("answer") is None:
        raise InputError('no "answer"')
    given = row["prediction"]
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise InputError('"prediction" is neither text nor a number')
    extracted = answer_of_prediction(str(given), kind)
    answer, question = text_of_answer(problem["answer"]), str(problem.get("question", ""))
    return Prediction(extracted, answer, kind, question, str(given))


def answer_of_prediction(prediction: str, kind: str = "math") -> str | None:
    """Return the answer that a prediction states, else a short text itself or the last line of
    a long one; None: empty, or the task of that kind looks at whole solutions.
    """
    task = TASKS.get(kind)
    if not isinstance(task, AnswerTask):
        return None
    stated = task.stated(prediction)
    text = outside_thoughts(prediction).strip()
    if stated is not None or not text:
        return stated
    bare = text if len(text) <= MAX_BARE_ANSWER_CHARACTERS else text.splitlines()[-1].strip()
    return (strip_wrappers(bare) or None) if len(bare) <= MAX_BARE_ANSWER_CHARACTERS else bare


def _graded(prediction: Prediction, verifier: AnswerVerifier) -> dict[str, str | float | None]:
    """Return the verdict; of whole solutions also the score and the reason."""
    if not isinstance(TASKS.get(prediction.kind), AnswerTask):
        check = Check(prediction.question, prediction.answer, prediction.kind, prediction.text)
        (found,) = verifier.judge([check])
        return {"verdict": str(found.verdict), "score": found.score, "reason": found.reason}
    if prediction.extracted is None:
        return {"verdict": str(Verdict.WRONG)}
    return {"verdict": str(verifier.compare_answers(prediction.answer, prediction.extracted, prediction.kind))}


@contextmanager
def _destination(path: Path | None) -> Iterator[TextIO]:
    """Give standard output, or a file that appears under its name only when all of it is
    written; a device or pipe is written to as it is.
    """
    if path is None:
        yield sys.stdout
        return
    path = Path(os.path.realpath(path))
    in_place = path.exists() and not path.is_file()
    try:
        descriptor, name = (
            (os.open(path, os.O_WRONLY), None)
            if in_place
            else tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            yield stream
        if name is not None:
            os.chmod(name, 0o644)
            os.replace(name, path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free some space or give another --out"
        ) from None
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def _with_progress(file: Path) -> Iterator[tuple[int, bytes]]:
    """Return the file's lines, which show how many of its bytes are graded."""
    total = file.stat().st_size if file.is_file() else None
    return with_progress(read_lines(file), f"grading {file}", total, lambda line: len(line[1]))
