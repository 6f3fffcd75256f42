"""Losses over weighted steps against a straightforward computation, one token at a time, and what
training on them does to a policy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.learning.losses import ClippedRatioLoss, LikelihoodLoss, Loss, PreferenceLoss, SupervisedLoss
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import TrainingError
from restmcts.modeling.checkpoints import LoadedModel, load_policy, save_checkpoint
from restmcts.modeling.training import path_training
from restmcts.modeling.training.path_training import PathExample, summed_path_loss
from restmcts.modeling.training.training import train_paths, train_policy
from restmcts.modeling.training.training_loop import Attempt
from restmcts.modeling.training.training_rows import PolicyExample

SETTINGS = TrainingSettings(num_steps=1, batch_size=16, learning_rate=1e-2, schedule="constant", warmup_ratio=0.0)
PATHS = [
    PathExample("ab", ("cd\n", "e\n", "ff\n"), (1.0, None, 0.5), True),
    PathExample("a", ("cd\n", "gg\n"), (None, -0.4), False),
    PathExample("a", ("h\n",), (2.0,), True),
    PathExample("b", ("i\n", "jkl\n"), (-0.2, 0.0), False),
]
PAIRS = [
    PathExample("ab", ("cd\n", "e\n"), (None, 0.7), True),
    PathExample("ab", ("cd\n", "ggg\n"), (None, -0.7), False),
    PathExample("a", ("h\n",), (0.3,), False),
    PathExample("a", ("ij\n",), (-0.3,), True),
]


@pytest.fixture
def parent(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(make_policy(), tmp_path / "parent")
    return tmp_path / "parent"


def step_log_probs(path: Path, example: PathExample) -> list[list[float]]:
    """Return the log-probability of each token of each step, the end token with the last."""
    loaded = load_policy(path)
    texts = [[loaded.tokenizer(step)["input_ids"] for step in example.steps]][0]
    if example.finished:
        texts[-1] = texts[-1] + [loaded.tokenizer.eos_token_id]
    ids = loaded.tokenizer(example.question + "\n")["input_ids"]
    found = []
    for tokens in texts:
        with torch.inference_mode():
            table = torch.log_softmax(loaded.model(torch.tensor([ids + tokens])).logits[0], -1)
        found.append([float(table[len(ids) + place - 1, token]) for place, token in enumerate(tokens)])
        ids = ids + tokens
    return found


def weighted_steps(path: Path, examples: Sequence[PathExample]) -> list[tuple[float, list[float]]]:
    """Return (weight, log-probabilities of its tokens) of each step that teaches something."""
    return [
        (weight, log_probs)
        for example in examples
        for weight, log_probs in zip(example.weights, step_log_probs(path, example), strict=True)
        if weight
    ]


def first_loss(parent: Path, examples: list[PathExample], loss: Loss, out: Path, **changes: Any) -> float:
    return train_paths(parent, examples, loss, replace(SETTINGS, **changes), out).first_loss


def test_the_likelihood_is_weighted_and_negative_steps_count_by_their_ratio(parent: Path, tmp_path: Path) -> None:
    steps = weighted_steps(parent, PATHS)
    positive = sum(-weight * sum(tokens) for weight, tokens in steps if weight > 0)
    # At the first step the policy is the old one: every ratio is 1.
    negative = sum(-weight * len(tokens) for weight, tokens in steps if weight < 0)
    wanted = (positive + negative) / sum(weight * len(tokens) for weight, tokens in steps if weight > 0)
    assert first_loss(parent, PATHS, LikelihoodLoss(), tmp_path / "out") == pytest.approx(wanted, abs=1e-5)


def test_the_policy_gradient_is_a_mean_over_steps(parent: Path, tmp_path: Path) -> None:
    steps = weighted_steps(parent, PATHS)
    wanted = -sum(weight for weight, _ in steps) / len(steps)
    assert first_loss(parent, PATHS, ClippedRatioLoss(), tmp_path / "out") == pytest.approx(wanted, abs=1e-5)


def test_preferences_are_weighted_and_keep_the_chosen_step_likely(parent: Path, tmp_path: Path) -> None:
    steps = weighted_steps(parent, PAIRS)
    chosen = [sum(tokens) / len(tokens) for _, tokens in steps[::2]]
    wanted = sum(0.3 * -likelihood for likelihood in chosen) + sum(weight for weight, _ in steps[::2]) * math.log(2)
    found = first_loss(parent, PAIRS, PreferenceLoss(supervised=0.3), tmp_path / "out")
    assert found == pytest.approx(wanted / 2, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_losses_away_from_the_old_policy_are_their_formulas_token_by_token(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = [3, 1, 4, 2]
    row_of = torch.tensor([row for row, length in enumerate(lengths) for _ in range(length)])
    now, old = (-2 * torch.rand(len(row_of), generator=generator) * 2 for _ in range(2))
    of_row = torch.tensor([0.8, 0.4, -0.8, -0.4])
    weights = of_row[row_of]
    likelihood, gradient = 0.0, 0.0
    for log_prob, before, weight in zip(now.tolist(), old.tolist(), weights.tolist(), strict=True):
        ratio = math.exp(log_prob - before)
        if weight > 0:
            likelihood -= weight * log_prob
        elif math.log(ratio) >= -1.0:
            likelihood += -weight * min(ratio, 1.5)
        gradient -= min(ratio * weight, min(max(ratio, 0.8), 1.28) * weight)
    found = [
        summed_path_loss(loss, now, old, weights, row_of) for loss in (LikelihoodLoss(1.5, 1.0), ClippedRatioLoss())
    ]
    assert found[0].item() == pytest.approx(likelihood, abs=1e-5)
    assert found[1].item() == pytest.approx(gradient, abs=1e-5)
    preference = 0.0
    for chosen, rejected in ((0, 2), (1, 3)):
        gains = [sum((now - old)[row_of == row].tolist()) for row in (chosen, rejected)]
        size = -math.log(1 / (1 + math.exp(-0.7 * (gains[0] - gains[1]))))
        preference += float(of_row[chosen]) * size - 0.2 * float(now[row_of == chosen].mean())
    loss = PreferenceLoss(beta=0.7)
    assert summed_path_loss(loss, now, old, weights, row_of).item() == pytest.approx(preference, abs=1e-5)


def test_what_was_pushed_far_enough_is_left_alone() -> None:
    now = torch.tensor([-3.1, -2.9, -0.5], requires_grad=True)
    old, weights = torch.tensor([-1.0, -1.0, -2.0]), torch.tensor([-1.0, -1.0, -1.0])
    summed_path_loss(LikelihoodLoss(), now, old, weights, torch.zeros(3, dtype=torch.long)).backward()
    assert now.grad is not None
    assert now.grad.tolist() == pytest.approx([0.0, math.exp(-1.9), 0.0])


@pytest.mark.parametrize("packing", [False, True])
def test_a_large_vocabulary_is_read_at_targets_alone_with_equal_losses(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    solutions = [PolicyExample("ab"[: 1 + i % 2], ("cd\n", "e" * (1 + i) + "\n")) for i in range(6)]
    settings = replace(SETTINGS, num_steps=3, batch_size=3, packing=packing)
    losses = []
    for limit in (4096, 0):
        monkeypatch.setattr(path_training, "_LARGE_VOCABULARY", limit)
        assert path_training.reads_large_vocabulary(load_policy(parent).model) == (limit == 0)
        weighted = train_paths(parent, PATHS, LikelihoodLoss(), settings, tmp_path / f"paths{limit}")
        supervised = train_policy(parent, solutions, settings, tmp_path / f"sft{limit}")
        losses.append([loss for report in (weighted, supervised) for _, loss in report.losses])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_equal_weights_are_supervised_training(parent: Path, tmp_path: Path) -> None:
    solutions = [PolicyExample("ab"[: 1 + i % 2], ("cd\n", "e" * (1 + i) + "\n")) for i in range(6)]
    paths = [PathExample(one.question, one.steps, (1.0,) * len(one.steps), True) for one in solutions]
    settings = replace(SETTINGS, num_steps=4, batch_size=3)
    supervised = train_policy(parent, solutions, settings, tmp_path / "sft")
    weighted = train_paths(parent, paths, LikelihoodLoss(), settings, tmp_path / "weighted")
    assert weighted.losses == [(step, pytest.approx(loss, abs=1e-5)) for step, loss in supervised.losses]
    assert weighted.num_targets == supervised.num_targets


@pytest.mark.parametrize(
    "loss", [LikelihoodLoss(), ClippedRatioLoss(), PreferenceLoss()], ids=lambda one: type(one).__name__
)
def test_how_a_step_is_spread_changes_nothing(parent: Path, tmp_path: Path, loss: Loss) -> None:
    examples = PAIRS if isinstance(loss, PreferenceLoss) else PATHS
    changes: list[dict[str, Any]] = [
        {"batch_size": 4},
        {"batch_size": 1, "gradient_accumulation": 4},
        {"batch_size": 4, "packing": True},
    ]
    losses = [
        train_paths(parent, examples, loss, replace(SETTINGS, num_steps=3, **change), tmp_path / f"out{place}").losses
        for place, change in enumerate(changes)
    ]
    for other in losses[1:]:
        assert other == [(step, pytest.approx(one, abs=1e-4)) for step, one in losses[0]]


def probability(path: Path, example: PathExample) -> float:
    return math.exp(sum(map(sum, step_log_probs(path, example))))


def test_a_decisive_step_loses_probability_and_its_siblings_keep_theirs(parent: Path, tmp_path: Path) -> None:
    steps = ("ee\n", "fg\n", "hh\n", "ij\n")
    shown = [PathExample("ab", ("cd\n", step), (1.0, 1.0), False) for step in steps]
    right, lost = [shown[0], shown[1]], replace(shown[2], weights=(None, -3.0))
    settings = replace(SETTINGS, num_steps=120, batch_size=4, learning_rate=3e-3)
    train_paths(parent, shown, LikelihoodLoss(), settings, tmp_path / "knows")
    gentle = replace(settings, num_steps=8, learning_rate=1e-4)
    train_paths(tmp_path / "knows", [*right, lost], LikelihoodLoss(), gentle, tmp_path / "decisive")
    train_paths(tmp_path / "knows", right, LikelihoodLoss(), gentle, tmp_path / "sft")
    before, after, without = (
        [probability(tmp_path / name, one) for one in shown] for name in ("knows", "decisive", "sft")
    )
    assert min(before) > 0.15
    assert after[2] < 0.5 * before[2] and after[2] < 0.95 * without[2]
    assert min(after[:2]) > max(before[:2]), "right siblings gain"
    assert after[3] > without[3], "what is taken goes to all its siblings"


def test_a_resumed_training_ends_with_the_same_weights(parent: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, num_steps=8, batch_size=2, save_seconds=0.0)
    saved: dict[int, Path] = {}
    (tmp_path / "states").mkdir()
    attempt = Attempt(folder=tmp_path / "states", on_saved=lambda step, folder: saved.__setitem__(step, folder))
    whole = train_paths(parent, PATHS, LikelihoodLoss(), settings, tmp_path / "whole", attempt)
    again = train_paths(parent, PATHS, LikelihoodLoss(), settings, tmp_path / "again", Attempt(resume_from=saved[5]))
    assert again.num_steps == whole.num_steps == 8
    assert whole.step_seconds is not None and whole.step_seconds * 8 < whole.seconds and again.step_seconds is None
    first, second = (load_policy(tmp_path / name).model.state_dict() for name in ("whole", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_loss_that_compares_wants_pairs(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no pairs"):
        train_paths(parent, PAIRS[1:], PreferenceLoss(), SETTINGS, tmp_path / "out")
    with pytest.raises(TrainingError, match="can be used"):
        nothing = [replace(one, weights=(None,) * len(one.steps)) for one in PATHS]
        train_paths(parent, nothing, LikelihoodLoss(), SETTINGS, tmp_path / "out")
    assert SupervisedLoss() != LikelihoodLoss()
