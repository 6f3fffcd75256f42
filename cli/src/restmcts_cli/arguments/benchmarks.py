"""Benchmarks by name: where their problems are, and what fits a model's answers to them."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from restmcts.adapters.files.problem_files import BadLine, problems_of
from restmcts.adapters.files.row_files import NumberedRow, file_rows, files_of
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, derive_seed
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.tasks import number_paths, word_problems
from restmcts.errors import InputError

from restmcts_cli.arguments.benchmark_rows import Reader, as_it_is, ceval_row, gpqa_row, math_row, scibench_row
from restmcts_cli.arguments.problem_sources import DEMO, SOURCES, hub_rows, read_source
from restmcts_cli.row_progress import with_progress

__all__ = ["BENCHMARKS", "SOURCES", "Benchmark", "benchmark_named", "read_benchmark"]

NUMBER_PATHS, WORD_PROBLEMS = number_paths.KIND, word_problems.KIND
MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
CEVAL_HARD_SUBJECTS = (
    "advanced_mathematics",
    "college_chemistry",
    "college_physics",
    "discrete_mathematics",
    "high_school_chemistry",
    "high_school_mathematics",
    "high_school_physics",
    "probability_and_statistics",
)
_PATH_DEPTH = {"max_depth": 9}
_WORD_DEPTH = {"max_depth": 10}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A set of held-out problems.

    Attributes:
        name: its own, or a source of problems that has no name.
        hub: data set of the hub.
        configs: of that data set, read one after the other; in a folder, files whose names begin
            so.
        split: which is evaluated on, with its answers.
        row: makes a row of ours of one of its own.
        generation: settings that fit its solutions.
        solution_tokens: of a typical solution.
        settings: of searches, by algorithm, where the defaults do not fit: how many steps a
            solution can have, say.
        value_training: of value models that are trained for its evaluation.
        file: where it is read from instead of the hub.
        difficulty: of puzzles; None: it has none.
    """

    name: str
    hub: str | None = None
    configs: tuple[str, ...] = ()
    split: str = "test"
    row: Reader = as_it_is
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    solution_tokens: int | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    value_training: TrainingSettings = field(default_factory=TrainingSettings)
    file: Path | None = None
    difficulty: str | None = None

    @property
    def is_made(self) -> bool:
        """Whether its problems are puzzles, which are made and not read."""
        return self.name in (NUMBER_PATHS, WORD_PROBLEMS)


_LONG = GenerationSettings(max_step_tokens=256, max_solution_tokens=2048)

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("gsm8k", "openai/gsm8k", ("main",), solution_tokens=200),
        Benchmark("math500", "HuggingFaceH4/MATH-500", generation=_LONG, solution_tokens=500),
        Benchmark(
            "math", "EleutherAI/hendrycks_math", MATH_SUBJECTS, row=math_row, generation=_LONG, solution_tokens=500
        ),
        Benchmark("scibench", "xw27/scibench", split="train", row=scibench_row, generation=_LONG, solution_tokens=500),
        Benchmark(
            "gpqa-diamond",
            "Idavidrein/gpqa",
            ("gpqa_diamond",),
            "train",
            gpqa_row,
            generation=_LONG,
            solution_tokens=700,
        ),
        Benchmark(
            "ceval-hard",
            "ceval/ceval-exam",
            CEVAL_HARD_SUBJECTS,
            "val",
            ceval_row,
            generation=_LONG,
            solution_tokens=400,
        ),
        Benchmark(
            NUMBER_PATHS,
            difficulty=number_paths.EASY,
            generation=GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=64),
            solution_tokens=38,
            value_training=TrainingSettings(
                num_steps=160, batch_size=64, learning_rate=1.5e-3, optimizer="muon", muon_learning_rate=0.005
            ),
            settings={
                "mcts-star": {**_PATH_DEPTH, "roll_forward_steps": 9},
                **dict.fromkeys(("step-beam", "tot-bfs", "tot-dfs"), _PATH_DEPTH),
            },
        ),
        Benchmark(
            WORD_PROBLEMS,
            difficulty=word_problems.EASY,
            generation=GenerationSettings(temperature=1.0, max_step_tokens=20, max_solution_tokens=120),
            solution_tokens=36,
            settings={
                "mcts-star": {**_WORD_DEPTH, "roll_forward_steps": 10},
                **dict.fromkeys(("step-beam", "tot-bfs", "tot-dfs"), _WORD_DEPTH),
            },
        ),
    )
}


