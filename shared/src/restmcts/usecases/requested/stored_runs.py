"""What is asked for of runs that are stored: more iterations, and copies. Reads no files, and looks
for no models.
"""

from restmcts.adapters.sql.rows import StoredRun
from restmcts.domain.runs.spec import MAX_ITERATIONS, RunSpec
from restmcts.domain.runs.spec_plan import FIRST_VALUE, HELD_OUT, made_again, spec_plan
from restmcts.domain.runs.spec_settings import stored_spec_of
from restmcts.domain.text import counted
from restmcts.errors import InputError
from restmcts.usecases.create import Extension
from restmcts.usecases.requested.runs import Models, puzzle_sets, run_config
from restmcts.usecases.same_settings import FIRST_ITERATIONS

_OF_PROBLEMS = ("problems", "test", "puzzles", "split", "limit", "strict")


def stored_spec(row: StoredRun) -> RunSpec:
    """Return the document of a stored run.

    Raises:
        InputError: if it has none, or another version of restmcts wrote a setting that this one
            does not know.
    """
    if "spec" not in row.config:
        raise InputError(f"run {row.name} has no run file: it is an evaluation, or of a version that stored none")
    return stored_spec_of(row.config["spec"])


def extension_of(row: StoredRun, iterations: int) -> Extension:
    """Return what a run is to be with so many iterations in all.

    Raises:
        InputError: if it has as many already, that is too many, or its puzzles do not suffice.
    """
    spec = stored_spec(row)
    if iterations <= spec.iterations:
        raise InputError(f"run {row.name} has {counted(spec.iterations, 'iteration')}; to extend it, give more in all")
    if iterations > MAX_ITERATIONS:
        raise InputError(f"--iterations is {iterations}; give at most {MAX_ITERATIONS}")
    later = tuple(one.model_copy(update={"name": made_again(one.name, iterations)}) for one in spec.evaluations)
    extended = spec.model_copy(update={"iterations": iterations})
    try:
        sets = puzzle_sets(spec.puzzles, spec.seed, iterations) if spec.puzzles is not None else {}
    except InputError as error:
        raise InputError(f"run {row.name} cannot be extended to {iterations} iterations: {error}") from error
    stored = row.config.get("problems", {})
    config = run_config(extended, _models(row), {name: found for name, found in sets.items() if stored})
    known = {FIRST_ITERATIONS: spec.iterations, **row.config}
    return Extension(
        config={**known, **config, "problems": {**stored, **config["problems"]}},
        phases=spec_plan(extended.model_copy(update={"evaluations": later})),
        problems=sets,
    )


def _models(row: StoredRun) -> Models:
    uris: dict[str, str] = row.config.get("checkpoints", {})
    return {name: ("value" if name == FIRST_VALUE else "policy", uri) for name, uri in uris.items()}


def has_other_problems(stored: RunSpec, asked: RunSpec) -> bool:
    """Return whether a copy of a run has not the problems of that: it reads or draws its own;
    puzzles are drawn by the seed, a set for each iteration.
    """
    of_puzzles = ("seed", "iterations") if asked.puzzles is not None else ()
    if asked.probe not in (None, HELD_OUT, stored.probe):
        return True
    return any(getattr(stored, name) != getattr(asked, name) for name in (*_OF_PROBLEMS, *of_puzzles))
