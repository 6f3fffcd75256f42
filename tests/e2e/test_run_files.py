"""The example of a run file through the whole loop."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "first-run.toml"
SMALLER = {
    "iterations": 1,
    "control": "false",
    "puzzles.demonstrations": 200,
    "puzzles.searched": 20,
    "puzzles.test": 10,
    "puzzles.compared": 5,
    "puzzles.held_out": 5,
    "puzzles.bootstrap": 15,
    "seed_training.num_steps": 20,
    "seed_training.batch_size": 16,
}


def ended_well(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_example_runs_and_is_resumed_with_its_own_settings_alone(restmcts: Run, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    smaller = [f"--set={name}={value}" for name, value in SMALLER.items()]
    typed = ["selftrain", EXAMPLE, "--workdir", workdir, *smaller]
    done = json.loads(ended_well(restmcts(*typed, "--json")))
    assert [found["iteration"] for found in done["iterations"]] == [0, 1]
    assert done["iterations"][1]["trees"] == 20
    refused = restmcts(*typed, "--seed", 4, "-o", "num_alternatives=3")
    assert refused.returncode == 2
    assert "other settings: seed (0 -> 4), search.num_alternatives (4 -> 3)" in refused.stderr
    ended_well(restmcts(*typed, "--device", "cpu", "--trees-in-flight", 3))
    shown = json.loads(ended_well(restmcts("runs", "show", "--workdir", workdir, "--json")))
    (first,) = (one["command"] for one in shown["provenance"])  # a run that is done is not continued
    assert first.startswith(f"restmcts selftrain {EXAMPLE} --workdir {workdir} --set=iterations=1")
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]
    assert shown["run_file"] == str(EXAMPLE) and shown["changed"]["puzzles.searched"] == "20"
    report = (workdir / "report.html").read_text()
    assert "Where this run comes from" in report and first in report
