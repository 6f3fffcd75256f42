"""`evaluate` as a process: the same seeds give the same table, a kill loses nothing, bad input
is one line.
"""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from restmcts.testing.forked_commands import ForkedCommand

Run = Callable[..., "subprocess.CompletedProcess[str]"]
METHODS = "greedy,self-consistency,sc-orm,gated-best-of-n,gated-mcts-star,best-first"
NUM_PROBLEMS = 8
NOT_THE_SAME = ("seconds", "reused_tokens")
"""What depends on the moment: time, and what a model's cache still held."""
VALUE_NOISE = 1e-4
"""How requests fall into batches depends on the moment too, and with it the last digits
of a value."""


def arguments(problems: Path, policy: Path, out: Path, *more: object) -> list[object]:
    settings = {
        "--policy": policy,
        "--verifiers-from": problems,
        "--methods": METHODS,
        "--budgets": "30,60",
        "--seeds": "0,1",
        "--temperature": 1.0,
        "--max-step-tokens": 8,
        "--max-solution-tokens": 64,
        "--trees-in-flight": 16,
        "--limit": NUM_PROBLEMS,
    }
    return ["evaluate", problems, "--out", out, *(text for pair in settings.items() for text in pair), *more]


def table(out: Path) -> list[dict[str, str]]:
    with (out / "outcomes.csv").open(encoding="utf-8", newline="") as file:
        return [{name: text for name, text in row.items() if name not in NOT_THE_SAME} for row in csv.DictReader(file)]


def assert_same(first: list[dict[str, str]], second: list[dict[str, str]]) -> None:
    def without_values(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**row, "value": ""} for row in rows]

    def values(rows: list[dict[str, str]]) -> list[float]:
        return [float(row["value"] or "-1") for row in rows]

    assert without_values(first) == without_values(second)
    assert values(first) == pytest.approx(values(second), abs=VALUE_NOISE)


def num_applied(out: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{out / 'work' / 'run.db'}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT count(*) FROM requests WHERE state = 'applied'").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return 0


@pytest.fixture(scope="module")
def evaluated(
    restmcts: Run, puzzle_file: Path, puzzle_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> "subprocess.CompletedProcess[str]":
    out = tmp_path_factory.mktemp("evaluated") / "out"
    result = restmcts(*arguments(puzzle_file, puzzle_policy, out, "--json"))
    assert result.returncode == 0, result.stderr
    result.args = out
    return result


def test_every_method_stands_in_the_table_and_the_files(evaluated: "subprocess.CompletedProcess[str]") -> None:
    out = Path(evaluated.args)
    document = json.loads(evaluated.stdout)
    assert {row["method"] for row in document["methods"]} == set(METHODS.split(","))
    assert len(table(out)) == NUM_PROBLEMS * (1 + 5 * 2 * 2)
    assert any(row["accuracy"] > 0 for row in document["methods"]), "the policy knows its puzzles"
    assert document["num_seen"] == NUM_PROBLEMS, "the verifiers were trained on them"
    for name in ("report.md", "results.csv"):
        assert "best-first" in (out / name).read_text()
    page = (out / "report.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "")


def test_killed_and_started_again_it_comes_to_the_same_table(
    evaluated: "subprocess.CompletedProcess[str]",
    restmcts: Run,
    restmcts_anew: Run,
    start: Callable[..., ForkedCommand],
    puzzle_file: Path,
    puzzle_policy: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    given = arguments(puzzle_file, puzzle_policy, out)
    for num_requests in (20, 200):
        process = start(tmp_path / "log", *given)
        deadline = time.monotonic() + 100
        while num_applied(out) < num_requests and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "outcomes.csv").exists(), "it was killed on the way"
    result = restmcts_anew(*given)
    assert result.returncode == 0, result.stderr
    assert_same(table(out), table(Path(evaluated.args)))
    again = restmcts(*given)
    assert again.returncode == 0, "an ended evaluation is shown again"
    assert_same(table(out), table(Path(evaluated.args)))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--budgets", "30,x"), ("--budgets 30,x", "whole numbers")),
        (("--methods", "magic"), ("no answering method is called 'magic'",)),
        (("--methods", "step-beam"), ("step-beam", "solution_tokens")),
        (("--value", "nowhere"), ("nowhere",)),
        (("--iterations-of", "nowhere"), ("--iterations-of",)),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(
    more: tuple[str, ...], words: tuple[str, ...], restmcts: Run, puzzle_file: Path, puzzle_policy: Path, tmp_path: Path
) -> None:
    result = restmcts(*arguments(puzzle_file, puzzle_policy, tmp_path / "out", *more))
    assert result.returncode == 2, result.stderr
    assert [line for line in result.stderr.splitlines() if line][-1].startswith("error: ")
    assert all(word in result.stderr for word in words), result.stderr
    assert not (tmp_path / "out" / "work").exists()


def test_other_settings_in_the_same_folder_are_refused(
    evaluated: "subprocess.CompletedProcess[str]", restmcts: Run, puzzle_file: Path, puzzle_policy: Path
) -> None:
    out = Path(evaluated.args)
    result = restmcts(*arguments(puzzle_file, puzzle_policy, out, "--seeds", "5"))
    assert result.returncode == 2 and "other settings: seeds" in result.stderr
