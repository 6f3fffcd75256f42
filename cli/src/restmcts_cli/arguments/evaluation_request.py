"""What a person asks of `restmcts evaluate`: one document, whose fields are its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from restmcts_cli.arguments.benchmarks import BENCHMARKS, SOURCES
from restmcts_cli.arguments.method_options import MaxTokens

PROBLEMS, MODELS, METHODS = "Problems", "Models", "Methods and budgets"
SAMPLING, PLACE = "Sampling", "Where it runs"


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """An evaluation as it is typed; each field says in its help what it is."""

    problems: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(BENCHMARKS)} (NAME:FILE for one in its own format; puzzles of another "
            f"difficulty are number-paths:6-8). Or: {SOURCES}"
        ),
    ]
    out: Annotated[
        Path,
        typer.Option(help="Folder for everything the evaluation makes; the same folder resumes it.", file_okay=False),
    ]
    policy: Annotated[
        str | None,
        typer.Option(
            help="Causal language model: folder, hub id, or openai+http://HOST:PORT/v1?model=NAME.",
            rich_help_panel=MODELS,
        ),
    ] = None
    value: Annotated[
        list[str] | None,
        typer.Option(
            help="Value model: folder or hub id; or NAME=MODEL: orm=… and ms=… for the methods that ask those.",
            rich_help_panel=MODELS,
        ),
    ] = None
    iterations_of: Annotated[
        str | None,
        typer.Option(
            help="Instead of --policy: every iteration of a run: FOLDER, FOLDER:RUN or, on the stack, RUN; @N: one "
            "of them. Puzzles are then those on which the run tests its policies, unless a difficulty is given.",
            rich_help_panel=MODELS,
        ),
    ] = None
    verifiers_from: Annotated[
        str | None,
        typer.Option(
            help="Problems on whose samples missing value, orm and ms models are trained; the evaluation leaves them out.",
            rich_help_panel=MODELS,
        ),
    ] = None
    template: Annotated[
        str,
        typer.Option(
            help="Prompts: auto (the model's own), chat, plain, raw, few-shot, steps-en, steps-zh.",
            rich_help_panel=MODELS,
        ),
    ] = "auto"
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run code that comes with a model.", rich_help_panel=MODELS),
    ] = False
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names, separated by commas; NEW=KNOWN makes a variant, KNOWN@NAME asks another value model.",
            rich_help_panel=METHODS,
        ),
    ] = None
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="A setting of one method, e.g. mcts-star.branch=4.", rich_help_panel=METHODS
        ),
    ] = None
    budgets: Annotated[
        str,
        typer.Option(
            help="Budgets in generated tokens for each problem, separated by commas.", rich_help_panel=METHODS
        ),
    ] = "500,1000,2000,4000"
    solution_tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens of a typical solution; they decide how wide beams and trees of thoughts are.",
            min=1,
            rich_help_panel=METHODS,
        ),
    ] = None
    max_tokens: MaxTokens = None
    limit: Annotated[
        int | None,
        typer.Option(help="Use only this many problems, from the first on.", min=1, rich_help_panel=PROBLEMS),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(
            help="The split of a data set of the hub; if not given, the benchmark's own, or test.",
            rich_help_panel=PROBLEMS,
        ),
    ] = None
    problem_seed: Annotated[
        int | None,
        typer.Option(
            help="The seed of the run whose held-out puzzles are generated; if not given, that of --iterations-of, or 0.",
            min=0,
            rich_help_panel=PROBLEMS,
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at the first bad line instead of reporting it.", rich_help_panel=PROBLEMS),
    ] = False
    seeds: Annotated[
        str,
        typer.Option(
            help="Seeds of sampling, separated by commas; the same seeds give the same table.", rich_help_panel=SAMPLING
        ),
    ] = "0"
    temperature: Annotated[
        float | None,
        typer.Option(
            help="The temperature of sampling; if not given, the benchmark's usual one, or 0.7.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    max_step_tokens: Annotated[
        int | None, typer.Option(help="New tokens of one step at most.", min=1, rich_help_panel=SAMPLING)
    ] = None
    max_solution_tokens: Annotated[
        int | None, typer.Option(help="New tokens of one solution at most.", min=1, rich_help_panel=SAMPLING)
    ] = None
    tool_calls: Annotated[
        int | None,
        typer.Option(
            help="Calls of tools that one solution may make (calc: 3*7, python: print(2**10), or a task's own); they "
            "are answered as in training. 0: calls are text. Without: as many as the run of --iterations-of allows.",
            min=0,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option(
            help="Let the workers of the stack run the evaluation, as a run of this name; its files are written to --out.",
            rich_help_panel=PLACE,
        ),
    ] = None
    device: Annotated[
        str,
        typer.Option(help="The device of torch that models run on: auto, cpu, cuda or cuda:1.", rich_help_panel=PLACE),
    ] = "cpu"
    trees_in_flight: Annotated[
        int, typer.Option(help="Trees that are searched at the same time.", min=1, rich_help_panel=PLACE)
    ] = 256
    max_batch_tokens: Annotated[
        int, typer.Option(help="The most tokens of one forward pass.", min=1, rich_help_panel=PLACE)
    ] = 16_384
