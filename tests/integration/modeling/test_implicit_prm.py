"""Implicit process rewards: log-ratios of two policies, summed over a solution so far."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.scoring import Calibration
from restmcts.errors import InputError, ModelError
from restmcts.modeling.checkpoints import load_policy
from restmcts.modeling.prm.implicit import ImplicitScorer
from restmcts.modeling.value.calibration_files import write_calibration
from restmcts.ports import StepScorer
from restmcts.testing.contracts.models import check_step_scorer
from restmcts.testing.prm_models import build_causal
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_prm_scorer.opening import open_scorer
from transformers import AutoModelForCausalLM

QUESTION = "a + b?"
BRANCHES = (("ab\n", "c\n"), ("d e f\n", "g\n", "h i\n"))
BETA = 0.3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and what it might have been trained from."""
    folder = tmp_path_factory.mktemp("implicit")
    build_causal(folder / "reference")
    build_causal(folder / "policy")
    model = AutoModelForCausalLM.from_pretrained(folder / "policy")
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.1 * torch.randn_like(weights)
    model.save_pretrained(folder / "policy")
    return folder / "policy", folder / "reference"


def opened(models: tuple[Path, Path], tmp_path: Path, beta: float = BETA) -> StepScorer:
    uri = f"{models[0]}?format=implicit&reference={models[1]}&beta={beta}"
    assert checkpoint_argument(uri, "value", False) == uri
    return open_scorer(uri, FolderArtifactStore(tmp_path / "artifacts"), WorkerModelSettings(60, 0))


def log_ratio(models: tuple[Path, Path], steps: tuple[str, ...]) -> float:
    """Return the sum over a solution's tokens of one text, the straightforward way."""
    sums = []
    for path in models:
        loaded = load_policy(path, dtype="float32")
        prompt = loaded.prompts.question_text(QUESTION)
        ids = loaded.tokenizer(prompt + "".join(steps), return_tensors="pt")["input_ids"]
        start = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"].shape[1]
        with torch.no_grad():
            log_probs = loaded.model(ids).logits[0].log_softmax(-1)
        sums.append(sum(float(log_probs[place - 1, ids[0, place]]) for place in range(start, ids.shape[1])))
    return sums[0] - sums[1]


def test_values_are_those_of_the_summed_log_ratios(models: tuple[Path, Path], tmp_path: Path) -> None:
    requests = [ScoreSteps(0, (), BRANCHES), ScoreSteps(1, BRANCHES[1][:1], (BRANCHES[1][1:],))]
    whole, rest = opened(models, tmp_path).score([QUESTION] * 2, requests)
    for branch, values in zip(BRANCHES, whole.values, strict=True):
        wanted = [log_ratio(models, branch[: place + 1]) for place in range(len(branch))]
        assert values == pytest.approx([1 / (1 + math.exp(-BETA * ratio)) for ratio in wanted], abs=1e-5)
    assert rest.values[0] == pytest.approx(whole.values[1][1:], abs=1e-5)
    assert max(abs(value - 0.5) for listed in whole.values for value in listed) > 0.02


def test_a_model_that_learned_nothing_finds_all_steps_alike(models: tuple[Path, Path], tmp_path: Path) -> None:
    (answer,) = opened((models[1], models[1]), tmp_path).score([QUESTION], [ScoreSteps(0, (), BRANCHES)])
    assert all(value == pytest.approx(0.5) for listed in answer.values for value in listed)


def test_a_calibration_beside_the_model_is_applied(models: tuple[Path, Path], tmp_path: Path) -> None:
    request = [ScoreSteps(0, (), BRANCHES)]
    (before,) = opened(models, tmp_path).score([QUESTION], request)
    calibration, calibrated = Calibration(0.5, 0.2), tmp_path / "calibrated"
    shutil.copytree(models[0], calibrated)
    write_calibration(calibrated, calibration, {})
    (after,) = opened((calibrated, models[1]), tmp_path).score([QUESTION], request)
    assert after.values == tuple(
        pytest.approx([calibration.applied(value) for value in listed]) for listed in before.values
    )


def test_the_contract_of_scorers_is_kept(models: tuple[Path, Path], tmp_path: Path) -> None:
    check_step_scorer(lambda: opened(models, tmp_path), QUESTION, BRANCHES, "last")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "&reference="),
        ("&reference=r&beta=0", "above 0"),
        ("&reference=r&beta=much", "above 0"),
        ("&reference=r&samples=2", "unknown option samples"),
    ],
)
def test_options_that_say_nothing_are_refused_when_a_run_is_made(options: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checkpoint_argument(f"some/model?format=implicit{options}", "value", False)


def test_models_of_other_tokens_or_with_too_short_a_context_are_refused(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    policy, reference = (load_policy(path) for path in models)
    scorer = ImplicitScorer(policy, reference, BETA, 10_000)
    with pytest.raises(ModelError, match="does not fit the models' context"):
        scorer.score([QUESTION], [ScoreSteps(0, (), (("a b " * 2000 + "\n",),))])
    reference.tokenizer.add_tokens(["another"])
    with pytest.raises(ModelError, match="other tokens"):
        ImplicitScorer(policy, reference, BETA, 10_000)
