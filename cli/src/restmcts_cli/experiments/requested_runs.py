"""What a run's document needs before it can begin: problem sets and models of this machine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restmcts.adapters.sql.state.runs import find_run
from restmcts.domain.labels.labelled_solutions import as_problem
from restmcts.domain.problem_review import ProblemReview, overlap_remark
from restmcts.domain.problems import Problem
from restmcts.domain.prompts import TEMPLATES
from restmcts.domain.runs.promotion import VALUE_BENCH
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import (
    BOOTSTRAP,
    FIRST_VALUE,
    HELD_OUT,
    PROBE,
    SEEDS,
    TEST,
    TRAIN,
    self_training,
)
from restmcts.domain.runs.spec_settings import stored_spec_of
from restmcts.domain.runs.splits import MAX_BOOTSTRAP_PROBLEMS, split_held_out
from restmcts.domain.tasks.puzzles import puzzle_names
from restmcts.domain.tasks.task import TASKS
from restmcts.errors import InputError
from restmcts.usecases.requested.runs import EMPTY_PROBE, Models, puzzle_sets
from restmcts.usecases.same_settings import with_stored_iterations

from restmcts_cli.arguments.connection import DATABASE_FILE, connect
from restmcts_cli.arguments.model_checks import check_context
from restmcts_cli.arguments.problem_sources import nothing_usable, read_source, usable
from restmcts_cli.reports.shown_tables import print_note

if TYPE_CHECKING:
    from restmcts_local.local_run import ModelOptions

BASE = "base"


def problem_sets(spec: RunSpec) -> dict[str, list[Problem]]:
    """Return the problem sets of a run by name, read or drawn.

    Raises:
        InputError: if a source cannot be read, or has no usable problem.
    """
    bench = {name: list(members) for name, members in value_bench_set(spec).items()}
    if spec.puzzles is not None:
        return puzzle_sets(spec.puzzles, spec.seed, spec.iterations) | bench
    if spec.problems is None:
        raise InputError("the run names no problems: give a file of problems, or `problems` in the run file")
    members = _members(spec, spec.problems, spec.limit, needs_answers=spec.truth.knows_answers)
    loop = self_training(spec)
    num_held_out = spec.promotion.num_problems if loop.held_out_set == HELD_OUT else 0
    held_out, train = split_held_out(members, num_held_out, needs_answers=not spec.truth.knows_answers)
    if loop.probe_set == HELD_OUT and not held_out:
        raise InputError(EMPTY_PROBE)
    sets = {TRAIN: train, HELD_OUT: held_out, BOOTSTRAP: train[:MAX_BOOTSTRAP_PROBLEMS]} | bench
    if loop.probe_set == PROBE and spec.probe is not None:
        sets[PROBE] = _members(spec, spec.probe, None)
    if spec.test is not None:
        sets[TEST] = _members(spec, spec.test, None)
    train_review, test_review = ProblemReview(), ProblemReview()
    for review, problems in ((train_review, members), (test_review, sets.get(TEST, ()))):
        for problem in problems:
            review.add(problem)
    note_reviews(spec, train_review, test_review)
    if loop.seed_set is not None:
        sets[SEEDS] = [problem for problem in train if problem.solution]
    if spec.seeds_again and not sets[SEEDS]:
        raise InputError(f"seeds_again: {spec.problems} gives no solution to learn again; leave it out")
    if spec.seed_training is not None and not sets[SEEDS]:
        raise InputError(f"seed_training: {spec.problems} gives no solution to train the first policy on; leave it out")
    return sets


def value_bench_set(spec: RunSpec) -> dict[str, Iterable[Problem]]:
    """Return the labelled solutions on which a run's new value models are evaluated, as a problem
    set that is read when it is stored; no set where the run names none.

    Raises:
        InputError: as it is read, if it cannot be, or has not both right and wrong steps.
    """
    given = spec.promotion.value_bench
    return {VALUE_BENCH: _labelled(given)} if given is not None else {}


def _labelled(given: str) -> Iterator[Problem]:
    from restmcts_cli.reward_models.sources import is_source, labelled_solutions

    if not is_source(given):
        raise InputError(f"promotion.value_bench: {given}: no such file, folder or benchmark")
    solutions = labelled_solutions(given, "test", None)
    if not {True, False} <= {label for solution in solutions for label in solution.is_right}:
        raise InputError(f"promotion.value_bench: {given} has not both right and wrong steps; give one that has")
    yield from map(as_problem, solutions)


def note_reviews(spec: RunSpec, train: ProblemReview, test: ProblemReview) -> None:
    """Say which questions come twice or have two answers, and how many of those that are evaluated
    on are also trained on.
    """
    remarks = [*train.remarks(str(spec.problems)), *test.remarks(str(spec.test))]
    overlap = overlap_remark(train, test, (str(spec.problems), f"{spec.test} (test)"))
    for remark in [*remarks, *([overlap] if overlap else [])]:
        print_note(remark)


def _members(spec: RunSpec, source: str, limit: int | None, *, needs_answers: bool = True) -> list[Problem]:
    rows = read_source(
        source, split=spec.split, seed=spec.seed, strict=spec.strict, limit=limit, needs_answers=needs_answers
    )
    found = list(usable(source, rows))
    if not found:
        raise nothing_usable(source, ())
    check_kinds(spec, source, {problem.kind for problem in found})
    return found


def check_kinds(spec: RunSpec, source: str, kinds: Set[str]) -> None:
    """Check that problems can be asked with the run's prompt template, and searched and decided as
    it asks for.

    Raises:
        InputError: if some cannot.
    """
    for kind in sorted(kinds):
        if spec.truth.source == "tests" and TASKS.get(kind).states_answers:
            raise InputError(f"{source}: {kind} problems have no tests; give --truth answers")
        if spec.truth.source == "votes" and not TASKS.get(kind).states_answers:
            raise InputError(
                f"{source}: solutions of {kind} problems state no answer to vote for; give --truth answers"
            )
        if spec.tools.max_calls and not TASKS.get(kind).has_tools:
            raise InputError(f"{source}: {kind} problems have no tools to call; leave out tools.max_calls")
    chosen = spec.models.template
    of_code = chosen in TEMPLATES and TEMPLATES[chosen].is_code
    for kind in sorted(kinds):
        fitting = TASKS.get(kind).templates
        if chosen not in fitting if fitting else of_code:
            ways = " or ".join(fitting) if fitting else "auto"
            raise InputError(
                f"{source}: {kind} problems cannot be asked with the template {chosen}; give --template {ways}"
            )


def models_of(spec: RunSpec, locate: Callable[[str, str], str]) -> Models:
    """Return the models that a run begins with, by checkpoint name: kind and URI.

    Args:
        locate: returns the URI of a model, given as the spec names it, and its kind.

    Raises:
        InputError: if the run names no policy, or `locate` does not find a model.
    """
    if spec.policy is None:
        raise InputError("name the model that is to learn: --policy FOLDER, a hub id or a server, or `policy`")
    fresh = spec.policy in puzzle_names()
    base = f"{spec.policy}:{spec.seed}" if fresh else locate(spec.policy, "policy")
    models = {BASE: ("policy", base)}
    if spec.value is not None:
        models[FIRST_VALUE] = ("value", locate(spec.value, "value"))
    check_context(base, spec.generation.max_step_tokens)
    return models


def stored_run(config: Mapping[str, Any]) -> RunSpec | None:
    """Return the document of a stored run, or None if it has none.

    Raises:
        InputError: if another version of restmcts wrote a setting that this one does not know.
    """
    return stored_spec_of(config["spec"]) if "spec" in config else None


def as_extended(spec: RunSpec, workdir: Path, name: str) -> RunSpec:
    """Return the run that is asked for again with the iterations that a work folder's run of that
    name was extended to.
    """
    if not (workdir / DATABASE_FILE).is_file():
        return spec
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        row = find_run(transaction, name)
    return with_stored_iterations(spec, row.config) if row is not None else spec


def model_options(spec: RunSpec) -> "ModelOptions":
    """Return how models are loaded and called in this process; torch uses as many threads as the
    run asks for from now on.
    """
    import torch
    from restmcts_local.local_run import ModelOptions

    models = spec.models
    if models.num_threads is not None:
        torch.set_num_threads(models.num_threads)
    return ModelOptions(
        template=models.template,
        device=models.device,
        dtype=models.dtype,
        engine=models.engine,
        trust_remote_code=models.trust_remote_code,
        max_batch_tokens=models.max_batch_tokens,
        key_value_bytes=models.key_value_bytes,
        max_trees_in_flight=models.trees_in_flight,
        num_training_threads=models.num_training_threads,
        keep_training_logs=models.keep_training_logs,
    )
