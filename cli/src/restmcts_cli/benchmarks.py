"""Benchmarks by name: where their problems are, and how a model is to write its answers to them."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from restmcts.adapters.problem_files import BadLine
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, derive_seed

from restmcts_cli.problem_sources import SOURCES, read_source

__all__ = ["BENCHMARKS", "SOURCES", "Benchmark", "read_benchmark"]

NUMBER_PATHS = "number-paths"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A set of held-out problems.

    Attributes:
        generation: settings that fit its solutions.
        solution_tokens: of a typical solution.
        settings: of searches, by algorithm, where the defaults do not fit: how many steps a solution can have, say.
    """

    name: str
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    solution_tokens: int | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_PATH_DEPTH = {"max_depth": 9}


BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            NUMBER_PATHS,
            GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=64),
            solution_tokens=38,
            settings={
                "mcts-star": {**_PATH_DEPTH, "roll_forward_steps": 9},
                **dict.fromkeys(("step-beam", "tot-bfs", "tot-dfs"), _PATH_DEPTH),
            },
        ),
    )
}


def read_benchmark(
    benchmark: Benchmark, *, split: str | None, seed: int, strict: bool, limit: int | None
) -> Iterator[Problem | BadLine]:
    """Yield the problems and bad rows of a benchmark, or of whatever source its name is.

    Raises:
        InputError: if it cannot be read; in strict mode, at the first bad row.
    """
    if benchmark.name == NUMBER_PATHS:
        yield from islice(generated_problems(seed), limit)
    else:
        yield from read_source(benchmark.name, split=split or "test", seed=seed, strict=strict, limit=limit)


def generated_problems(seed: int) -> list[Problem]:
    """Return the held-out puzzles of the demo with that seed, which its models were not trained on."""
    from restmcts.domain.number_paths import SetSizes, make_problem_sets

    from restmcts_cli.demo_plan import DemoSize

    sizes = SetSizes(demonstrations=0, iterations=0, searched=0, test=DemoSize().test, validation=0)
    return list(make_problem_sets(random.Random(derive_seed(seed, "problems")), sizes).test)
