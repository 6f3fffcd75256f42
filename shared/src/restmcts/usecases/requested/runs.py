"""What a run's document comes to before it is stored: the sets of its puzzles, what is stored to
know it by, and the run with its phases. Reads no files, and looks for no models.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from restmcts.adapters.sql.database import Transaction
from restmcts.domain.problems import Problem
from restmcts.domain.requests import derive_seed
from restmcts.domain.runs.phases import Phase
from restmcts.domain.runs.plans import BASE
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.spec import PuzzleSets, RunSpec
from restmcts.domain.runs.spec_plan import (
    BOOTSTRAP,
    COMPARED,
    DEMONSTRATIONS,
    FIRST_VALUE,
    HELD_OUT,
    TEST,
    TRAIN,
    searched_set,
    self_training,
)
from restmcts.domain.tasks.puzzles import SetSizes, puzzle_named, puzzle_names
from restmcts.errors import InputError
from restmcts.usecases.create import CreatedRun, NewCheckpoint, NewRun, create_run
from restmcts.usecases.need_plugins import with_plugins

EMPTY_PROBE = (
    "probe: no problem is held out that has an answer, one in ten of those with answers would be; "
    "give more of them, or --probe FILE"
)
Sets = Mapping[str, Sequence[Problem]]
Models = dict[str, tuple[str, str]]
"""The models that a run begins with, by checkpoint name: kind and URI."""


def puzzle_sets(puzzles: PuzzleSets, seed: int, num_iterations: int) -> dict[str, list[Problem]]:
    """Return the problem sets of a puzzle by name; they share no question, but for the parts
    bootstrap and compared.

    Raises:
        InputError: if there is no such puzzle.
    """
    sizes = SetSizes(
        puzzles.demonstrations,
        num_iterations if puzzles.fresh else 1,
        puzzles.searched,
        puzzles.test,
        puzzles.held_out,
        puzzles.difficulty,
    )
    sets = puzzle_named(puzzles.kind).make_sets(random.Random(derive_seed(seed, "problems")), sizes)
    searched = sets.searched if puzzles.fresh else sets.searched * num_iterations
    return {
        DEMONSTRATIONS: list(sets.demonstrations),
        BOOTSTRAP: list(sets.demonstrations[: puzzles.bootstrap]),
        TEST: list(sets.test),
        COMPARED: list(sets.test[: puzzles.compared]),
        HELD_OUT: list(sets.validation),
        **{searched_set(number): list(members) for number, members in enumerate(searched, start=1)},
    }


def run_config(spec: RunSpec, models: Models, sets: Sets) -> dict[str, Any]:
    """Return what is stored of a run to know it by, as JSON."""
    return {
        **TypeAdapter(SelfTraining).dump_python(self_training(spec), mode="json"),
        "problems": {name: _digest(members) for name, members in sets.items()},
        "checkpoints": {name: uri for name, (_, uri) in models.items()},
        "seed": spec.seed,
        "spec": _stored_spec(spec, models).model_dump(mode="json"),
    }


def _stored_spec(spec: RunSpec, models: Models) -> RunSpec:
    """Return the run with its models as they were found, for whoever reads it elsewhere."""
    changes: dict[str, Any] = {"policy": models[BASE][1]} if spec.policy not in puzzle_names() else {}
    if FIRST_VALUE in models:
        changes["value"] = models[FIRST_VALUE][1]
    return spec.model_copy(update=changes)


def _digest(members: Sequence[Problem]) -> str:
    return hashlib.sha256(repr(list(members)).encode()).hexdigest()


def requested_run(
    name: str,
    spec: RunSpec,
    phases: Sequence[Phase],
    models: Models,
    problems: Mapping[str, Iterable[Problem]],
    *,
    paused: bool,
    digests: Mapping[str, str],
    plugins: Mapping[str, str],
) -> NewRun:
    """Return the run that a document asks for, ready to be stored; one without any problems for
    training begins paused.

    Args:
        problems: by set; they may be read as they are stored.
        digests: of the models, by URI; of one that is not named, what its URI says.
        plugins: the digests of this process's plugin files, by name.

    Raises:
        InputError: if the run cannot be done as it is asked for.
    """
    return NewRun(
        name=name,
        method=spec.method,
        seed=spec.seed,
        phases=phases,
        config=with_plugins(run_config(spec, models, {}), plugins),
        problems=problems,
        checkpoints={model: NewCheckpoint(kind, uri, digests.get(uri, "")) for model, (kind, uri) in models.items()},
        paused=paused or (spec.problems is None and spec.puzzles is None),
        max_tokens=spec.max_tokens,
    )


def store_requested(transaction: Transaction, new: NewRun) -> CreatedRun:
    """Store a run, if each of its sets has a problem; that for training may be filled before the
    run is resumed.

    Raises:
        InputError: if a set is empty, or `create_run` refuses the run.
    """
    created = create_run(transaction, new)
    counts = created.num_problems
    empty = next((name for name, count in counts.items() if not count and not (name == TRAIN and new.paused)), None)
    if empty is not None:
        raise InputError(f"no usable problem for the set {empty!r}; each needs a question and an answer")
    if new.config.get("probe_set") == HELD_OUT and not counts.get(HELD_OUT) and not new.paused:
        raise InputError(EMPTY_PROBE)
    return created
