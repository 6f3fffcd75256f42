"""Solutions with labelled steps from the forms in which they are published: ProcessBench,
PRMBench, PRM800K, Math-Shepherd and TRL's stepwise supervision. A row's form is recognised by its
fields.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from restmcts.adapters.files.problem_files import BadLine
from restmcts.adapters.files.row_files import NumberedRow, Row, file_rows
from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.stats.first_errors import NO_ERROR
from restmcts.errors import InputError

Form = Literal["processbench", "prmbench", "prm800k", "math-shepherd", "stepwise"]
FORMS = (
    "ProcessBench (problem, steps, label), PRMBench (modified_process, error_steps), PRM800K, Math-Shepherd or "
    "stepwise (prompt, completions, labels)"
)
CORRECT = "correct"
_ORIGINAL_OF = "redundency"
_SHEPHERD_STEP = re.compile(r"(?=Step \d+:)")
_SHEPHERD_TAG = "ки"


def read_labelled(path: Path, split: str = "") -> Iterator[LabelledSolution | BadLine]:
    """Yield the labelled solutions of a file or folder, and its bad rows.

    Args:
        path: of the file.
        split: of rows that do not say theirs; "": the file's name.

    Raises:
        InputError: if it cannot be read.
    """
    yield from labelled_rows(file_rows(path), split or path.stem)


def labelled_rows(rows: Iterable[NumberedRow], split: str) -> Iterator[LabelledSolution | BadLine]:
    """Yield what numbered rows hold; one that holds none is a bad line."""
    for number, row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            yield from labelled_of_row(row, number, split)
        except InputError as error:
            yield BadLine(number, str(error))


def labelled_of_row(row: Row, number: int, split: str) -> Iterator[LabelledSolution]:
    """Yield the solutions of a row: one, or two where PRMBench's has the original as well.

    Raises:
        InputError: if it is of no known form, or its labels do not fit its steps.
    """
    match form_of_row(row):
        case "prmbench":
            yield from _prmbench(row, number)
        case "processbench":
            yield _process_bench(row, number, split)
        case "prm800k":
            yield _prm800k(row, number, split)
        case "math-shepherd":
            yield _math_shepherd(row, number, split)
        case "stepwise":
            yield _stepwise(row, number, split)


def form_of_row(row: Row) -> Form:
    """Return the form of a row, by its fields.

    Raises:
        InputError: if it is of no known form.
    """
    if "modified_process" in row:
        return "prmbench"
    if "steps" in row and "label" in row:
        return "processbench"
    if isinstance(row.get("label"), Mapping) and "question" in row:
        return "prm800k"
    if "input" in row and "label" in row:
        return "math-shepherd"
    if "completions" in row and "labels" in row:
        return "stepwise"
    raise InputError(f"no labelled solution: it has {', '.join(map(str, row)) or 'nothing'}; give {FORMS}")


def solution(
    key: str, split: str, question: object, steps: object, is_right: Sequence[bool | None]
) -> LabelledSolution:
    """Return a solution whose first wrong step its labels say; each step ends as those of a policy
    do.

    Raises:
        InputError: if a part is missing, or there are not as many labels as steps.
    """
    texts = _texts(steps)
    if not isinstance(question, str) or not question.strip():
        raise InputError("the question is missing")
    if len(is_right) != len(texts):
        raise InputError(f"{len(texts)} steps but {len(is_right)} labels")
    ended = tuple(f"{text.rstrip()}{STEP_SEPARATOR}" for text in texts)
    wrong = next((place for place, each in enumerate(is_right) if each is False), NO_ERROR)
    before = is_right if wrong == NO_ERROR else is_right[:wrong]
    known = all(each is True for each in before)
    return LabelledSolution(key, split, question.strip(), ended, tuple(is_right), wrong if known else None)


def _texts(steps: object) -> list[str]:
    if not isinstance(steps, list | tuple) or not steps or not all(isinstance(each, str) for each in steps):
        raise InputError("its steps are no list of texts")
    return list(steps)


def _process_bench(row: Row, number: int, split: str) -> LabelledSolution:
    label, texts = row["label"], _texts(row["steps"])
    if not isinstance(label, int) or isinstance(label, bool) or not NO_ERROR <= label < len(texts):
        raise InputError(
            f"its label is {label!r}: give the place of the first wrong step, 0 to {len(texts) - 1}, or -1"
        )
    key = str(row.get("id") or number)
    named = key.rpartition("-")
    right = [True] * (len(texts) if label == NO_ERROR else label)
    unknown = [None] * (len(texts) - len(right) - 1)
    labels = right if label == NO_ERROR else [*right, False, *unknown]
    return solution(key, named[0] if named[2].isdecimal() and named[0] else split, row.get("problem"), texts, labels)


def _prmbench(row: Row, number: int) -> Iterator[LabelledSolution]:
    kind, key = str(row.get("classification") or "unnamed"), str(row.get("idx") or number)
    if kind == _ORIGINAL_OF and "original_process" in row:
        # As its authors do: the solutions that were changed are there once, as right ones.
        original = _texts(row["original_process"])
        question = row.get("original_question")
        yield solution(f"{CORRECT}_{key}", CORRECT, question, original, [True] * len(original))
    steps, places = _texts(row["modified_process"]), row.get("error_steps")
    if not isinstance(places, list | tuple) or not all(isinstance(each, int) for each in places):
        raise InputError("error_steps is not a list of numbers, counted from 1")
    wrong = set(places)
    if not wrong <= set(range(1, len(steps) + 1)):
        raise InputError(f"error_steps has {max(wrong)} of {len(steps)} steps, counted from 1")
    labels = [place not in wrong for place in range(1, len(steps) + 1)]
    yield solution(f"{kind}_{key}", kind, row.get("modified_question"), steps, labels)


def _prm800k(row: Row, number: int, split: str) -> LabelledSolution:
    """A step is the completion that was chosen, or the first; 1 and 0 are right, -1 is wrong."""
    question, label = row["question"], row["label"]
    texts: list[str] = []
    labels: list[bool | None] = []
    for step in label.get("steps") or []:
        completions = step.get("completions") or []
        chosen = step.get("chosen_completion")
        human = step.get("human_completion")
        if chosen is None and isinstance(human, Mapping):
            texts, labels = [*texts, str(human.get("text"))], [*labels, True]
            continue
        if not completions:
            break
        one: Mapping[str, Any] = completions[chosen if isinstance(chosen, int) and chosen < len(completions) else 0]
        rating = one.get("rating")
        texts, labels = [*texts, str(one.get("text"))], [*labels, None if rating is None else rating >= 0]
    return solution(
        str(number), split, question.get("problem") if isinstance(question, Mapping) else None, texts, labels
    )


def _stepwise(row: Row, number: int, split: str) -> LabelledSolution:
    """A label is whether the step is right; a share between 0 and 1 says neither."""
    labels = row["labels"]
    if not isinstance(labels, list | tuple) or not all(each in (0, 1) for each in labels):
        raise InputError("its labels are not all true or false: soft labels are training data, not what a step is")
    return solution(str(number), split, row.get("prompt"), row["completions"], [each == 1 for each in labels])


def _math_shepherd(row: Row, number: int, split: str) -> LabelledSolution:
    """`input` is the question and the steps, each tagged; `label` the same with + and - as tags."""
    asked, said = str(row["input"]), str(row["label"])
    question, *steps = _SHEPHERD_STEP.split(asked)
    _, *tagged = _SHEPHERD_STEP.split(said)
    texts = [step.strip().removesuffix(_SHEPHERD_TAG).rstrip() for step in steps]
    tags = [step.rstrip()[-1:] for step in tagged]
    if not set(tags) <= {"+", "-"}:
        raise InputError("a step of its label ends in neither + nor -")
    return solution(str(number), str(row.get("task") or split).lower(), question, texts, [tag == "+" for tag in tags])
