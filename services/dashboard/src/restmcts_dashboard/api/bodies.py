"""What callers send: bodies of a bounded size, and what is wrong with one, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from restmcts.adapters.files.problem_rows import problem_of_row
from restmcts.adapters.sql.rows import JsonObject
from restmcts.domain.access import Role
from restmcts.domain.problems import Problem
from restmcts.domain.runs.spec import MAX_ITERATIONS
from restmcts.domain.text import escaped_text, valid_text
from restmcts.errors import InputError
from restmcts.reporting.plain_text import shortened
from restmcts.usecases.steer import MAX_TAGS

from restmcts_dashboard.bad_requests import in_words

MAX_BODY_BYTES = 8 * 2**20
MAX_LISTED = 1000
MAX_NUMBER = 2**63 - 1
MAX_CHARACTERS = 500
MAX_KIND = 100

Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
"""The number of a row, or a place between rows, that a database can be asked for."""


class Body(BaseModel):
    """A body; names that it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GivenProblem(Body):
    """A problem as rows of files write it."""

    question: str
    answer: str | int | float | None = Field(
        default=None, description="The true answer; only training problems of runs that do not use it lack one."
    )
    solution: str | list[str] | None = Field(default=None, description="A right solution, or its steps.")
    kind: str | None = Field(
        default=None, max_length=MAX_KIND, description="Which checker decides; if not given, math."
    )


class RunBody(Body):
    """A new run."""

    name: str = Field(description="Of all runs of the stack no other has it.")
    spec: JsonObject = Field(
        default={},
        description="A run file as JSON; `restmcts options` lists its settings. It names neither files nor data sets.",
    )
    problems: list[GivenProblem] = Field(default=[], description="Problems to train on; without, the run is paused.")
    test: list[GivenProblem] = Field(default=[], description="Problems on which every policy is evaluated.")
    probe: list[GivenProblem] = Field(default=[], description="Problems on which verdicts by votes are checked.")
    paused: bool = Field(default=False, description="Start only when the run is resumed.")


class ProblemsBody(Body):
    """Problems for a set of a run."""

    problems: list[GivenProblem] = Field(min_length=1)


class ResumeBody(Body):
    """How a run goes on."""

    max_tokens: int | None = Field(
        default=None, ge=1, le=MAX_NUMBER, description="Another token budget; if not given, the run keeps its own."
    )


class ExtensionBody(Body):
    """More iterations for a run."""

    iterations: int = Field(ge=1, le=MAX_ITERATIONS, description="In all, those that the run has done included.")
    max_tokens: int | None = Field(
        default=None, ge=1, le=MAX_NUMBER, description="Another token budget; if not given, the run keeps its own."
    )


class CloneBody(Body):
    """A copy of a run."""

    name: str = Field(description="Of all runs of the stack no other has it.")
    spec: JsonObject = Field(
        default={}, description="Settings in which it differs; those that choose problems of files stay as they are."
    )
    paused: bool = Field(default=False, description="Start only when the run is resumed.")


class TagsBody(Body):
    """Tags of a run, to be given to it or taken away."""

    tags: list[str] = Field(min_length=1, max_length=MAX_TAGS)
    remove: bool = Field(default=False, description="Take them away.")


class NewToken(Body):
    """A new token."""

    name: str
    role: Role


def problems_in(rows: Sequence[GivenProblem], what: str, *, needs_answers: bool) -> list[Problem]:
    """Return the problems of a body, read as rows of a file are.

    Raises:
        InputError: naming the first that cannot be used by its number, from 1.
    """
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(problem_of_row(row.model_dump(exclude_none=True), needs_answer=needs_answers))
        except InputError as error:
            raise InputError(f"{what}, problem {number}: {error}") from error
    return found


def check_name_in_address(name: str) -> None:
    """Raise InputError if nobody could ask for what has that name, as it is no part of an
    address.
    """
    if "/" in name or name in (".", ".."):
        raise InputError(f"name: {name!r} cannot be a part of an address: leave out slashes")


def check_texts(value: Any, name: str) -> None:
    """Raise InputError if a text of a document contains what no database takes."""
    for text in _texts(value):
        valid_text(text, name)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield key
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


def wrong_in_words(error: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a sentence; what was sent is not repeated."""
    if error["loc"][0] != "body":
        return in_words(error)
    if error["type"] == "json_invalid":
        return f"the body is no JSON: {error['ctx']['error']}, at character {error['loc'][1]}"
    place = shortened(escaped_text(".".join(map(str, error["loc"][1:]))), MAX_CHARACTERS)
    if not place:
        return f"the body: {error['msg']}; send an object as JSON, with Content-Type: application/json"
    return f"{place} is missing" if error["type"] == "missing" else f"{place}: {error['msg']}"
