"""`restmcts evaluate`: every method on the same problems under the same budgets, with errors, in one table."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError

from restmcts_cli.benchmarks import BENCHMARKS, SOURCES, Benchmark, benchmark_named, read_benchmark
from restmcts_cli.tables_shown import told

if TYPE_CHECKING:
    from restmcts.domain.evaluation import Evaluation, Method
    from restmcts.domain.problems import Problem

    from restmcts_cli.evaluation_report import EvaluationReport
    from restmcts_cli.local_run import LocalRun, ModelOptions

RUN_NAME = "evaluation"
POLICY = "policy"
SAMPLING_METHODS = "greedy,self-consistency"
METHODS_WITH_VALUES = "greedy,self-consistency,best-of-n,gated-best-of-n,sc-value,mcts-star,gated-mcts-star,best-first"


def evaluate(
    problems: Annotated[str, typer.Argument(help=f"{', '.join(BENCHMARKS)} (NAME:FILE for one in its own format). Or: {SOURCES}")],
    policy: Annotated[str, typer.Option(help="Causal language model: folder, hub id, or openai+http://HOST:PORT/v1?model=NAME.")],
    out: Annotated[Path, typer.Option(help="Everything that is made; the same folder goes on with it.", file_okay=False)],
    value: Annotated[
        list[str] | None,
        typer.Option(help="Value model: folder or hub id; or NAME=MODEL: orm=… and ms=… for the methods that ask those."),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="By name, with commas; NEW=KNOWN makes a variant, KNOWN@NAME asks another value model.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="A setting of one method, e.g. mcts-star.branch=4.")
    ] = None,
    budgets: Annotated[str, typer.Option(help="Generated tokens a problem, with commas.")] = "500,1000,2000,4000",
    seeds: Annotated[str, typer.Option(help="Of sampling, with commas: the same seeds give the same table.")] = "0",
    limit: Annotated[int | None, typer.Option(help="Use only the first so many problems.", min=1)] = None,
    split: Annotated[str | None, typer.Option(help="Of a data set of the hub. Without: the benchmark's own, or test.")] = None,
    problem_seed: Annotated[int, typer.Option(help="Of generated problems: of which demo they are the held-out ones.", min=0)] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line instead of reporting it.")] = False,
    temperature: Annotated[float | None, typer.Option(help="Of sampling. Without: what fits the benchmark, or 0.7.")] = None,
    max_step_tokens: Annotated[int | None, typer.Option(help="New tokens of one step at most.", min=1)] = None,
    max_solution_tokens: Annotated[int | None, typer.Option(help="New tokens of one solution at most.", min=1)] = None,
    solution_tokens: Annotated[
        int | None, typer.Option(help="Of a typical solution: how wide beams and trees of thoughts may be.", min=1)
    ] = None,
    template: Annotated[
        str, typer.Option(help="Prompts: auto (the model's own), chat, plain, raw, few-shot, steps-en, steps-zh.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="Of torch: cpu, cuda, cuda:1, …")] = "cpu",
    trees_in_flight: Annotated[int, typer.Option(help="Trees searched side by side.", min=1)] = 256,
    max_batch_tokens: Annotated[int, typer.Option(help="Of one forward pass.", min=1)] = 16_384,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")] = False,
    json: Annotated[bool, typer.Option("--json", help="End with the numbers as one JSON document.")] = False,
) -> None:
    """See what search buys: every method answers the same problems under the same budget of generated tokens.

    Methods that need only samples read them from one pool a problem and seed. In [bold]--out[/bold]: report.md, report.html,
    results.json, results.csv, outcomes.csv. Killed and started again with the same folder, it goes on where it was.

    Example: [bold]restmcts evaluate gsm8k --policy MODEL --value VALUES --budgets 500,2000 --seeds 0,1 --out eval[/bold]
    """
    from restmcts.domain.evaluation import Evaluation, ModelPair

    from restmcts_cli.local_run import ModelOptions
    from restmcts_cli.model_sources import checkpoint_argument

    begin = time.monotonic()
    benchmark = benchmark_named(problems)
    values = _values(value or ())
    given: dict[str, Any] = {
        "temperature": temperature,
        "max_step_tokens": max_step_tokens,
        "max_solution_tokens": max_solution_tokens,
        "template": template,
    }
    evaluation = Evaluation(
        methods=parse_methods(methods or (METHODS_WITH_VALUES if values else SAMPLING_METHODS), option or (), benchmark),
        budgets=_numbers(budgets, "budgets"),
        seeds=_numbers(seeds, "seeds"),
        models=(ModelPair("", POLICY, {name: name for name in values}),),
        generation=replace(benchmark.generation, **{name: chosen for name, chosen in given.items() if chosen is not None}),
        solution_tokens=solution_tokens or benchmark.solution_tokens,
    )
    members = _problems(benchmark, split, problem_seed, strict, limit)
    checkpoints = {POLICY: ("policy", checkpoint_argument(policy, "policy", trust_remote_code))}
    checkpoints |= {name: ("value", checkpoint_argument(model, "value", trust_remote_code)) for name, model in values.items()}
    options = ModelOptions(template, device, trust_remote_code, max_batch_tokens, trees_in_flight)
    seen = _seen(members, [model for _, model in checkpoints.values()])
    report = _run(out, options, evaluation, members, checkpoints, problems, seen, begin)
    _show(report, out, json)


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--{name} {text}: give whole numbers with commas between them") from None


def _values(given: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in given:
        name, equals, model = text.partition("=")
        name, model = (name, model) if equals else ("value", text)
        if name in values or name == POLICY:
            raise InputError(f"--value {text}: the name {name!r} is taken")
        values[name] = model
    return values


def parse_methods(text: str, options: Sequence[str], benchmark: Benchmark) -> "tuple[Method, ...]":
    """Return the methods that a person names: [NEW=]KNOWN[@VALUE], with commas, and METHOD.setting=value for each.

    What is not given is as the benchmark has it, and else as the method does.

    Raises:
        InputError: if a name or a setting is unknown.
    """
    from restmcts.domain.evaluation import method_named

    from restmcts_cli.search_options import parse_search

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
        method = method_named(base)
        name = new if equals else part
        own = asdict(method.search)
        algorithm = own.pop("algorithm")
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
            told(f"{benchmark.name}, line {item.line_number}: {item.reason}; passed over")
    if not members:
        raise InputError(f"{benchmark.name} holds no usable problem")
    return members


def _seen(problems: "list[Problem]", models: Sequence[str]) -> frozenset[int]:
    """Return the places of the problems on which any of the models, or of their parents, was trained."""
    from restmcts.adapters.trained_on import read_trained_on
    from restmcts.domain.problems import question_digest

    known = frozenset().union(*map(read_trained_on, models))
    return frozenset(place for place, problem in enumerate(problems) if question_digest(problem.question) in known)


def _run(
    out: Path,
    options: "ModelOptions",
    evaluation: "Evaluation",
    problems: "list[Problem]",
    checkpoints: dict[str, tuple[str, str]],
    source: str,
    seen: frozenset[int],
    begin: float,
) -> "EvaluationReport":
    from restmcts.domain.evaluation import PROBLEM_SET, evaluation_plan
    from restmcts.domain.outcomes import Comparison

    from restmcts_cli.evaluation_examples import differing_examples
    from restmcts_cli.evaluation_report import EvaluationReport, pass_at_powers
    from restmcts_cli.evaluation_results import EvaluationResults
    from restmcts_cli.live import LiveDisplay
    from restmcts_cli.local_run import LocalRun

    config = _config(evaluation, problems, checkpoints)
    with LocalRun(out / "work", options) as run, LiveDisplay(f"restmcts evaluate in {out}") as display:
        run_id = _stored(run, out, config)
        if run_id is None:
            plan = evaluation_plan(evaluation)
            run_id = run.create(RUN_NAME, "evaluation", 0, config, {PROBLEM_SET: problems}, checkpoints, plan)
        display.watch(run.database, run_id)
        run.run(run_id)
        results = EvaluationResults(run.database, run_id, evaluation, seen)
        outcomes = list(results.outcomes())
        comparison = Comparison(outcomes)
        questions = [problem.question for problem in problems]
        examples = differing_examples(run.database, run_id, evaluation, comparison, questions)
        pass_at = pass_at_powers(results.counts())
        return EvaluationReport(source, config, outcomes, comparison, pass_at, time.monotonic() - begin, examples)


def _stored(run: "LocalRun", out: Path, config: dict[str, Any]) -> int | None:
    known = run.find(RUN_NAME)
    if known is None:
        return None
    if known.config != config:
        changed = ", ".join(sorted(name for name in config if known.config.get(name) != config[name]))
        raise InputError(f"{out} holds an evaluation with other settings ({changed}); give them again or choose another --out")
    return int(known.id)


def _config(evaluation: "Evaluation", problems: "list[Problem]", checkpoints: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return what makes an evaluation the same one, as JSON."""
    from pydantic import TypeAdapter
    from restmcts.domain.evaluation import Evaluation

    return {
        **TypeAdapter(Evaluation).dump_python(evaluation, mode="json"),
        "problems": hashlib.sha256(repr(problems).encode()).hexdigest(),
        "checkpoints": {name: uri for name, (_, uri) in checkpoints.items()},
    }


def _show(report: "EvaluationReport", out: Path, json: bool) -> None:
    from restmcts_cli.evaluation_report import print_report, write_files

    write_files(report, out)
    print_report(report, json)
    told(f"report: {out / 'report.md'}")
