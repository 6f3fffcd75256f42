"""`restmcts evaluate`: every method on the same problems under the same budgets, with errors,
in one table.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.domain.runs.evaluation import (
    ANSWERING,
    PROBLEM_SET,
    TRAINING_SET,
    AnsweringMethod,
    Evaluation,
    VerifierTraining,
    evaluation_plan,
)
from restmcts.errors import InputError, StorageError

from restmcts_cli.arguments.benchmarks import BENCHMARKS, SOURCES, Benchmark, benchmark_named, read_benchmark
from restmcts_cli.arguments.method_options import MaxTokens
from restmcts_cli.arguments.plugin_files import Plugins, refuse_plugins_on_stack
from restmcts_cli.reports.shown_tables import print_note

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Database
    from restmcts.domain.problems import Problem

    from restmcts_cli.arguments.connection import Connection
    from restmcts_cli.experiments.evaluation_models import EvaluatedModels
    from restmcts_cli.reports.evaluation_results import EvaluationResults
    from restmcts_cli.reports.evaluation_tables import EvaluationReport

SAMPLING_METHODS = "greedy,self-consistency"
METHODS_WITH_VALUES = "greedy,self-consistency,best-of-n,gated-best-of-n,sc-value,mcts-star,gated-mcts-star,best-first"


def evaluate(
    problems: Annotated[
        str, typer.Argument(help=f"{', '.join(BENCHMARKS)} (NAME:FILE for one in its own format). Or: {SOURCES}")
    ],
    out: Annotated[
        Path, typer.Option(help="Everything that is made; the same folder goes on with it.", file_okay=False)
    ],
    policy: Annotated[
        str | None,
        typer.Option(help="Causal language model: folder, hub id, or openai+http://HOST:PORT/v1?model=NAME."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            help="Value model: folder or hub id; or NAME=MODEL: orm=… and ms=… for the methods that ask those."
        ),
    ] = None,
    iterations_of: Annotated[
        str | None,
        typer.Option(
            help="Instead of --policy: every iteration of a run: FOLDER, FOLDER:RUN or, on the stack, RUN; @N: one of them."
        ),
    ] = None,
    verifiers_from: Annotated[
        str | None,
        typer.Option(
            help="Problems on whose samples missing value, orm and ms models are trained; they are not evaluated on."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Names with commas; NEW=KNOWN makes a variant, KNOWN@NAME asks another value model."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="A setting of one method, e.g. mcts-star.branch=4.")
    ] = None,
    budgets: Annotated[str, typer.Option(help="Generated tokens a problem, with commas.")] = "500,1000,2000,4000",
    seeds: Annotated[
        str, typer.Option(help="Seeds of sampling with commas: the same seeds give the same table.")
    ] = "0",
    max_tokens: MaxTokens = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first so many problems.", min=1)] = None,
    split: Annotated[
        str | None, typer.Option(help="The split of a data set of the hub. Without: the benchmark's own, or test.")
    ] = None,
    problem_seed: Annotated[
        int, typer.Option(help="The seed of the demo whose held-out problems are generated.", min=0)
    ] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad line instead of reporting it.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="The temperature of sampling. Without: what fits the benchmark, or 0.7.")
    ] = None,
    max_step_tokens: Annotated[int | None, typer.Option(help="New tokens of one step at most.", min=1)] = None,
    max_solution_tokens: Annotated[int | None, typer.Option(help="New tokens of one solution at most.", min=1)] = None,
    solution_tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens of a typical solution, which decide how wide beams and trees of thoughts may be.", min=1
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Let the workers of the stack do it, as the run of this name; in --out come its files."),
    ] = None,
    template: Annotated[
        str, typer.Option(help="Prompts: auto (the model's own), chat, plain, raw, few-shot, steps-en, steps-zh.")
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="The device of torch that models run on: auto, cpu, cuda or cuda:1.")
    ] = "cpu",
    trees_in_flight: Annotated[int, typer.Option(help="Trees searched side by side.", min=1)] = 256,
    max_batch_tokens: Annotated[int, typer.Option(help="The most tokens of one forward pass.", min=1)] = 16_384,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")
    ] = False,
    plugin: Plugins = None,
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one JSON document.")] = False,
) -> None:
    """See what search buys: every method answers the same problems under the same budget of
    generated tokens.

    Methods that need only samples read them from one pool a problem and seed. In
    [bold]--out[/bold]: report.md, report.html, results.json, results.csv, outcomes.csv. Killed and
    started again with the same folder, it goes on where it was.

    Example: [bold]restmcts evaluate gsm8k --policy MODEL --value VALUES --budgets 500,2000 --seeds
        0,1 --out eval[/bold]
    """
    from restmcts_cli.arguments.connection import connect
    from restmcts_cli.reports.evaluation_results import EvaluationResults

    if run is not None:
        refuse_plugins_on_stack()
    begin = time.monotonic()
    benchmark = benchmark_named(problems)
    given: dict[str, Any] = {
        "temperature": temperature,
        "max_step_tokens": max_step_tokens,
        "max_solution_tokens": max_solution_tokens,
        "template": template,
    }
    members = _problems(benchmark, split, problem_seed, strict, limit)
    training = _training_problems(verifiers_from, problem_seed, strict)
    with connect(None) if run is not None else nullcontext() as stack:
        models = _models(policy, value or (), iterations_of, stack, trust_remote_code)
        known = METHODS_WITH_VALUES if training or any(pair.values for pair in models.pairs) else SAMPLING_METHODS
        evaluation = Evaluation(
            methods=parse_methods(methods or known, option or (), benchmark),
            budgets=_numbers(budgets, "budgets"),
            seeds=_numbers(seeds, "seeds"),
            models=models.pairs,
            generation=replace(
                benchmark.generation, **{name: chosen for name, chosen in given.items() if chosen is not None}
            ),
            solution_tokens=solution_tokens or benchmark.solution_tokens,
            verifiers=VerifierTraining(benchmark.value_training) if training else None,
        )
        sets = {PROBLEM_SET: members, **({TRAINING_SET: training} if training else {})}
        config = _config(evaluation, sets, models)
        work = (config, evaluation_plan(evaluation), sets, models.checkpoints, max_tokens)
        options = {
            "template": template,
            "device": device,
            "trust_remote_code": trust_remote_code,
            "max_batch_tokens": max_batch_tokens,
            "max_trees_in_flight": trees_in_flight,
        }
        with _done(out, options, stack, run, work) as (database, run_id):
            results = EvaluationResults(database, run_id, evaluation, _seen(sets, models, stack))
            report = _report(results, members, problems, config, begin)
    _show(report, out, json)


@contextmanager
def _done(
    out: Path, options: dict[str, Any], stack: "Connection | None", run: str | None, work: tuple[Any, ...]
) -> "Iterator[tuple[Database, int]]":
    """Yield the database and the id of the evaluation's run once it has ended."""
    from restmcts_cli.experiments.evaluation_run import evaluated_here, evaluated_on_stack

    if stack is not None and run is not None:
        _make(out)
        yield stack.database, evaluated_on_stack(stack, run, *work)
        return
    try:
        from restmcts_local.local_run import ModelOptions
    except ImportError as error:
        raise InputError(
            f"the models are not installed here ({error}): restmcts-cli[local], or --run on a stack"
        ) from error
    with evaluated_here(out, ModelOptions(**options), *work) as done:
        yield done


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out} cannot be made: {error.strerror or error}") from error


