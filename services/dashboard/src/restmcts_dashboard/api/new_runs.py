"""New runs over HTTP, and copies of stored ones: what the command line asks for, without anything
that is read from the disk of a server or fetched by it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from restmcts.adapters.sql.rows import JsonObject, StoredRun
from restmcts.domain.problems import Problem
from restmcts.domain.runs.promotion import VALUE_BENCH
from restmcts.domain.runs.spec import PuzzleSets, RunSpec
from restmcts.domain.runs.spec_plan import HELD_OUT, PROBE, TEST, TRAIN, spec_plan
from restmcts.domain.runs.spec_settings import Setting, settings_of, spec_of, spec_settings
from restmcts.errors import InputError
from restmcts.usecases.create import NewRun
from restmcts.usecases.requested.models import MAX_ASKED, models_over_http
from restmcts.usecases.requested.runs import puzzle_sets, requested_run
from restmcts.usecases.requested.stored_runs import has_other_problems, stored_spec

from restmcts_dashboard.api.bodies import CloneBody, RunBody, check_name_in_address, check_texts, problems_in

INLINE = "inline"
"""Where problems of a run come from that came with the request."""

MAX_ROUNDS = 1_000
"""Iterations times rounds, and evaluations: all phases of a run are made when it is stored."""

MAX_SPEC_CHARACTERS = 2**15
"""Of a spec as JSON: every phase of a run is stored with texts and lists of it."""

MAX_PUZZLES = 50_000
"""They are drawn here, while the caller waits."""


def new_run(body: RunBody, project: str) -> NewRun:
    """Return the run that a caller asks for, ready to be stored.

    Raises:
        InputError: if it names files, plugins or models of a server's disk, is too large, or a
            setting or problem cannot be used.
    """
    check_name_in_address(body.name)
    spec = _spec(body)
    models = models_over_http(spec)
    phases = spec_plan(spec)
    made = requested_run(body.name, spec, phases, models, _sets(body, spec), paused=body.paused, digests={}, plugins={})
    return replace(made, project=project)


def cloned_run(row: StoredRun, sets: Mapping[str, Sequence[Problem]], body: CloneBody, project: str) -> NewRun:
    """Return the copy of a run that a caller asks for, ready to be stored.

    Args:
        sets: the problems that the run was given, which the copy has as well; puzzles are drawn
            again where their settings differ.

    Raises:
        InputError: if the run has no run file, or the copy names other problems, files, plugins or
            models of a server's disk, is too large, or a setting cannot be used.
    """
    check_name_in_address(body.name)
    stored = stored_spec(row)
    try:
        _check_length(body.spec)
        check_texts(body.spec, "spec")
        spec = spec_of([*spec_settings(stored, "the stored run"), *settings_of(body.spec, "spec")])
    except RecursionError as error:
        raise InputError("spec: its tables are nested too deeply") from error
    check_size(spec)
    _check_asked(spec)
    draws = has_other_problems(stored, spec)
    if draws and spec.puzzles is None:
        raise InputError("spec: a clone has the problems of its run: to have others, create a run with them")
    if spec.promotion.value_bench != stored.promotion.value_bench:
        raise InputError("spec.promotion.value_bench: labelled solutions cannot be named over HTTP: leave it out")
    _check_plugins(spec)
    bench = {name: members for name, members in sets.items() if name == VALUE_BENCH}
    problems = _puzzles(spec.puzzles, spec) | bench if draws and spec.puzzles is not None else sets
    phases, models = spec_plan(spec), models_over_http(spec)
    made = requested_run(body.name, spec, phases, models, problems, paused=body.paused, digests={}, plugins={})
    digests = made.config["problems"] if draws else row.config.get("problems", {})
    return replace(made, project=project, config={**made.config, "problems": digests}, paused=body.paused)


def _spec(body: RunBody) -> RunSpec:
    try:
        _check_length(body.spec)
        check_texts(body.spec, "spec")
        settings = settings_of(body.spec, "spec")
        _check_places(spec_of(settings))
        given = {"problems": body.problems, "test": body.test, "probe": body.probe}
        inline = [Setting(name, INLINE, "the request") for name, rows in given.items() if rows]
        spec = spec_of([*settings, *inline])
    except RecursionError as error:
        raise InputError("spec: its tables are nested too deeply") from error
    check_size(spec)
    _check_asked(spec)
    return spec


def _check_places(spec: RunSpec) -> None:
    """Refuse what would be read where the server is."""
    places = {"problems": spec.problems, "test": spec.test, "probe": spec.probe if spec.probe != HELD_OUT else None}
    named = next((name for name, place in places.items() if place is not None), None)
    if named is not None:
        raise InputError(f"spec.{named} is {places[named]!r}: problems come with the request, as its {named!r}")
    if spec.promotion.value_bench is not None:
        raise InputError("spec.promotion.value_bench: labelled solutions cannot be named over HTTP: leave it out")
    _check_plugins(spec)


def _check_plugins(spec: RunSpec) -> None:
    if spec.plugins:
        raise InputError("spec.plugins: a stack runs only the plugins that are installed in its images: leave it out")


def _check_length(spec: JsonObject) -> None:
    if (length := len(json.dumps(spec))) > MAX_SPEC_CHARACTERS:
        raise InputError(f"spec: it has {length:,} characters as JSON; at most {MAX_SPEC_CHARACTERS:,}")


def check_size(spec: RunSpec) -> None:
    """Do nothing if a server can make the phases and draw the puzzles of a run.

    Raises:
        InputError: if they are too many.
    """
    num_rounds = spec.iterations * spec.rounds + len(spec.evaluations)
    if num_rounds > MAX_ROUNDS:
        raise InputError(f"spec: iterations times rounds, and evaluations, are {num_rounds:,}; at most {MAX_ROUNDS:,}")
    if (puzzles := spec.puzzles) is None:
        return
    num_puzzles = puzzles.demonstrations + puzzles.test + puzzles.held_out + puzzles.searched * spec.iterations
    if num_puzzles > MAX_PUZZLES:
        raise InputError(f"spec.puzzles: {num_puzzles:,} puzzles in all iterations; at most {MAX_PUZZLES:,}")


def _check_asked(spec: RunSpec) -> None:
    """Refuse searches that ask a model for so much at once that whoever serves it stops."""
    searches = {"search": spec.search, **{f"evaluation {one.name}": one.search for one in spec.evaluations}}
    asked = {f"{place}: {name}": value for place, one in searches.items() for name, value in asdict(one).items()}
    asked |= {"num_bootstrap_samples": spec.num_bootstrap_samples, "promotion.num_samples": spec.promotion.num_samples}
    large = next((name for name, value in asked.items() if isinstance(value, int) and value > MAX_ASKED), None)
    if large is not None:
        raise InputError(f"spec: {large} is {asked[large]:,}; at most {MAX_ASKED:,}")


def _sets(body: RunBody, spec: RunSpec) -> dict[str, list[Problem]]:
    if spec.puzzles is not None:
        return _puzzles(spec.puzzles, spec)
    sets = {TRAIN: problems_in(body.problems, "problems", needs_answers=spec.truth.knows_answers)}
    for name, rows in ((TEST, body.test), (PROBE, body.probe)):
        if rows:
            sets[name] = problems_in(rows, name, needs_answers=True)
    return sets


def _puzzles(puzzles: PuzzleSets, spec: RunSpec) -> dict[str, list[Problem]]:
    drawn = puzzle_sets(puzzles, spec.seed, spec.iterations)
    return {name: members for name, members in drawn.items() if members}
