"""Solutions whose steps people have labelled: what reward models are benched on."""

from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.problems import Problem
from restmcts.errors import InputError

KIND = "labelled-steps"
_MARKS: dict[bool | None, str] = {True: "+", False: "-", None: "?"}
_LABELS = {mark: label for label, mark in _MARKS.items()}


@dataclass(frozen=True, slots=True)
class LabelledSolution:
    """A solution with what is known of its steps.

    Attributes:
        key: its name within its file or data set.
        split: the part of it that it belongs to ("gsm8k"), or the class of its error ("circular").
        question: of the problem.
        steps: at least one.
        is_right: of each step; None where nothing is said of it.
        first_error: place, from 0, of the first wrong step; -1: there is none; None: not known.
    """

    key: str
    split: str
    question: str
    steps: tuple[str, ...]
    is_right: tuple[bool | None, ...]
    first_error: int | None


def as_problem(solution: LabelledSolution) -> Problem:
    """Return a labelled solution as a run stores it: as a problem of the kind labelled-steps, whose
    answer is a mark a step, + right, - wrong, ? unknown.
    """
    marks = "".join(_MARKS[label] for label in solution.is_right)
    return Problem(solution.question, marks, solution.steps, KIND)


def labels_of(answer: str | None, steps: Sequence[str]) -> tuple[bool | None, ...]:
    """Return whether the steps of a stored labelled solution are right, None where that is not
    known.

    Raises:
        InputError: if its answer is not a mark a step.
    """
    marks = answer or ""
    if len(marks) != len(steps) or not set(marks) <= _LABELS.keys():
        raise InputError(f"{marks!r} is no mark +, - or ? for each of {len(steps)} steps")
    return tuple(_LABELS[mark] for mark in marks)