def _models(
    policy: str | None,
    values: Sequence[str],
    iterations_of: str | None,
    stack: "Connection | None",
    trust_remote_code: bool,
) -> "EvaluatedModels":
    from restmcts_cli.arguments.model_sources import checkpoint_argument, locate_model
    from restmcts_cli.experiments.evaluation_models import given_models, models_of_run

    def locate(model: str, kind: str) -> str:
        if stack is not None:
            return locate_model(stack, model, kind)[0]
        return checkpoint_argument(model, kind, trust_remote_code)

    if (policy is None) == (iterations_of is None):
        raise InputError("name either the model with --policy, or a run with --iterations-of")
    if iterations_of is not None and values:
        raise InputError("--iterations-of brings the value models of its run; leave out --value")
    return given_models(policy, values, locate) if policy is not None else models_of_run(str(iterations_of), stack)


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--{name} {text}: give whole numbers with commas between them") from None


def parse_methods(text: str, options: Sequence[str], benchmark: Benchmark) -> tuple[AnsweringMethod, ...]:
    """Return the methods that a person names: [NEW=]KNOWN[@VALUE], with commas, and
    METHOD.setting=value for each.

    What is not given is as the benchmark has it, and else as the method does.

    Raises:
        InputError: if a name or a setting is unknown.
    """
    from restmcts_cli.arguments.search_options import parse_search

    settings: dict[str, list[str]] = {}
    for option in options:
        name, dot, rest = option.partition(".")
        if not dot:
            raise InputError(f"option {option!r}: write it as METHOD.setting=value")
        settings.setdefault(name, []).append(rest)
    methods = []
    for part in (part.strip() for part in text.split(",")):
        new, equals, known = part.partition("=")
        base, at, value = (known if equals else part).partition("@")
        method = ANSWERING.get(base)
        name = new if equals else part
        own = asdict(method.search)
        algorithm = method.search.algorithm
        search = parse_search(algorithm, settings.pop(name, ()), **{**own, **benchmark.settings.get(algorithm, {})})
        methods.append(replace(method, name=name, search=search, value=value if at else method.value))
    if settings:
        raise InputError(f"an option is for {next(iter(settings))!r}, which is none of the methods ({text})")
    return tuple(methods)