def benchmark_named(text: str) -> Benchmark:
    """Return the benchmark that a person names, as NAME, NAME:FILE or, of puzzles, NAME:DIFFICULTY,
    or one for any other source; puzzles from `demo:` have steps as long as their benchmark's.

    Raises:
        InputError: if the file is not there.
    """
    name, colon, file = text.partition(":")
    if text.startswith(DEMO):
        kind = file.partition(":")[0] if ":" in file else NUMBER_PATHS
        return Benchmark(text, generation=BENCHMARKS.get(kind, Benchmark(text)).generation)
    if name not in BENCHMARKS:
        return Benchmark(text)
    known = BENCHMARKS[name]
    if not colon:
        return known
    if known.is_made:
        if Path(file).suffix:
            raise InputError(f"{name} is made, not read: give it without a file, or with a difficulty: {name}:2-4")
        return replace(known, difficulty=file)
    if not Path(file).exists():
        raise InputError(f"{file} does not exist; {name} alone is read from the hub")
    return replace(known, hub=None, file=Path(file))


def read_benchmark(
    benchmark: Benchmark, *, split: str | None, seed: int, strict: bool, limit: int | None
) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad rows of a benchmark, or of whatever source its name is.

    Raises:
        InputError: if it cannot be read; in strict mode, at the first bad row.
        StorageError: if the hub does not give it.
    """
    if benchmark.is_made:
        yield from islice(generated_problems(benchmark.name, seed, benchmark.difficulty), limit)
    elif benchmark.file is not None:
        rows = with_progress(_file_rows(benchmark.file, benchmark.configs), f"reading {benchmark.file}")
        yield from problems_of(rows, str(benchmark.file), strict=strict, limit=limit, reader=benchmark.row)
    elif benchmark.hub is not None:
        names = [f"{benchmark.hub}:{config}" for config in benchmark.configs] or [benchmark.hub]
        found = (row for name in names for row in hub_rows(name, split or benchmark.split))
        rows = with_progress(found, f"reading {benchmark.hub}")
        yield from problems_of(rows, benchmark.hub, strict=strict, limit=limit, reader=benchmark.row)
    else:
        yield from read_source(benchmark.name, split=split or benchmark.split, seed=seed, strict=strict, limit=limit)


def generated_problems(kind: str, seed: int, difficulty: str | None = None) -> list[Problem]:
    """Return the held-out puzzles of that difficulty and seed: no run of the same difficulty trains
    its models on them.

    Raises:
        InputError: if there is no such difficulty.
    """
    from restmcts.domain.tasks.puzzles import SetSizes, puzzle_named

    from restmcts_cli.experiments.demo_plan import DemoSize

    sizes = SetSizes(
        demonstrations=0, iterations=0, searched=0, test=DemoSize().test, validation=0, difficulty=difficulty
    )
    return list(puzzle_named(kind).make_sets(random.Random(derive_seed(seed, "problems")), sizes).test)


def _file_rows(path: Path, configs: Sequence[str]) -> Iterator[NumberedRow]:
    """Yield the numbered rows of a file, or of a folder's files, those of the subjects alone."""
    if not path.is_dir():
        yield from file_rows(path)
        return
    files = files_of(path)
    wanted = [file for file in files if any(file.name.startswith(config) for config in configs)]
    for file in wanted or files:
        yield from file_rows(file)
