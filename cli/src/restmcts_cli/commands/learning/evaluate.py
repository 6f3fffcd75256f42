"""`restmcts evaluate`: every method on the same problems under the same budgets, with errors,
in one table.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.domain.runs.evaluation import (
    PROBLEM_SET,
    TRAINING_SET,
    Evaluation,
    VerifierTraining,
)
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.domain.text import counted
from restmcts.errors import InputError, RestMctsError, StorageError

from restmcts_cli.arguments.answering_methods import parse_methods
from restmcts_cli.arguments.benchmarks import Benchmark, benchmark_named, read_benchmark
from restmcts_cli.arguments.documents import takes_document
from restmcts_cli.arguments.evaluation_request import EvaluationRequest
from restmcts_cli.arguments.model_checks import check_context
from restmcts_cli.arguments.plugin_files import Plugins, refuse_plugins_on_stack
from restmcts_cli.arguments.problem_sources import usable
from restmcts_cli.reports.shown_tables import print_note

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Database
    from restmcts.domain.problems import Problem

    from restmcts_cli.arguments.connection import Connection
    from restmcts_cli.experiments.evaluation_models import EvaluatedModels
    from restmcts_cli.experiments.evaluation_run import EvaluationWork
    from restmcts_cli.reports.evaluation_results import EvaluationResults
    from restmcts_cli.reports.evaluation_tables import EvaluationReport

SAMPLING_METHODS = "greedy,self-consistency"
METHODS_WITH_VALUES = "greedy,self-consistency,best-of-n,gated-best-of-n,sc-value,mcts-star,gated-mcts-star,best-first"
Sets = dict[str, "list[Problem]"]


@takes_document(EvaluationRequest)
def evaluate(
    asked: EvaluationRequest,
    plugin: Plugins = None,
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one JSON document.")] = False,
) -> None:
    """Measure what search gains: every method answers the same problems under the same budget of
    generated tokens.

    Methods that need only samples share one sample pool for each problem and seed. In
    [bold]--out[/bold]: report.md, report.html, results.json, results.csv, outcomes.csv. An
    evaluation that was killed is resumed when it is started again with the same folder.

    Example: [bold]restmcts evaluate gsm8k --policy MODEL --value VALUES --budgets 500,2000 --seeds
        0,1 --out eval[/bold]
    """
    if asked.run is not None:
        refuse_plugins_on_stack()
    _show(evaluation_report(asked), asked.out, json)


def evaluation_report(asked: EvaluationRequest) -> "EvaluationReport":
    """Do an evaluation, or what is not done yet of it; return its figures.

    Raises:
        InputError: if a file, a model, a method or a setting cannot be used.
        RestMctsError: if the run fails, or no problem gets an answer; what is done stays done.
    """
    print_note(f"restmcts evaluate in {asked.out}: {asked.problems}")
    from restmcts_cli.arguments.connection import connect
    from restmcts_cli.experiments.evaluation_run import EvaluationWork
    from restmcts_cli.reports.evaluation_results import EvaluationResults

    benchmark = benchmark_named(asked.problems)
    _check(asked, benchmark)
    with connect(None) if asked.run is not None else nullcontext() as stack:
        asked, benchmark = as_its_run_draws(asked, benchmark, stack)
        sets = asked_sets(asked, benchmark)
        source = asked.problems
        if benchmark.is_made:
            source = f"{benchmark.name}:{benchmark.difficulty}, seed {asked.problem_seed or 0}"
            print_note(f"{source}: {counted(len(sets[PROBLEM_SET]), 'puzzle')}")
        models = _models(asked, stack)
        if _without_tools(chain.from_iterable(sets.values())):
            models = replace(models, tool_calls=0)
        evaluation = asked_evaluation(asked, benchmark, models, trains=TRAINING_SET in sets)
        for kind, uri in models.checkpoints.values():
            if kind == "policy":
                check_context(uri, evaluation.generation.max_step_tokens)
        work = EvaluationWork(evaluation, sets, models.checkpoints, asked.max_tokens)
        with _done(asked, stack, work) as (database, run_id):
            results = EvaluationResults(database, run_id, evaluation, _seen(sets, models, stack))
            return _report(results, work, source)


def _check(asked: EvaluationRequest, benchmark: Benchmark) -> None:
    """Raise InputError for what is wrong before problems are read and models are looked for."""
    from restmcts_cli.arguments.model_sources import check_model_name
    from restmcts_cli.experiments.evaluation_models import given_models

    def named(model: str, kind: str) -> str:
        check_model_name(model, kind)
        return model

    if (asked.policy is None) == (asked.iterations_of is None):
        raise InputError("name either the model with --policy, or a run with --iterations-of")
    if asked.iterations_of is not None and asked.value:
        raise InputError("--iterations-of uses the value models of its run; leave out --value")
    if asked.policy is not None:
        given_models(asked.policy, asked.value or (), named)
    parse_methods(asked.methods or METHODS_WITH_VALUES, asked.option or (), benchmark)
    for text, name in ((asked.budgets, "budgets"), (asked.seeds, "seeds")):
        _numbers(text, name)
    if asked.verifiers_from is not None:
        benchmark_named(asked.verifiers_from)


def asked_evaluation(
    asked: EvaluationRequest, benchmark: Benchmark, models: "EvaluatedModels", *, trains: bool
) -> Evaluation:
    """Return what is evaluated.

    Args:
        models: that answer.
        trains: whether value models that are missing are trained first.

    Raises:
        InputError: if a method, a number or a setting is none.
    """
    known = METHODS_WITH_VALUES if trains or any(pair.values for pair in models.pairs) else SAMPLING_METHODS
    given = {
        "temperature": asked.temperature,
        "max_step_tokens": asked.max_step_tokens,
        "max_solution_tokens": asked.max_solution_tokens,
        "template": asked.template,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return Evaluation(
        methods=parse_methods(asked.methods or known, asked.option or (), benchmark),
        budgets=_numbers(asked.budgets, "budgets"),
        seeds=_numbers(asked.seeds, "seeds"),
        models=models.pairs,
        generation=replace(benchmark.generation, **chosen),  # type: ignore[arg-type]
        solution_tokens=asked.solution_tokens or benchmark.solution_tokens,
        verifiers=VerifierTraining(benchmark.value_training) if trains else None,
        tools=ToolSettings(max_calls=models.tool_calls if asked.tool_calls is None else asked.tool_calls),
    )


def as_its_run_draws(
    asked: EvaluationRequest, benchmark: Benchmark, stack: "Connection | None"
) -> tuple[EvaluationRequest, Benchmark]:
    """Return what is asked with the puzzles on which the run whose models answer tests its
    policies, where it was made of such puzzles and no difficulty is given.
    """
    from restmcts_cli.experiments.evaluation_models import puzzles_of_run

    if asked.iterations_of is None or asked.problems != benchmark.name or not benchmark.is_made:
        return asked, benchmark
    found = puzzles_of_run(asked.iterations_of, stack)
    if found is None or found[0].kind != benchmark.name:
        return asked, benchmark
    puzzles, seed = found
    # the first puzzles of a seed are the same, however many are drawn
    limits = [limit for limit in (asked.limit, puzzles.test) if limit]
    drawn = replace(
        asked,
        problem_seed=seed if asked.problem_seed is None else asked.problem_seed,
        limit=min(limits, default=None),
    )
    return drawn, replace(benchmark, difficulty=puzzles.difficulty or benchmark.difficulty)


@contextmanager
def _done(
    asked: EvaluationRequest, stack: "Connection | None", work: "EvaluationWork"
) -> "Iterator[tuple[Database, int]]":
    """Yield the database and the id of the evaluation's run once it has ended."""
    from restmcts_cli.experiments.evaluation_run import evaluated_here, evaluated_on_stack

    if stack is not None and asked.run is not None:
        _make(asked.out)
        yield stack.database, evaluated_on_stack(stack, asked.run, work)
        return
    try:
        from restmcts_local.local_run import ModelOptions
    except ImportError as error:
        raise InputError(
            f"the models are not installed here ({error}): restmcts-cli[local], or --run on a stack"
        ) from error
    options = ModelOptions(
        template=asked.template,
        device=asked.device,
        trust_remote_code=asked.trust_remote_code,
        max_batch_tokens=asked.max_batch_tokens,
        max_trees_in_flight=asked.trees_in_flight,
    )
    with evaluated_here(asked.out, options, work) as done:
        yield done


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out} cannot be made: {error.strerror or error}") from error


