"""`restmcts demo` keeps what it made: it is resumed after a kill, shown again, and looked at."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from restmcts.testing.forked_commands import ForkedCommand

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SMALLER = [
    f"--set={name}={number}"
    for name, number in {
        "puzzles.demonstrations": 100,
        "puzzles.bootstrap": 20,
        "puzzles.searched": 20,
        "puzzles.test": 20,
        "puzzles.compared": 10,
        "puzzles.held_out": 10,
        "seed_training.num_steps": 40,
    }.items()
]


def test_the_demo_is_resumed_kept_and_looked_at(
    restmcts: Run, start: Callable[..., ForkedCommand], tmp_path: Path
) -> None:
    out = tmp_path / "demo-out"
    options = ["demo", "--quick", *SMALLER, "--out", str(out), "--json"]
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

    other = restmcts(*options, "--seed", "7")
    assert other.returncode == 2
    assert "seed" in other.stderr and "--out" in other.stderr
    trees = json.loads(restmcts("trees", "list", "demo", "--workdir", out, "--json").stdout)
    assert trees


def test_small_programs_are_learnt_beside_a_control_and_samples(restmcts: Run, tmp_path: Path) -> None:
    options = ["demo", "--task", "small-programs", "--quick", *SMALLER, "--set=iterations=1", "--set=evaluations=[]"]
    done = restmcts(*options, "--out", tmp_path, "--json", timeout=240)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert [one["iteration"] for one in numbers["iterations"]] == [0, 1]
    assert numbers["control"] is not None and numbers["rest_em"] is not None
    assert "teaches itself to program" in (tmp_path / "report.html").read_text()
    listing = ["trees", "list", "demo", "--solved", "--limit", 1, "--json"]
    (tree,) = json.loads(restmcts(*listing, "--workdir", tmp_path).stdout)
    shown = json.loads(restmcts("trees", "export", tree["id"], "--workdir", tmp_path).stdout)
    sources = {node["verdict_source"] for node in shown["nodes"] if node["verdict"]}
    assert sources == {"tests"}


def test_the_task_is_the_tiny_models_alone(restmcts: Run, tmp_path: Path) -> None:
    refused = restmcts("demo", "--task", "small-programs", "--model", "smollm2", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "--task" in refused.stderr and not (tmp_path / "out").exists()
