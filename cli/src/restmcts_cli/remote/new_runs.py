"""New runs over HTTP: problems are read here and sent in parts, as no server reads files of this
machine.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from shlex import quote
from typing import Any

from restmcts.domain.problem_review import ProblemReview
from restmcts.domain.problems import Problem
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import HELD_OUT, PROBE, TEST, TRAIN
from restmcts.domain.runs.spec_settings import Setting
from restmcts.domain.text import counted
from restmcts.errors import InputError, RestMctsError
from restmcts.usecases.requested.answers import AddedDocument, CreatedDocument, StateDocument
from restmcts.usecases.requested.stored_runs import has_other_problems

from restmcts_cli.arguments.run_requests import requested_run
from restmcts_cli.commands.records.run_create import read_sets
from restmcts_cli.remote.client import Api
from restmcts_cli.remote.runs import spec_of_run

MAX_PROBLEMS = 1000
MAX_BYTES = 2 * 2**20
"""Of one part of a set; three parts may come with a new run, and servers take 8 MiB at once."""

Part = list[dict[str, Any]]
_SENT_AS = {TRAIN: "problems", TEST: "test", PROBE: "probe"}


def parts_of(problems: Iterable[Problem]) -> Iterator[Part]:
    """Yield problems as rows, so many at a time as a server takes at once."""
    part: Part = []
    num_bytes = 0
    for problem in problems:
        row = {name: value for name, value in asdict(problem).items() if value is not None}
        size = len(json.dumps(row))
        if part and (len(part) == MAX_PROBLEMS or num_bytes + size > MAX_BYTES):
            yield part
            part, num_bytes = [], 0
        part.append(row)
        num_bytes += size
    if part:
        yield part


def create(api: Api, name: str, spec: RunSpec, paused: bool, reviews: dict[str, ProblemReview]) -> CreatedDocument:
    """Store a run; one of more problems than a server takes at once begins when it has all of them.

    Args:
        reviews: of the problems for training and for testing, filled while these are read.

    Raises:
        InputError: if a file cannot be read, or the API refuses the run.
        RestMctsError: if only some of the problems were stored; it says how many, and what to do.
    """
    if spec.promotion.value_bench is not None:
        raise InputError("promotion.value_bench: labelled solutions cannot be sent over HTTP: leave it out")
    sets = read_sets(spec, reviews) if spec.puzzles is None else {}
    parts = {set_name: parts_of(problems) for set_name, problems in sets.items()}
    first = {set_name: next(rest, []) for set_name, rest in parts.items()}
    empty = next((one for one, part in first.items() if not part and (one != TRAIN or spec.problems is not None)), None)
    if empty is not None:
        raise InputError(f"no usable problem for the set {empty!r}; each needs a question and an answer")
    waiting = [(set_name, part) for set_name, rest in parts.items() if (part := next(rest, None)) is not None]
    probe = spec.probe if spec.probe == HELD_OUT else None
    document = spec.model_copy(update={"problems": None, "test": None, "probe": probe}).model_dump(mode="json")
    body: dict[str, Any] = {_SENT_AS[set_name]: part for set_name, part in first.items()}
    body |= {"name": name, "spec": document, "paused": paused or bool(waiting)}
    created = api.post(CreatedDocument, "runs", body=body)
    counts = dict(created.problems)
    try:
        for set_name, part in waiting:
            for rows in chain([part], parts[set_name]):
                _add(counts, _sent(api, name, set_name, rows))
        state = created.state if not waiting or paused else api.post(StateDocument, "runs", name, "resume").state
    except RestMctsError as error:
        raise type(error)(
            f"{error}; run {name} is stored, paused, with {_in_words(counts)}: to begin with these, `restmcts runs "
            f"resume {quote(name)}`; otherwise `restmcts runs cancel {quote(name)}`, and create another"
        ) from error
    return CreatedDocument(created.run, created.id, state, counts)


def clone(
    api: Api, name: str, new_name: str, given: Sequence[Setting], paused: bool, reviews: dict[str, ProblemReview]
) -> CreatedDocument:
    """Store a run with the settings of another, but for those that are given, and its problems; a
    run that names others is created with these.

    Raises:
        InputError: if a file or a setting cannot be used, or the API refuses the run.
        RestMctsError: as `create`.
    """
    stored = spec_of_run(api, name)
    spec = requested_run(None, given, stored)
    if spec.puzzles is None and has_other_problems(stored, spec):
        return create(api, new_name, spec, paused, reviews)
    body = {"name": new_name, "spec": spec.model_dump(mode="json"), "paused": paused}
    return api.post(CreatedDocument, "runs", name, "clone", body=body)


def enqueue(api: Api, name: str, set_name: str, problems: Iterable[Problem]) -> dict[str, int]:
    """Add problems to a set of a run; return how many by set.

    Raises:
        InputError: if a file cannot be read, or the API refuses the problems.
        RestMctsError: if only some of the problems were added; it says how many.
    """
    counts: dict[str, int] = {}
    try:
        for rows in parts_of(problems):
            _add(counts, _sent(api, name, set_name, rows))
    except RestMctsError as error:
        if not counts:
            raise
        raise type(error)(
            f"{error}; run {name} has got {_in_words(counts)} of the source already, from its beginning: enqueue the "
            "others from a file of their own"
        ) from error
    return counts


def _sent(api: Api, name: str, set_name: str, rows: Part) -> Mapping[str, int]:
    return api.post(AddedDocument, "runs", name, "problems", body={"problems": rows}, set=set_name).added


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for set_name, number in more.items():
        counts[set_name] = counts.get(set_name, 0) + number


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counted(number, 'problem')} in {name}" for name, number in counts.items())
