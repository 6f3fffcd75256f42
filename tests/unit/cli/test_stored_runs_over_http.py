"""What comes after a run is stored, over HTTP: more iterations, copies, tags."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import projects, runs
from restmcts.errors import InputError
from restmcts.usecases import steer
from typer.testing import Result

Command = Callable[..., Result]
Shown = Callable[..., str]
Document = Callable[..., Any]
MINE = ("--policy", "number-paths", "--paused")


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    rows = ({"question": f"What is {number} + 1?", "answer": number + 1} for number in range(25))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refusal(result: Result) -> str:
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    return str(result.exception)


def sets(database: Database, name: str) -> dict[str, int]:
    with database.transaction() as transaction:
        run_id = queries.run_named(transaction, name).id
        return {one.set: one.num_problems for one in queries.list_problem_sets(transaction, run_id)}


def test_a_run_is_extended(database: Database, problems: Path, document: Document, shown: Shown, call: Command) -> None:
    document("runs", "create", "sums", problems, *MINE, "--iterations", 1, "--held-out", 2)
    found = document("runs", "extend", "sums", "--iterations", 2, "--max-tokens", 9000)
    assert (found["run"], found["iterations"]) == ("sums", 2) and "collect-2" in found["phases"]
    assert document("runs", "show", "sums")["max_tokens"] == 9000
    assert "restmcts runs watch sums" in call("runs", "extend", "sums", "--iterations", 3).stderr
    assert "iterations = 3" in shown("runs", "spec", "sums")
    assert "has 3 iterations; to extend it" in refusal(call("runs", "extend", "sums", "--iterations", 3))
    with database.transaction() as transaction:
        steer.set_max_tokens(transaction, "mine", 100)
        projects.set_quotas(transaction, "physics", max_tokens=10_000)
    over = refusal(call("runs", "extend", "sums", "--iterations", 4, "--max-tokens", 20_000))
    assert "tokens left for run sums" in over and "iterations = 3" in shown("runs", "spec", "sums")


def test_a_run_is_cloned_with_its_problems_or_with_others(
    database: Database, problems: Path, document: Document, shown: Shown, call: Command
) -> None:
    document("runs", "create", "sums", problems, *MINE, "--held-out", 2, "--test", problems)
    twin = document("runs", "clone", "sums", "twin", "--seed", 5, "--paused")
    assert twin["state"] == "paused" and twin["problems"] == sets(database, "twin") == sets(database, "sums")
    assert "seed = 5" in shown("runs", "spec", "twin") and "seed = 5" not in shown("runs", "spec", "sums")
    few = problems.with_name("few.jsonl")
    few.write_text("".join(problems.read_text().splitlines(keepends=True)[:12]))
    other = document("runs", "clone", "sums", "other", "--set", f"problems={few}", "--set", f"test={few}", "--paused")
    assert other["problems"]["test"] == 12
    assert "a run named 'twin' exists already" in refusal(call("runs", "clone", "sums", "twin"))
    assert refusal(call("runs", "clone", "nowhere", "more")) == "project physics has no run 'nowhere'"
    bench = ("--set", "promotion.value_bench=/etc")
    assert "labelled solutions cannot be named over HTTP" in refusal(call("runs", "clone", "sums", "more", *bench))


def test_puzzles_of_a_clone_are_drawn_again_where_they_differ(database: Database, document: Document) -> None:
    sizes = {"demonstrations": 6, "bootstrap": 3, "searched": 3, "test": 4, "compared": 2, "held_out": 2}
    puzzles = [part for name, size in sizes.items() for part in ("--set", f"puzzles.{name}={size}")]
    document("runs", "create", "puzzles", *MINE, *puzzles)
    for name, given in (("same", ()), ("drawn", ("--seed", 7))):
        document("runs", "clone", "puzzles", name, *given, "--paused")
    with database.transaction() as transaction:
        asked = {
            name: [
                row.question for row in runs.problems_of(transaction, queries.run_named(transaction, name).id, "test")
            ]
            for name in ("puzzles", "same", "drawn")
        }
        digests = {name: queries.run_named(transaction, name).config["problems"] for name in asked}
    assert asked["puzzles"] == asked["same"] != asked["drawn"] and len(asked["drawn"]) == 4
    assert digests["puzzles"] == digests["same"]


def test_a_run_is_tagged(database: Database, document: Document, call: Command) -> None:
    assert document("runs", "tag", "mine", "paper", "baseline") == {"run": "mine", "tags": ["baseline", "paper"]}
    assert document("runs", "tag", "mine", "paper", "--remove")["tags"] == ["baseline"]
    assert document("runs", "list")[0]["tags"] == ["baseline"]
    assert "tag" in refusal(call("runs", "tag", "mine", "a\nb"))
    with database.transaction() as transaction:
        rows = projects.audit(transaction, "physics", 9)
    assert [(row.action, row.detail) for row in rows[::-1]] == [
        ("run.tag", {"tags": ["paper", "baseline"], "remove": False}),
        ("run.tag", {"tags": ["paper"], "remove": True}),
    ]
