"""Rounds in one process: nothing starts again, weights are loaded once, and a run that is killed
ends with the weights of one that is not.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import restmcts
from restmcts.adapters.files.run_files import run_file_text
from restmcts.adapters.observability import metrics
from restmcts.testing.forked_commands import ForkedCommand
from restmcts.testing.runs import stored_rows
from restmcts_trainer import process

NUM_FEW = 12
NUM_ROUNDS = 3
OPTIONS = {
    "rounds": NUM_ROUNDS,
    "max_staleness": 1,
    "method": "rest-mcts",
    "budget": {"iterations": 3},
    "generation": {"temperature": 1.0, "max_step_tokens": 8},
    "policy_training": {"num_steps": 6, "batch_size": 4},
    "value_training": {"num_steps": 6, "batch_size": 4},
    "models": {"trees_in_flight": 8},
}


def weights(workdir: Path) -> dict[str, str]:
    """Return the digest of each trained checkpoint's weights; its card says when it was trained."""
    found = {}
    for name, uri in stored_rows(workdir, "SELECT name, uri FROM checkpoints WHERE name <> 'base'"):
        file = workdir / "artifacts" / uri.partition(":")[2] / "model.safetensors"
        found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


@pytest.mark.timeout(600)
def test_rounds_start_nothing_again_and_a_killed_run_ends_with_the_same_weights(
    start: Callable[..., ForkedCommand],
    puzzle_policy: Path,
    puzzle_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems = tmp_path / "few.jsonl"
    problems.write_text("".join(puzzle_file.read_text().splitlines(keepends=True)[:NUM_FEW]))
    asked = {**OPTIONS, "policy": puzzle_policy, "problems": problems}
    children: list[object] = []
    start_child = process.start_child
    monkeypatch.setattr(process, "start_child", lambda *given: children.append(given) or start_child(*given))
    loads = metrics.CHECKPOINT_LOADS._value.get()
    with restmcts.selftrain(asked, tmp_path / "whole") as run:
        phases = {phase.name: phase for phase in run.phases}
        document = run.spec
    loads = metrics.CHECKPOINT_LOADS._value.get() - loads
    assert document is not None and document.rounds == NUM_ROUNDS
    assert {phase.state for phase in phases.values()} == {"done"}
    trained = weights(tmp_path / "whole")
    assert len(set(trained.values())) == len(trained) == 2 * NUM_ROUNDS, "each training changed the weights"
    assert len(children) == 1, "one process trains all rounds, one after the other"
    assert 0 < loads <= 1 + len(trained), "what is swapped in is loaded once"
    staleness = {name: phase.staleness for name, phase in phases.items() if phase.purpose == "collect"}
    assert staleness == {"collect-1.1": 0, "collect-1.2": 1, "collect-1": 1}

    run_file = tmp_path / "run.toml"
    run_file.write_text(run_file_text(document))
    workdir, log = tmp_path / "killed", tmp_path / "log"
    num_killed = 0
    for name in ("policy-1.1", "value-1.2"):
        killed = start(log, "selftrain", run_file, "--workdir", workdir)
        training = f"SELECT 1 FROM phases WHERE name = '{name}' AND state = 'training'"
        while killed.poll() is None and not stored_rows(workdir, training):
            time.sleep(0.01)
        num_killed += killed.poll() is None
        killed.kill()
        killed.wait()
    assert num_killed == 2
    assert start(log, "selftrain", run_file, "--workdir", workdir).wait(timeout=300) == 0, log.read_text()
    assert weights(workdir) == trained
