"""Two processes that train one model together, by `accelerate launch`, do what one does."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, PREFERENCE_SCHEMA, VALUE_SCHEMA, write_shards
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingReport, TrainingSettings
from restmcts_trainer.job import Job
from restmcts_trainer.process import TrainingProcess
from safetensors.torch import load_file

# 20 examples by 7: the last step of an epoch has fewer than there are in a forward pass of both
# processes.
SETTINGS = TrainingSettings(num_steps=4, batch_size=7, learning_rate=1e-3, save_seconds=0.0)
SFT = TrainPolicyPhase("policy-1", 1, "base", SETTINGS)
DPO = replace(SFT, objective="dpo")
VALUE = TrainValuePhase("value-1", 1, None, "base", SETTINGS)
WHERE = {"problem_id": 1, "tree_id": 2, "node_id": 3}


class Watcher:
    def __init__(self) -> None:
        self.saved: list[int] = []

    def on_step(self, step: int, num_steps: int, loss: float | None) -> None:
        pass

    def on_saved(self, step: int, folder: Path) -> None:
        self.saved.append(step)

    def on_smaller(self, micro_batch: int) -> None:
        raise AssertionError("there is memory enough")


def row(phase: Any, puzzle: Problem) -> dict[str, Any]:
    steps = list(puzzle.solution or ())
    if phase is SFT:
        return {"question": puzzle.question, "steps": steps, "model_value": 0.0, **WHERE}
    if phase is VALUE:
        labels = {"targets": [0.5] * len(steps), "leads_to_right": [True] * len(steps), "finished": True}
        return {"question": puzzle.question, "steps": steps, **labels, **WHERE}
    sides = {"chosen": steps[:1], "rejected": steps[1:2], "chosen_finished": False, "rejected_finished": False}
    values = {"chosen_value": 1.0, "rejected_value": 0.5, "rejected_node_id": 4}
    return {"question": puzzle.question, "steps": [], **sides, **values, **WHERE}


@pytest.fixture(scope="module")
def alone() -> Iterator[TrainingProcess]:
    """The process that does each job by itself."""
    process = TrainingProcess(num_threads=1)
    yield process
    process.close()


def train(process: TrainingProcess, job: Job) -> tuple[TrainingReport, list[int], dict[str, Any]]:
    job.folder.mkdir()
    watcher = Watcher()
    report = process.run(job, watcher)
    assert report is not None
    return report, watcher.saved, load_file(job.output / "model.safetensors")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", [SFT, DPO, VALUE], ids=["sft", "dpo", "value"])
def test_two_processes_do_what_one_does(
    phase: Any, alone: TrainingProcess, puzzle_policy: Path, puzzles: Sequence[Problem], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    schema = POLICY_SCHEMA if phase is SFT else VALUE_SCHEMA if phase is VALUE else PREFERENCE_SCHEMA
    write_shards((row(phase, puzzle) for puzzle in puzzles[:20]), schema, {}, tmp_path / "data")
    job = Job(phase, str(puzzle_policy), tmp_path / "data", tmp_path / "one")
    report, saved, wanted = train(alone, job)
    with closing(TrainingProcess(num_threads=1, num_processes=2)) as together:
        other, saved_by_two, got = train(together, replace(job, folder=tmp_path / "two"))
    assert saved == saved_by_two == [1, 2, 3]
    assert (other.num_steps, other.num_targets) == (report.num_steps, report.num_targets)
    assert other.first_loss == pytest.approx(report.first_loss, rel=1e-4)
    assert max(float((got[name] - wanted[name]).abs().max()) for name in wanted) < 1e-4
