"""Solutions whose steps people have labelled: what reward models are benched on."""

from dataclasses import dataclass


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
