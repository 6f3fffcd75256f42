"""What a newcomer types: every command of README.md and docs/getting-started.md, in order, in one
folder. What needs a model of the hub, a GPU, containers or hours is read by the parser of the
command line alone.
"""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from restmcts_cli.main import app
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/getting-started.md")
COMMAND, IN_CONTAINER = ".venv/bin/restmcts", "docker compose run --rm cli"
NEEDS_MORE = re.compile(r"MODEL|cuda|compare|--dry-run")
"""A model that the reader names, a GPU, or minutes: a forecast is tried where it is made."""
SMALLER = {
    "iterations": 1,
    "puzzles.demonstrations": 100,
    "puzzles.bootstrap": 20,
    "puzzles.searched": 20,
    "puzzles.test": 10,
    "puzzles.compared": 5,
    "puzzles.held_out": 10,
    "seed_training.num_steps": 10,
    "policy_training.num_steps": 5,
    "value_training.num_steps": 5,
    "evaluations": "[]",
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def typed_on(page: str) -> list[str]:
    """Return the commands in the blocks of a page, in order, without comments."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith((COMMAND, "make ", "docker "))]


def is_taken(arguments: str) -> bool:
    """Return whether the command line has these commands and options: its help shows after all
    options were looked up.
    """
    return CliRunner().invoke(app, [*shlex.split(arguments), "--help"]).exit_code == 0


def test_what_needs_more_than_this_machine_is_taken_by_the_parser() -> None:
    lines = [line for page in PAGES for line in typed_on(page)]
    parsed = [line.removeprefix(IN_CONTAINER) for line in lines if line.startswith(IN_CONTAINER)]
    parsed += [line.removeprefix(COMMAND) for line in lines if line.startswith(COMMAND) and NEEDS_MORE.search(line)]
    assert len(parsed) > 8
    assert [line for line in parsed if not is_taken(line)] == []
    assert not is_taken("runs create first --demmo") and not is_taken("rums list")
    for line in dict.fromkeys(line for line in lines if line.startswith("make ")):
        subprocess.run(["make", "--dry-run", *line.split()[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.timeout(400)
def test_a_newcomer_gets_what_the_pages_promise(restmcts: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    Path("problems.jsonl").write_text('{"question": "What is 3 + 4?", "answer": "7"}\n')
    prediction = {"question": "What is 3 + 4?", "answer": "7", "prediction": "3 + 4 = 7. The answer is 7."}
    Path("predictions.jsonl").write_text(json.dumps(prediction) + "\n")
    lines = [line for page in PAGES for line in typed_on(page) if line.startswith(COMMAND)]
    outputs = {}
    for line in dict.fromkeys(lines):
        if NEEDS_MORE.search(line) or line.endswith("first-run.toml --workdir run2"):
            continue
        arguments = shlex.split(line.removeprefix(COMMAND))
        if arguments[0] == "demo" or arguments[:2] == ["selftrain", "examples/first-run.toml"]:
            arguments += [f"--set={name}={number}" for name, number in SMALLER.items()]
        done = restmcts(*arguments)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        outputs[line.removeprefix(COMMAND).strip()] = done.stdout
    promised = {
        "problems check problems.jsonl": r"\b1\b",
        "grade predictions.jsonl": r'"verdict": ?"right"',
        "--version": r"^restmcts \d+\.\d+",
        "demo --quick --out first": r"restmcts ui --workdir first|report",
        "runs list --workdir first": r"demo",
        "runs show demo --workdir first": r"collect-1",
        "trees list demo --limit 3 --workdir first": r"Start",
        "runs spec demo --workdir first": r'policy = "number-paths"',
        "selftrain examples/first-run.toml --workdir run1": r"report: run1/report\.html",
        "selftrain --workdir run1": r"report: run1/report\.html",
        "checkpoints list selftrain --workdir run1": r"base",
        "datasets list selftrain --workdir run1": r"policy-0",
    }
    assert outputs.keys() == promised.keys()
    assert {line: out for line, out in outputs.items() if not re.search(promised[line], out)} == {}
    assert tomllib.loads(outputs["runs spec demo --workdir first"])["iterations"] == 1
    assert Path("first/report.html").is_file() and Path("run1/report.html").is_file()
