"""Run files through the whole loop: the example, and the demo's file, which makes the demo's trees
again.
"""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "first-run.toml"
# The quick demo with fewer puzzles and one iteration, and a first policy that solves some of them.
SMALLER = {
    "iterations": 1,
    "control": "false",
    "puzzles.searched": 30,
    "puzzles.test": 10,
    "puzzles.compared": 5,
    "puzzles.held_out": 5,
    "puzzles.bootstrap": 15,
    "seed_training.num_steps": 300,
    "seed_training.batch_size": 16,
}
SECONDS = 500


def ended_well(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def trees_of(workdir: Path) -> list[Any]:
    """Return what every tree of a run came to, and each of its nodes."""
    database = sqlite3.connect(workdir / "run.db")
    columns = "phases.name, problems.position, nodes.node_id, nodes.parent_id, nodes.step, nodes.search_value"
    found = database.execute(
        f"SELECT {columns} FROM nodes JOIN trees ON nodes.tree_id = trees.id JOIN phases ON trees.phase_id = phases.id"
        " JOIN problems ON trees.problem_id = problems.id ORDER BY 1, 2, 3"
    ).fetchall()
    database.close()
    return found


@pytest.mark.timeout(2.5 * SECONDS)
def test_the_demos_run_file_makes_the_demos_trees(restmcts: Run, restmcts_anew: Run, tmp_path: Path) -> None:
    first, second, path = tmp_path / "first", tmp_path / "second", tmp_path / "demo.toml"
    smaller = [text for name, value in SMALLER.items() for text in ("--set", f"{name}={value}")]
    ended_well(restmcts("runs", "create", "demo", "--demo", "--quick", *smaller, "--workdir", first))
    ended_well(restmcts("runs", "work", "demo", "--workdir", first, timeout=SECONDS))
    path.write_text(ended_well(restmcts("runs", "spec", "demo", "--workdir", first)))
    ended_well(restmcts_anew("selftrain", path, "--workdir", second, timeout=SECONDS))
    trees = trees_of(first)
    assert trees == trees_of(second)
    assert {"collect-1", "held-out-trees", "grade-policy-1", "MCTS* @ 80"} <= {name for name, *_ in trees}


def test_the_example_runs_and_is_resumed_with_its_own_settings_alone(restmcts: Run, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    smaller = [f"--set={name}={value}" for name, value in {**SMALLER, "puzzles.demonstrations": 200}.items()]
    typed = ["selftrain", EXAMPLE, "--workdir", workdir, *smaller, "--set=seed_training.num_steps=20"]
    done = json.loads(ended_well(restmcts(*typed, "--json")))
    assert [found["iteration"] for found in done["iterations"]] == [0, 1]
    assert done["iterations"][1]["trees"] == 30
    refused = restmcts(*typed, "--seed", 4, "-o", "num_alternatives=3")
    assert refused.returncode == 2
    assert "other settings: seed (0 -> 4), search.num_alternatives (4 -> 3)" in refused.stderr
    ended_well(restmcts(*typed, "--device", "cpu", "--trees-in-flight", 3))
