"""What is trained of large models: adapters, without being asked; and what becomes of trainings
that a version began which trained all weights of them.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.runs import training_settings
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.modeling.checkpoints import LoadedModel, load_policy, load_value_model, save_checkpoint
from restmcts.modeling.training.training import train_policy, train_preferences, train_value
from restmcts.modeling.training.training_loop import Attempt

from tests.integration.modeling.test_training_options import EXAMPLES, PREFERENCES, SETTINGS, VALUES

RUNS: dict[str, tuple[Any, Any, Any]] = {
    "policy": (train_policy, EXAMPLES, load_policy),
    "preferences": (train_preferences, PREFERENCES, load_policy),
    "value": (train_value, VALUES, load_value_model),
}


@pytest.fixture
def parent(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(make_policy(), tmp_path / "parent")
    return tmp_path / "parent"


def weights(kind: str, path: Path) -> dict[str, torch.Tensor]:
    return dict(RUNS[kind][2](path).model.state_dict())


@pytest.mark.parametrize("had_adapters", [False, True])
@pytest.mark.parametrize("kind", ["policy", "value"])
def test_a_training_whose_saved_state_is_of_something_else_begins_anew(
    parent: Path, tmp_path: Path, kind: str, had_adapters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []

    def keep(_: int, folder: Path) -> None:
        saved.append(Path(shutil.copytree(folder, tmp_path / f"saved-{len(saved)}")))

    run, examples, _ = RUNS[kind]
    settings = replace(SETTINGS, save_seconds=0.0)
    if kind == "value":
        settings = replace(settings, validation_share=0.5, patience=9, evaluate_steps=1)
    sizes = [0, 10**9] if had_adapters else [10**9, 0]
    monkeypatch.setattr(training_settings, "LARGE_MODEL", sizes[0])
    run(parent, examples, settings, tmp_path / "before", Attempt(folder=tmp_path / "job", on_saved=keep))
    monkeypatch.setattr(training_settings, "LARGE_MODEL", sizes[1])
    straight = run(parent, examples, settings, tmp_path / "straight")
    attempt = Attempt(log_folder=tmp_path / "log", resume_from=saved[1])
    again = run(parent, examples, settings, tmp_path / "again", attempt)
    assert again.losses == straight.losses and len(again.losses) == 3
    first, second = weights(kind, tmp_path / "straight"), weights(kind, tmp_path / "again")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, optimizer="muon"),
        replace(SETTINGS, gradient_checkpointing=True),
        replace(SETTINGS, precision="bfloat16", packing=True),
    ],
    ids=["muon", "gradient checkpointing", "packed, in bfloat16"],
)
@pytest.mark.parametrize("kind", list(RUNS))
def test_all_linear_layers_of_a_large_model_learn(
    parent: Path, tmp_path: Path, kind: str, settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_settings, "LARGE_MODEL", 0)
    RUNS[kind][0](parent, RUNS[kind][1], settings, tmp_path / "out")
    before, after = weights("policy", parent), weights(kind, tmp_path / "out")
    moved = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.endswith("proj.weight")}
