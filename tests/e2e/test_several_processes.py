"""Several processes that train one model together do what one does, each with the whole model or
with its part of it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, PREFERENCE_SCHEMA, VALUE_SCHEMA, write_shards
from restmcts.domain.learning.decisive import DecisiveLearner
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import Sharding, TrainingReport, TrainingSettings
from restmcts_trainer.job import Job
from restmcts_trainer.machines import TrainingProcessDiedError
from restmcts_trainer.process import TrainingProcess
from safetensors.torch import load_file

# 20 examples by 7: the last step of an epoch has fewer than there are in a forward pass of both
# processes. Where a gradient is next to nothing, AdamW makes steps of its rounding, as large as the
# rate is.
SETTINGS = TrainingSettings(num_steps=4, batch_size=7, learning_rate=5e-5, save_seconds=0.0)
IN_PASSES = replace(SETTINGS, batch_size=2, gradient_accumulation=4, max_gradient_norm=0.1)
SFT = TrainPolicyPhase("policy-1", 1, "base", SETTINGS)
DPO = replace(SFT, objective="dpo")
VALUE = TrainValuePhase(
    "value-1", 1, None, "base", replace(IN_PASSES, validation_share=0.3, evaluate_steps=1, patience=4)
)
WEIGHTED = replace(
    SFT, learner=DecisiveLearner(), training=replace(IN_PASSES, optimizer="muon", muon_learning_rate=1e-3)
)
PHASES: dict[str, TrainPolicyPhase | TrainValuePhase] = {
    "sft": SFT,
    "dpo": DPO,
    "value": VALUE,
    "weighted": WEIGHTED,
    "dpo-lora": replace(DPO, training=replace(SETTINGS, lora_rank=4)),
    "muon-lora": replace(SFT, training=replace(WEIGHTED.training, lora_rank=4)),
    "value-head": replace(VALUE, training=replace(VALUE.training, trainable="head", learning_rate=1e-2)),
    "value-lora": replace(VALUE, training=replace(VALUE.training, lora_rank=4)),
}
WHERE = {"problem_id": 1, "tree_id": 2, "node_id": 3}


class Watcher:
    def __init__(self) -> None:
        self.saved: list[int] = []
        self.num_processes = 0

    def on_wait(self) -> None:
        pass

    def on_step(self, step: int, num_steps: int, loss: float | None) -> None:
        pass

    def on_saved(self, step: int, folder: Path) -> None:
        self.saved.append(step)
        # Each process writes the state of its own random numbers.
        self.num_processes = len(list(folder.glob("rng_state*.pth")))

    def on_smaller(self, micro_batch: int) -> None:
        raise AssertionError("there is memory enough")


class Killer(Watcher):
    """Kills a training at its second save, and keeps what was saved."""

    def __init__(self, process: TrainingProcess, kept: Path) -> None:
        super().__init__()
        self._process, self._kept = process, kept

    def on_saved(self, step: int, folder: Path) -> None:
        super().on_saved(step, folder)
        if step == 2:
            shutil.copytree(folder, self._kept)
            self._process.kill()


def row(phase: Any, puzzle: Problem, number: int) -> dict[str, Any]:
    steps = list(puzzle.solution or ())
    if phase.kind == "train-value":
        labels = {"targets": [0.1 * (number % 10)] * len(steps), "leads_to_right": [True] * len(steps)}
        return {"question": puzzle.question, "steps": steps, **labels, "finished": True, **WHERE}
    if phase.objective == "sft":
        weights = [1.0] * len(steps) if number % 3 else [*[None] * (len(steps) - 1), -0.3]
        taught = {"weights": weights, "finished": number % 3 > 0, "model_value": 0.0}
        return {"question": puzzle.question, "steps": steps, **taught, **WHERE}
    sides = {"chosen": steps[:1], "rejected": steps[1:2], "chosen_finished": False, "rejected_finished": False}
    values = {"chosen_value": 1.0, "rejected_value": 0.5, "rejected_node_id": 4}
    return {"question": puzzle.question, "steps": [], **sides, **values, **WHERE}


def job_of(phase: Any, policy: Path, puzzles: Sequence[Problem], folder: Path) -> Job:
    (folder / "data").mkdir()
    is_value = phase.kind == "train-value"
    schema = VALUE_SCHEMA if is_value else POLICY_SCHEMA if phase.objective == "sft" else PREFERENCE_SCHEMA
    rows = (row(phase, puzzle, number) for number, puzzle in enumerate(puzzles[:20]))
    write_shards(rows, schema, {}, folder / "data")
    return Job(phase, str(policy), folder / "data", folder / "one")


@pytest.fixture(scope="module")
def alone() -> Iterator[TrainingProcess]:
    """The process that does each job by itself."""
    process = TrainingProcess(num_threads=1)
    yield process
    process.close()


def train(process: TrainingProcess, job: Job) -> tuple[TrainingReport, Watcher, dict[str, Any]]:
    job.folder.mkdir()
    watcher = Watcher()
    report = process.run(job, watcher)
    assert report is not None
    return report, watcher, load_file(job.output / "model.safetensors")


def difference(got: dict[str, Any], wanted: dict[str, Any]) -> float:
    assert got.keys() == wanted.keys()
    return max(float((got[name] - wanted[name]).abs().max()) for name in wanted)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "num_processes", "sharding"),
    [
        ("sft", 2, "none"),
        ("value", 2, "none"),
        ("dpo", 4, "full"),
        ("dpo-lora", 2, "full"),
        ("muon-lora", 2, "full"),
        ("value-lora", 2, "full"),
    ],
)
def test_several_processes_do_what_one_does(
    name: str,
    num_processes: int,
    sharding: Sharding,
    alone: TrainingProcess,
    puzzle_policy: Path,
    puzzles: Sequence[Problem],
    tmp_path: Path,
) -> None:
    job = job_of(PHASES[name], puzzle_policy, puzzles, tmp_path)
    report, watcher, wanted = train(alone, job)
    with closing(TrainingProcess(1, num_processes, sharding)) as together:
        other, watcher_of_all, got = train(together, replace(job, folder=tmp_path / "many"))
    assert (watcher.num_processes, watcher_of_all.num_processes) == (1, num_processes)
    assert watcher.saved == watcher_of_all.saved == [1, 2, 3]
    assert (other.num_steps, other.num_targets) == (report.num_steps, report.num_targets)
    assert [loss for _, loss in other.losses] == pytest.approx([loss for _, loss in report.losses], rel=1e-4)
    assert other.held_out == pytest.approx(report.held_out, rel=1e-4)
    assert difference(got, wanted) <= 1e-6


@pytest.mark.timeout(600)
def test_a_training_in_parts_that_is_killed_goes_on_with_any_number_of_processes(
    alone: TrainingProcess, puzzle_policy: Path, puzzles: Sequence[Problem], tmp_path: Path
) -> None:
    job = job_of(WEIGHTED, puzzle_policy, puzzles, tmp_path)
    _, _, wanted = train(alone, job)
    (tmp_path / "killed").mkdir()
    with closing(TrainingProcess(1, 4, "full")) as together:
        killer = Killer(together, tmp_path / "saved")
        with pytest.raises(TrainingProcessDiedError):
            together.run(replace(job, folder=tmp_path / "killed"), killer)
        assert killer.num_processes == 4
    rest = replace(job, folder=tmp_path / "two", resume_from=tmp_path / "saved")
    with closing(TrainingProcess(1, 2, "full")) as together:
        _, watcher, got = train(together, rest)
    assert watcher.saved == [3]
    assert difference(got, wanted) <= 1e-6
    _, watcher, got = train(alone, replace(rest, folder=tmp_path / "alone"))
    assert watcher.saved == [3]
    assert difference(got, wanted) <= 1e-6


def test_each_process_has_its_part_of_the_parameters_alone(puzzle_policy: Path, environment: dict[str, str]) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    program = Path(__file__).with_name("sharded_sizes.py")
    done = subprocess.run([*launcher, program, puzzle_policy], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 4 and all(sizes["are_sums"] for sizes in found)
    for kind in ("parameters", "gradients", "states"):
        whole = found[0]["whole"] * (2 if kind == "states" else 1)
        assert sum(sizes[kind] for sizes in found) == whole
        assert all(sizes[kind] == pytest.approx(whole / 4, rel=0.05) for sizes in found)
