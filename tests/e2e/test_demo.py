"""`restmcts demo` keeps what it made: it is resumed after a kill, shown again, looked at, and made
again from its run file.
"""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.domain.runs.spec import written
from restmcts.testing.forked_commands import ForkedCommand
from restmcts.testing.recomputed_reports import check_report
from restmcts_cli.experiments.demo_plan import SMOKE, demo_spec

COMPARING = replace(SMOKE, compared=12, test_budgets=(80,))
Run = Callable[..., "subprocess.CompletedProcess[str]"]
SMALLER = [
    f"--set={name}={number}"
    for name, number in {
        "iterations": 1,
        "puzzles.demonstrations": 100,
        "puzzles.bootstrap": 20,
        "puzzles.searched": 20,
        "puzzles.test": 10,
        "puzzles.compared": 5,
        "puzzles.held_out": 10,
        "seed_training.num_steps": 40,
    }.items()
]

SHORT = ["--set=policy_training.num_steps=20", "--set=value_training.num_steps=20"]

# a first policy that solves some, and enough problems for figures that differ
SOLVING = [
    f"--set=evaluations={json.dumps(written(demo_spec(0, COMPARING))['evaluations'])}",
    "--set=puzzles.demonstrations=400",
    "--set=seed_training.num_steps=350",
    "--set=seed_training.batch_size=24",
    "--set=puzzles.test=40",
    "--set=puzzles.compared=12",
    *SHORT,
    "--difficulty=3-6",
]


def trees_of(workdir: Path) -> list[Any]:
    """Return what every tree of a run came to, and each of its nodes."""
    database = sqlite3.connect(workdir / "run.db")
    columns = "phases.name, problems.position, nodes.node_id, nodes.parent_id, nodes.step, nodes.search_value"
    found = database.execute(
        f"SELECT {columns} FROM nodes JOIN trees ON nodes.tree_id = trees.id JOIN phases ON trees.phase_id = phases.id"
        " JOIN problems ON trees.problem_id = problems.id WHERE phases.run_id = 1 ORDER BY 1, 2, 3"
    ).fetchall()
    database.close()
    return found


@pytest.mark.timeout(600)
def test_the_demo_is_resumed_kept_looked_at_and_made_again(
    restmcts: Run, restmcts_anew: Run, start: Callable[..., ForkedCommand], tmp_path: Path
) -> None:
    out = tmp_path / "demo-out"
    options = ["demo", *SMALLER, *SOLVING, "--out", str(out), "--json"]
    first = start(tmp_path / "log", *options)
    deadline = time.monotonic() + 120
    while not (out / "run.db").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    time.sleep(2.0)
    first.send_signal(signal.SIGKILL)
    first.wait()

    resumed = restmcts(*options, timeout=240)
    assert resumed.returncode == 0, resumed.stderr
    assert f"restmcts ui --workdir {out}" in resumed.stderr
    assert (out / "report.html").is_file()
    again = restmcts(*options, timeout=120)
    assert again.returncode == 0, again.stderr
    numbers = [json.loads(done.stdout)["iterations"] for done in (resumed, again)]
    assert numbers[0] == numbers[1]
    assert "finished before: all" in again.stderr and "policy-0: done" not in again.stderr
    assert "Accuracy by iteration" in again.stderr and f"restmcts ui --workdir {out}" in again.stderr
    check_report(out, again.stdout)

    other = restmcts(*options, "--seed", "7")
    assert other.returncode == 2
    assert "seed" in other.stderr and "--out" in other.stderr
    trees = json.loads(restmcts("trees", "list", "demo", "--workdir", out, "--json").stdout)
    assert trees

    (tmp_path / "demo.toml").write_text(restmcts("runs", "spec", "demo", "--workdir", out).stdout)
    made_again = restmcts_anew("selftrain", tmp_path / "demo.toml", "--workdir", tmp_path / "again", timeout=240)
    assert made_again.returncode == 0, made_again.stderr
    known = trees_of(out)
    assert known == trees_of(tmp_path / "again")
    assert {"collect-1", "held-out-trees", "grade-policy-1", "MCTS* @ 80"} <= {name for name, *_ in known}


def test_small_programs_are_learnt_beside_a_control_and_samples(restmcts: Run, tmp_path: Path) -> None:
    options = ["demo", "--task", "small-programs", *SMALLER, *SHORT, "--set=evaluations=[]", "--difficulty=1-2"]
    done = restmcts(*options, "--out", tmp_path, "--json", timeout=240)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert [one["iteration"] for one in numbers["iterations"]] == [0, 1]
    assert numbers["control"] is not None and numbers["rest_em"] is not None
    page = (tmp_path / "report.html").read_text()
    assert "teaches itself to program" in page and "smoke run" not in page
    listing = ["trees", "list", "demo", "--solved", "--limit", 1, "--json"]
    (tree,) = json.loads(restmcts(*listing, "--workdir", tmp_path).stdout)
    shown = json.loads(restmcts("trees", "export", tree["id"], "--workdir", tmp_path).stdout)
    sources = {node["verdict_source"] for node in shown["nodes"] if node["verdict"]}
    assert sources == {"tests"}


def test_a_run_of_votes_is_shown_beside_the_same_with_true_answers(restmcts: Run, tmp_path: Path) -> None:
    options = ["demo", "--truth", "votes", *SMALLER, *SHORT, "--set=puzzles.held_out=20", "--difficulty=3-4"]
    done = restmcts(*options, "--out", tmp_path, "--json", timeout=240)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert [one["iteration"] for one in numbers["iterations"]] == [0, 1]
    assert "true_answers" in numbers and "rest_em" not in numbers
    assert any("of the probe's verdicts are true" in note for note in numbers["notes"])


def test_a_smoke_run_says_that_it_is_one_and_evaluates_nothing(restmcts: Run, tmp_path: Path) -> None:
    shorter = [
        "--set=iterations=1",
        "--set=puzzles.searched=10",
        "--set=puzzles.bootstrap=10",
        "--set=seed_training.num_steps=20",
    ]
    done = restmcts("demo", "--task", "small-programs", "--quick", *shorter, "--out", tmp_path, "--json", timeout=240)
    assert done.returncode == 0, done.stderr
    before, after = done.stderr.split("policy-0: done")
    assert "A smoke run" in before and "A smoke run" in after
    assert [one["greedy_accuracy"] for one in json.loads(done.stdout)["iterations"]] == [None, None]
    shown = restmcts("runs", "show", "demo", "--workdir", tmp_path).stdout
    assert "collect-1" in shown
    for text in (done.stderr, shown, (tmp_path / "report.html").read_text()):
        assert not [word for word in ("±", "greedy", "Accuracy") if word in text]


def test_the_task_is_the_tiny_models_alone(restmcts: Run, tmp_path: Path) -> None:
    refused = restmcts("demo", "--task", "small-programs", "--model", "smollm2", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "--task" in refused.stderr and not (tmp_path / "out").exists()
    refused = restmcts("demo", "--task", "small-programs", "--truth", "votes", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "--truth votes" in refused.stderr and not (tmp_path / "out").exists()
