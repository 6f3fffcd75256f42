"""`promotion.value_bench`: labelled solutions that become a problem set of a run, read once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.run_files import read_run_file
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.errors import InputError
from typer.testing import Result

SIZES = {"demonstrations": 6, "bootstrap": 2, "searched": 3, "test": 4, "compared": 2, "held_out": 2}
DEMO = ("--demo", "--quick", *(text for name, value in SIZES.items() for text in ("--set", f"puzzles.{name}={value}")))
STORED = [("1 + 1?", "+-?", ["One. ", "Three. ", "So 3."]), ("2 + 2?", "++", ["Two. ", "So 4."])]


def labelled(path: Path, *labels: int) -> Path:
    texts = [("1 + 1?", ["One.", "Three.", "So 3."]), ("2 + 2?", ["Two.", "So 4."])]
    rows = [{"problem": each[0], "steps": each[1], "label": label} for each, label in zip(texts, labels, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stored(workdir: Path, name: str) -> tuple[list[tuple[str, str | None, list[str]]], dict[str, str | None]]:
    """Return a run's labelled solutions, and the sets that its promotions name."""
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        run_id = queries.run_named(transaction, name).id
        found = runs.problems_of(transaction, run_id, "value-bench")
        gates = {row.name: row.spec for row in runs.phases_of(transaction, run_id) if row.kind == "gate"}
    database.close()
    solutions = [(one.question, one.answer, [f"{step.strip()} " for step in one.solution or []]) for one in found]
    return solutions, {name: spec.get("bench_set") for name, spec in gates.items()}


def solutions(*members: tuple[str, str, list[str]]) -> list[tuple[str, str | None, list[str]]]:
    return [(question, marks, [f"{step.strip()} " for step in steps]) for question, marks, steps in members]


@pytest.mark.parametrize("of_file", [False, True])
def test_the_solutions_of_a_file_are_a_set_of_the_run_that_promotions_of_value_models_name(
    document: Callable[..., Any], tmp_path: Path, of_file: bool
) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(f'{{"question": "{number} + 1?", "answer": {number + 1}}}\n' for number in range(20)))
    asked = (problems, "--policy", "someone/model") if of_file else DEMO
    bench, workdir = labelled(tmp_path / "bench.jsonl", 1, -1), tmp_path / "w"
    document("runs", "create", "one", *asked, "--set", f"promotion.value_bench={bench}", "--workdir", workdir)
    found, sets = stored(workdir, "one")
    assert found == solutions(*STORED)
    assert sets == {name: "value-bench" if "value" in name else None for name in sets} and "gate-value-1" in sets


def test_a_clone_has_them_without_the_file_unless_it_names_another(
    document: Callable[..., Any], tmp_path: Path
) -> None:
    bench, workdir = labelled(tmp_path / "bench.jsonl", 1, -1), tmp_path / "w"
    document("runs", "create", "one", *DEMO, "--set", f"promotion.value_bench={bench}", "--workdir", workdir)
    bench.unlink()
    document("runs", "clone", "one", "twin", "--workdir", workdir)
    document("runs", "extend", "one", "--iterations", 3, "--workdir", workdir)
    assert stored(workdir, "twin")[0] == stored(workdir, "one")[0] == solutions(*STORED)
    assert stored(workdir, "one")[1]["gate-value-3"] == "value-bench"
    other = labelled(tmp_path / "other.jsonl", 0, 1)
    document("runs", "clone", "one", "other", "--set", f"promotion.value_bench={other}", "--workdir", workdir)
    assert [marks for _, marks, _ in stored(workdir, "other")[0]] == ["-??", "+-"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(None, "no such file, folder or benchmark"), ((-1, -1), "has not both right and wrong steps")],
)
def test_what_says_nothing_of_a_value_model_is_refused_and_no_run_is_stored(
    call: Callable[..., Result], document: Callable[..., Any], tmp_path: Path, labels: Any, reason: str
) -> None:
    bench, workdir = tmp_path / "bench.jsonl", tmp_path / "w"
    if labels is not None:
        labelled(bench, *labels)
    asked = ("--set", f"promotion.value_bench={bench}", "--workdir", workdir)
    refused = [
        call("runs", "create", "one", *DEMO, *asked),
        call("selftrain", "demo:30", "--policy", "number-paths", *asked),
    ]
    for result in refused:
        assert isinstance(result.exception, InputError) and reason in str(result.exception)
    assert document("runs", "list", "--workdir", workdir) == []


def test_a_run_file_finds_files_that_are_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "held-out" names problems of the run, whatever lies there."""
    labelled(tmp_path / "bench.jsonl", 1, -1)
    (tmp_path / "held-out").mkdir()
    path = tmp_path / "run.toml"
    path.write_text('probe = "held-out"\n[promotion]\nvalue_bench = "bench.jsonl"\n')
    monkeypatch.chdir("/")
    values = {setting.name: setting.value for setting in read_run_file(path)}
    assert values == {"probe": "held-out", "promotion.value_bench": str(tmp_path / "bench.jsonl")}