def _models(asked: EvaluationRequest, stack: "Connection | None") -> "EvaluatedModels":
    from restmcts_cli.arguments.model_sources import checkpoint_argument, locate_model
    from restmcts_cli.experiments.evaluation_models import given_models, models_of_run

    def locate(model: str, kind: str) -> str:
        if stack is not None:
            return locate_model(stack, model, kind)[0]
        return checkpoint_argument(model, kind, asked.trust_remote_code)

    if asked.policy is not None:
        return given_models(asked.policy, asked.value or (), locate)
    return models_of_run(str(asked.iterations_of), stack)


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--{name} {text}: give whole numbers with commas between them") from None


def asked_sets(asked: EvaluationRequest, benchmark: Benchmark) -> Sets:
    """Return the problems to be answered, and those on which missing value models are trained.

    Raises:
        InputError: if there is no such file, no problem in it, or one whose steps can call no tool
            though tools are asked for.
    """
    sets = {PROBLEM_SET: _problems(benchmark, asked, asked.split, asked.limit)}
    if asked.verifiers_from is not None:
        sets[TRAINING_SET] = _problems(benchmark_named(asked.verifiers_from), asked, "train", None)
    return sets


def _problems(benchmark: Benchmark, asked: EvaluationRequest, split: str | None, limit: int | None) -> "list[Problem]":
    items = read_benchmark(benchmark, split=split, seed=asked.problem_seed or 0, strict=asked.strict, limit=limit)
    members = list(usable(benchmark.name, items))
    if not members:
        raise InputError(f"{benchmark.name} contains no usable problem")
    without = _without_tools(members)
    if asked.tool_calls and without:
        raise InputError(f"{benchmark.name}: {without[0]} problems have no tools to call; leave out --tool-calls")
    return members


