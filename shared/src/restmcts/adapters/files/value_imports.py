"""Files with labelled steps as training data of value models: rows of `VALUE_SCHEMA`, a path each,
the value of a step as its label says it, soft labels as soft as they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from restmcts.adapters.files.labelled_solutions import Form, form_of_row, labelled_of_row
from restmcts.adapters.files.problem_files import BadLine
from restmcts.adapters.files.row_files import NumberedRow, Row
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.errors import InputError

Neutral = Literal["right", "wrong"]
"""What a neutral rating of PRM800K counts as: its authors leave that open until a model is used
(arXiv:2305.20050, Section 2.4).
"""

_FINISHED = "solution"


@dataclass(frozen=True, slots=True)
class _Path:
    """Steps with their values; None where nothing is said, or it is said in another path."""

    question: str
    steps: tuple[str, ...]
    targets: tuple[float | None, ...]
    finished: bool


def value_rows(
    rows: Iterable[NumberedRow], form: Form | None = None, neutral: Neutral = "right"
) -> Iterator[dict[str, Any] | BadLine]:
    """Yield the training rows that numbered rows hold, and bad lines.

    A step leads to a right answer if its value is above 0, as in MATH-SHEPHERD's hard estimation.
    What comes after the first wrong step of a solution of ProcessBench has no value. Each rated
    completion of PRM800K has one; those that were not chosen are paths of their own.

    Args:
        form: of all rows, whatever else is there is a bad line; None: recognised row by row.
        neutral: what PRM800K's neutral ratings count as.
    """
    problem_ids: dict[str, int] = {}
    for number, row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            for path in list(_paths(row, number, form, neutral)):
                yield {
                    "question": path.question,
                    "steps": list(path.steps),
                    "targets": list(path.targets),
                    "leads_to_right": [None if value is None else value > 0.0 for value in path.targets],
                    "finished": path.finished,
                    "problem_id": problem_ids.setdefault(path.question, len(problem_ids)),
                    "tree_id": None,
                    "node_id": None,
                }
        except InputError as error:
            yield BadLine(number, str(error))


def _paths(row: Row, number: int, form: Form | None, neutral: Neutral) -> Iterator[_Path]:
    found = form_of_row(row)
    if form is not None and found != form:
        raise InputError(f"it is of the form {found}, not {form}; leave out --format, or give another")
    if found == "prm800k":
        yield from _prm800k(row, neutral)
    elif found == "stepwise":
        yield _stepwise(row)
    else:
        for one in labelled_of_row(row, number, ""):
            targets = tuple(None if right is None else float(right) for right in one.is_right)
            yield _Path(one.question, one.steps, targets, finished=True)


def _prm800k(row: Row, neutral: Neutral) -> Iterator[_Path]:
    """Yield the chosen path, as far as there is one, then each other completion after it."""
    question = row["question"].get("problem") if isinstance(row["question"], Mapping) else None
    asked = _text(question, "question")
    steps: tuple[str, ...] = ()
    targets: tuple[float | None, ...] = ()
    others: list[_Path] = []
    for step in row["label"].get("steps") or []:
        completions = step.get("completions") or []
        chosen = step.get("chosen_completion")
        for place, one in enumerate(completions):
            if place != chosen:
                path = (*steps, _ended(one.get("text")))
                target = _rated(one, neutral)
                others += [] if target is None else [_Path(asked, path, (*[None] * len(steps), target), False)]
        human = step.get("human_completion")
        if isinstance(chosen, int) and 0 <= chosen < len(completions):
            text, target = completions[chosen].get("text"), _rated(completions[chosen], neutral)
        elif isinstance(human, Mapping):
            text, target = human.get("text"), 1.0
        else:
            break
        steps, targets = (*steps, _ended(text)), (*targets, target)
    finished = row["label"].get("finish_reason") == _FINISHED
    whole = [_Path(asked, steps, targets, finished)] if any(each is not None for each in targets) else []
    if not whole and not others:
        raise InputError("none of its steps is rated")
    yield from (*whole, *others)


def _rated(completion: Mapping[str, Any], neutral: Neutral) -> float | None:
    """Return the value of a rating; None where the person did not know, or there is none."""
    rating = completion.get("rating")
    if rating is None or completion.get("flagged"):
        return None
    if rating not in (-1, 0, 1):
        raise InputError(f"a rating is {rating!r}; -1, 0 and 1 are known")
    return float(rating > 0 or (rating == 0 and neutral == "right"))


def _stepwise(row: Row) -> _Path:
    """Return the path of a row of TRL's stepwise supervision, whose labels are booleans or values
    from 0 to 1.
    """
    texts, labels = row["completions"], row["labels"]
    if not _is_list(texts) or not texts or not _is_list(labels) or len(texts) != len(labels):
        raise InputError("its completions and labels are not lists of the same length")
    if not all(isinstance(each, int | float) and 0.0 <= each <= 1.0 for each in labels):
        raise InputError("a label is no value from 0 to 1")
    asked = _text(row.get("prompt"), "prompt")
    return _Path(asked, tuple(map(_ended, texts)), tuple(map(float, labels)), finished=False)


def _is_list(found: object) -> bool:
    return isinstance(found, Sequence) and not isinstance(found, str)


def _text(found: object, what: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"the {what} is missing")
    return found.strip()


def _ended(text: object) -> str:
    """Return a step that ends as those of a policy do."""
    if not isinstance(text, str):
        raise InputError("a step is no text")
    return f"{text.rstrip()}{STEP_SEPARATOR}"