def _problems(benchmark: Benchmark, split: str | None, seed: int, strict: bool, limit: int | None) -> "list[Problem]":
    from restmcts.domain.problems import Problem

    members = []
    for item in read_benchmark(benchmark, split=split, seed=seed, strict=strict, limit=limit):
        if isinstance(item, Problem):
            members.append(item)
        else:
            print_note(f"{benchmark.name}, line {item.line_number}: {item.reason}; passed over")
    if not members:
        raise InputError(f"{benchmark.name} holds no usable problem")
    return members


def _training_problems(source: str | None, seed: int, strict: bool) -> "list[Problem]":
    if source is None:
        return []
    return _problems(benchmark_named(source), "train", seed, strict, None)


def _seen(sets: "dict[str, list[Problem]]", models: "EvaluatedModels", stack: "Connection | None") -> frozenset[int]:
    """Return the places of the problems on which any of the models, or of their parents, was
    trained or is to be.
    """
    from restmcts.adapters.files.trained_on import read_trained_on
    from restmcts.domain.problems import question_digest

    known = {question_digest(problem.question) for problem in sets.get(TRAINING_SET, ())}
    for _, uri in models.checkpoints.values():
        known |= read_trained_on(stack.artifacts.fetch(uri) if stack is not None and uri.startswith(ARTIFACT) else uri)
    return frozenset(
        place for place, problem in enumerate(sets[PROBLEM_SET]) if question_digest(problem.question) in known
    )


def _config(evaluation: Evaluation, sets: "dict[str, list[Problem]]", models: "EvaluatedModels") -> dict[str, Any]:
    """Return what makes an evaluation the same one, as JSON."""
    from pydantic import TypeAdapter

    return {
        **TypeAdapter(Evaluation).dump_python(evaluation, mode="json"),
        "problems": {name: hashlib.sha256(repr(members).encode()).hexdigest() for name, members in sets.items()},
        "checkpoints": {name: uri for name, (_, uri) in models.checkpoints.items()},
    }


def _report(
    results: "EvaluationResults", problems: "list[Problem]", source: str, config: dict[str, Any], begin: float
) -> "EvaluationReport":
    from restmcts.domain.stats.outcomes import OutcomeTable

    from restmcts_cli.reports.evaluation_examples import differing_examples
    from restmcts_cli.reports.evaluation_tables import EvaluationReport, pass_at_powers

    outcomes = list(results.outcomes())
    table = OutcomeTable(outcomes)
    examples = differing_examples(results, table, [problem.question for problem in problems])
    return EvaluationReport(
        source, config, outcomes, table, pass_at_powers(results.counts()), time.monotonic() - begin, examples
    )


def _show(report: "EvaluationReport", out: Path, json: bool) -> None:
    from restmcts_cli.reports.evaluation_report import print_report, write_files

    write_files(report, out)
    print_report(report, json)
    print_note(f"report: {out / 'report.md'}")