def _without_tools(members: "Iterable[Problem]") -> list[str]:
    """Return the kinds among problems whose steps can call no tool."""
    from restmcts.domain.tasks.task import TASKS

    return sorted({problem.kind for problem in members if not TASKS.get(problem.kind).has_tools})


def _seen(sets: Sets, models: "EvaluatedModels", stack: "Connection | None") -> frozenset[int]:
    """Return the places of the problems on which any of the models, or of their parents, was
    trained or is to be.
    """
    from restmcts.adapters.files.trained_on import read_trained_on
    from restmcts.adapters.models.ensemble import members_of
    from restmcts.domain.problems import question_digest

    known = {question_digest(problem.question) for problem in sets.get(TRAINING_SET, ())}
    for _, uri in models.checkpoints.values():
        for member in members_of(uri):
            place = member.partition("?")[0]
            known |= read_trained_on(
                stack.artifacts.fetch(place) if stack is not None and place.startswith(ARTIFACT) else place
            )
    return frozenset(
        place for place, problem in enumerate(sets[PROBLEM_SET]) if question_digest(problem.question) in known
    )


def _report(results: "EvaluationResults", work: "EvaluationWork", source: str) -> "EvaluationReport":
    from restmcts.domain.stats.outcomes import FAILED, OutcomeTable

    from restmcts_cli.reports.evaluation_examples import differing_examples
    from restmcts_cli.reports.evaluation_tables import EvaluationReport, pass_at_powers
    from restmcts_cli.reports.run_results import run_origin, run_seconds

    outcomes = list(results.outcomes())
    if all(outcome.verdict == FAILED for outcome in outcomes):
        raise RestMctsError(f"no problem got an answer: {results.first_failure()}; nothing is reported")
    table = OutcomeTable(outcomes)
    examples = differing_examples(results, table, [problem.question for problem in work.problems[PROBLEM_SET]])
    passed, origin = pass_at_powers(results.counts()), run_origin(results.database, results.run_id)
    seconds = run_seconds(results.database, results.run_id)
    return EvaluationReport(source, work.config, outcomes, table, passed, seconds, examples, origin)


def _show(report: "EvaluationReport", out: Path, json: bool) -> None:
    from restmcts_cli.reports.evaluation_report import print_report, write_files

    write_files(report, out)
    print_report(report, json)
    print_note(f"report: {out / 'report.md'}")
