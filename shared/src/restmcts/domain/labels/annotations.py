"""What people say of the steps and answers of trees, and what several of them come to."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from restmcts.domain.text import check_name, clean_text
from restmcts.errors import InputError

Subject = Literal["step", "answer"]
PersonsVerdict = Literal["right", "wrong", "unsure"]
SUBJECTS: tuple[str, ...] = get_args(Subject)
VERDICTS: tuple[str, ...] = get_args(PersonsVerdict)
MAX_NOTE_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one person says.

    Attributes:
        subject: the step itself, or the answer of the solution that ends with it.
        who: the person's name.
        source: where it was entered: viewer, or import.
    """

    subject: Subject
    verdict: PersonsVerdict
    who: str
    note: str
    source: str


@dataclass(frozen=True, slots=True)
class Agreed:
    """What people agree on in a tree: whether steps and answers are right, by node."""

    steps: Mapping[int, bool] = field(default_factory=dict)
    answers: Mapping[int, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnnotationCounts:
    """What people have said of a run.

    Attributes:
        num_people: by their names.
        num_compared: answers of which somebody is sure and the run's own verdict is known.
        num_alike: those of them on which both say the same.
    """

    num_steps: int
    num_answers: int
    num_trees: int
    num_people: int
    num_compared: int
    num_alike: int


def annotation(subject: str, verdict: str, who: str, note: str, source: str) -> Annotation:
    """Return an annotation of what was typed.

    Raises:
        InputError: if the subject or verdict is none, nobody says it, or a text is too long.
    """
    if subject not in SUBJECTS:
        raise InputError(f"annotations are of a {' or an '.join(SUBJECTS)}, not of {subject!r}")
    if verdict not in VERDICTS:
        raise InputError(f"{verdict!r} is no verdict of a person; give {', '.join(VERDICTS)}")
    note = clean_text(note).strip()
    if len(note) > MAX_NOTE_CHARS:
        raise InputError(f"the note of an annotation has {len(note):,} characters; {MAX_NOTE_CHARS:,} are the most")
    return Annotation(cast(Subject, subject), cast(PersonsVerdict, verdict), _persons_name(who), note, source)


def _persons_name(typed: str) -> str:
    """Return a person's name as it is stored: two that look alike are one.

    Raises:
        InputError: if it is empty, too long, or contains characters that are not printed.
    """
    return check_name(unicodedata.normalize("NFC", " ".join(typed.split())), "person")


def agreed_verdict(verdicts: Iterable[str]) -> bool | None:
    """Return whether most of those who are sure find something right; None if nobody is sure, or
    as many find it wrong.
    """
    sure = [verdict == "right" for verdict in verdicts if verdict != "unsure"]
    balance = 2 * sum(sure) - len(sure)
    return None if balance == 0 else balance > 0
