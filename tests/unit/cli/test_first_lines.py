"""Commands that take more than a moment say what they do before they import what takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMPORTED = "<imports "
HEAVY = ("celery", "fastapi", "huggingface_hub", "numpy", "openai", "pyarrow", "sqlalchemy", "torch", "uvicorn")
UNTIL_HEAVY = f"""
import importlib.abc, os, sys

class Ends(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in os.environ["HEAVY"].split():
            sys.stdout.flush()
            sys.stderr.write("{IMPORTED}" + name)
            sys.stderr.flush()
            os._exit(0)

from restmcts_cli.main import run
sys.meta_path.insert(0, Ends())
sys.argv[0] = "restmcts"
run()
"""
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
    "datasets import problems.jsonl out": "restmcts datasets import: problems.jsonl",
    "datasets consensus . out --judge MODEL": "restmcts datasets consensus: MODEL on .",
}


def called(folder: Path, heavy: tuple[str, ...], code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (folder / "problems.jsonl").write_text('{"question": "1 + 1?", "answer": 2}\n')
    environment = os.environ | {"HEAVY": " ".join(heavy), "RESTMCTS_ENV_FILE": str(folder / "none")}
    typed = [sys.executable, "-c", code, *arguments]
    return subprocess.run(typed, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("typed", COMMANDS)
def test_the_first_line_comes_before_the_first_heavy_import(typed: str, tmp_path: Path) -> None:
    done = called(tmp_path, HEAVY, UNTIL_HEAVY, *typed.split())
    before, imported, _ = done.stderr.partition(IMPORTED)
    assert imported, done.stderr
    assert COMMANDS[typed] in before.splitlines()[0]
    assert done.stdout == ""


def test_the_import_of_torch_is_said_once_and_on_standard_error_alone(tmp_path: Path) -> None:
    done = called(tmp_path, ("transformers",), UNTIL_HEAVY, "prm", "doctor", "MODEL", "--json")
    before, imported, _ = done.stderr.partition(IMPORTED)
    assert imported, done.stderr
    assert before.splitlines() == ["restmcts prm doctor: MODEL", "loading torch and the libraries of models"]
    assert done.stdout == ""


def test_a_command_that_imports_first_is_found(tmp_path: Path) -> None:
    imports_first = UNTIL_HEAVY.replace("\nrun()", "\nimport restmcts.adapters.sql.database\nrun()")
    done = called(tmp_path, HEAVY, imports_first, "doctor")
    assert done.stderr == f"{IMPORTED}sqlalchemy"
