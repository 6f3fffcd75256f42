"""Commands that take more than a moment say what they do before they import what takes seconds."""

from collections.abc import Callable
from typing import Any

import pytest

HEAVY = ("celery", "fastapi", "huggingface_hub", "numpy", "openai", "pyarrow", "sqlalchemy", "torch", "uvicorn")
COMMANDS = {
    "selftrain problems.jsonl --policy MODEL --workdir work": "restmcts selftrain in work",
    "selftrain problems.jsonl --policy MODEL --workdir work --dry-run --json": "restmcts selftrain in work",
    "selftrain --workdir work": "restmcts selftrain in work",
    "demo --quick --out work": "a small model teaches itself number paths, in work",
    "evaluate problems.jsonl --policy MODEL --out work": "restmcts evaluate in work: problems.jsonl",
    "evaluate problems.jsonl --iterations-of run --out work --json": "restmcts evaluate in work: problems.jsonl",
    "compare --quick --workdir work": "restmcts compare in work: rest-mcts, rest-mcts-paper, rest-em",
    "probe problems.jsonl --policy MODEL --workdir work": "restmcts probe in work",
    "regrade first --workdir work": "grading the trees of run first again",
    "ui --workdir work": "restmcts ui: work",
    "doctor": "restmcts doctor: the stack",
    "runs create new problems.jsonl --policy MODEL": "restmcts runs create new",
    "runs create new problems.jsonl --policy MODEL --dry-run": "restmcts runs create new",
    "runs clone first new --workdir work": "restmcts runs clone first new",
    "runs work first --workdir work": "run first in work",
    "runs extend first --iterations 3 --workdir work --dry-run": "forecast: reading the run",
    "runs resume first --workdir work --dry-run": "forecast: reading the run",
    "checkpoints pull first policy-1 out --workdir work": "copying checkpoint policy-1 of run first to out",
    "checkpoints push first policy-1 me/it": "uploading checkpoint policy-1 of run first to me/it",
    "prm bench MODEL --on processbench": "restmcts prm bench: MODEL on processbench",
    "prm bench MODEL --on first --workdir work --json": "restmcts prm bench: MODEL on first",
    "prm calibrate MODEL --on first --out out": "restmcts prm calibrate: MODEL on first",
    "prm doctor MODEL": "restmcts prm doctor: MODEL",
    "prm train . out --trunk MODEL": "restmcts prm train: MODEL on .",
    "datasets pull first policy-1 out": "copying the training data of policy-1 of run first to out",
    "datasets export first policy-1 out --format preference": "writing the training data of policy-1 of run first to out",
    "problems check problems.parquet": "restmcts problems check: problems.parquet",
    "problems import problems.parquet out --json": "restmcts problems import: problems.parquet to out",
    "problems enqueue first problems.jsonl --workdir work": "restmcts problems enqueue first: problems.jsonl",
    "datasets import problems.jsonl out": "restmcts datasets import: problems.jsonl",
    "datasets consensus . out --judge MODEL": "restmcts datasets consensus: MODEL on .",
}


@pytest.mark.parametrize("typed", COMMANDS)
def test_the_first_line_comes_before_the_first_heavy_import(until_import: Callable[..., Any], typed: str) -> None:
    done = until_import(HEAVY, typed)
    assert done.imported, done.lines
    assert COMMANDS[typed] in done.lines[0]
    assert done.out == ""


def test_the_import_of_torch_is_said_once_and_on_standard_error_alone(until_import: Callable[..., Any]) -> None:
    done = until_import(("transformers",), "prm doctor MODEL --json")
    assert done.imported, done.lines
    assert done.lines == ["restmcts prm doctor: MODEL", "loading torch and the libraries of models"]
    assert done.out == ""


def test_a_command_that_says_nothing_before_it_imports_is_found(until_import: Callable[..., Any]) -> None:
    done = until_import(HEAVY, "runs list --workdir work")
    assert (done.imported, done.lines) == ("sqlalchemy", [])
