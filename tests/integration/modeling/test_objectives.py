"""Every objective's loss against a straightforward computation, one example at a time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.runs.training_settings import TrainingSettings, ValueObjective, gives_values
from restmcts.errors import TrainingError
from restmcts.modeling.checkpoints import LoadedModel, load_policy, load_value_model, save_checkpoint
from restmcts.modeling.training.training import train_preferences, train_value
from restmcts.modeling.training.training_loop import Attempt
from restmcts.modeling.training.training_rows import PreferenceExample, ValueExample, sibling_pairs
from restmcts.modeling.value.value_metrics import value_metrics
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.modeling.value.value_reading import ValueReader
from torch.nn.functional import logsigmoid

SETTINGS = TrainingSettings(num_steps=1, batch_size=16, learning_rate=1e-2, schedule="constant", warmup_ratio=0.0)
PREFERENCES = [
    PreferenceExample("ab"[: 1 + i % 2], ("c\n",) * (i % 3), ("dd\n",), ("e" * (1 + i) + "\n",), i % 2 == 0, i % 4 == 1)
    for i in range(6)
]
VALUES = [
    ValueExample("q", ("a\n", "b\n"), (0.75, 1.0), (True, True), True),
    ValueExample("q", ("a\n", "ccc\n"), (None, 0.5), (None, False), True),
    ValueExample("q", ("dd\n",), (0.25,), (False,), False),
    ValueExample("rr", ("a\n", "d\n", "a\n"), (0.1, 0.2, 0.6), (True, True, True), True),
    ValueExample("rr", ("a\n", "e\n"), (None, 0.1), (None, False), True),
]


@pytest.fixture
def parent(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(make_policy(), tmp_path / "parent")
    return tmp_path / "parent"


@pytest.fixture
def value_parent(make_value_model: Callable[..., LoadedModel], tmp_path: Path) -> Callable[[ValueObjective], Path]:
    def make(objective: ValueObjective) -> Path:
        path = tmp_path / f"value-{objective}"
        save_checkpoint(
            replace(make_value_model(), value_scale="identity" if gives_values(objective) else "logit"), path
        )
        return path

    return make


@torch.inference_mode()
def log_prob_by_hand(
    loaded: LoadedModel, example: PreferenceExample, steps: tuple[str, ...], finished: bool
) -> torch.Tensor:
    prompt = loaded.tokenizer(example.question + "\n" + "".join(example.steps))["input_ids"]
    ids = prompt + loaded.tokenizer("".join(steps))["input_ids"] + [loaded.tokenizer.eos_token_id] * finished
    table = torch.log_softmax(loaded.model(torch.tensor([ids])).logits[0], -1)
    return torch.stack([table[place - 1, ids[place]] for place in range(len(prompt), len(ids))]).sum()


def preference_loss_by_hand(policy: LoadedModel, reference: LoadedModel, beta: float) -> float:
    losses = []
    for one in PREFERENCES:
        sides = ((one.chosen, one.chosen_finished), (one.rejected, one.rejected_finished))
        gains = [log_prob_by_hand(policy, one, *side) - log_prob_by_hand(reference, one, *side) for side in sides]
        losses.append(-float(logsigmoid(beta * (gains[0] - gains[1]))))
    return sum(losses) / len(losses)


def test_the_preference_loss_is_that_of_the_paper(parent: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, dpo_beta=0.3, num_steps=2, batch_size=4, gradient_accumulation=2)
    seen: list[float] = []
    attempt = Attempt(on_progress=lambda step, total, loss: seen.append(loss) if loss is not None else None)
    report = train_preferences(parent, PREFERENCES, settings, tmp_path / "two", attempt)
    train_preferences(parent, PREFERENCES, replace(settings, num_steps=1), tmp_path / "one")
    assert report.first_loss == pytest.approx(0.693147, abs=1e-5)
    assert report.num_targets == 6
    by_hand = preference_loss_by_hand(load_policy(tmp_path / "one"), load_policy(parent), 0.3)
    assert seen[1] == pytest.approx(by_hand, abs=1e-4) and by_hand < 0.69


def test_preferences_raise_the_chosen_side(parent: Path, tmp_path: Path) -> None:
    report = train_preferences(parent, PREFERENCES, replace(SETTINGS, num_steps=20), tmp_path / "out")
    assert report.last_loss < 0.3
    assert preference_loss_by_hand(load_policy(tmp_path / "out"), load_policy(parent), 0.1) < 0.3


@torch.inference_mode()
def value_loss_by_hand(loaded: LoadedModel, objective: ValueObjective) -> float:
    def output(example: ValueExample, number: int) -> torch.Tensor:
        ids = loaded.tokenizer(example.question + "\n" + "".join(example.steps[:number]))["input_ids"]
        hidden = loaded.model.base_model(torch.tensor([ids])).last_hidden_state[0, -1]
        value: torch.Tensor = loaded.model.score(hidden)[0]
        return value

    losses = []
    if objective == "ranking":
        for (i, n), (j, m) in sibling_pairs(VALUES):
            losses.append(-float(logsigmoid(output(VALUES[i], n) - output(VALUES[j], m))))
    if objective == "siblings":
        for (i, n), (j, m) in sibling_pairs(VALUES):
            losses.append(-0.05 * float(logsigmoid(10 * (output(VALUES[i], n) - output(VALUES[j], m)))))
    if objective == "progress":
        # That of a shared step stands in an earlier path.
        for place, number, before, after in (
            (0, 2, 0.75, 1.0),
            (1, 2, 0.75, 0.5),
            (3, 2, 0.1, 0.2),
            (3, 3, 0.2, 0.6),
            (4, 2, 0.1, 0.1),
        ):
            gain = output(VALUES[place], number) - output(VALUES[place], number - 1)
            losses.append(float((gain - (after - before)) ** 2))
    for example in VALUES:
        for number, (value, right) in enumerate(zip(example.targets, example.leads_to_right, strict=True), start=1):
            if value is None or right is None:
                continue
            own = output(example, number)
            if gives_values(objective):
                losses.append(float((own - value) ** 2))
            elif objective in ("soft", "hard") or (
                objective == "orm" and example.finished and number == len(example.steps)
            ):
                target = value if objective == "soft" else float(right)
                losses.append(-float(target * logsigmoid(own) + (1 - target) * logsigmoid(-own)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("objective", ["mse", "soft", "hard", "orm", "ranking", "siblings", "progress"])
def test_a_value_loss_is_the_mean_over_what_its_objective_asks(
    value_parent: Any, tmp_path: Path, objective: ValueObjective, packing: bool
) -> None:
    path = value_parent(objective)
    report = train_value(path, VALUES, replace(SETTINGS, packing=packing), tmp_path / "out", objective=objective)
    assert report.first_loss == pytest.approx(value_loss_by_hand(load_value_model(path), objective), abs=1e-5)
    num_targets = {"mse": 8, "soft": 8, "hard": 8, "orm": 4, "ranking": 3, "siblings": 11, "progress": 13}
    assert report.num_targets == num_targets[objective]


def test_siblings_are_steps_after_the_same_steps_of_the_same_question() -> None:
    pairs = [(VALUES[i].steps[:n], VALUES[j].steps[:m]) for (i, n), (j, m) in sibling_pairs(VALUES)]
    assert pairs == [(("a\n",), ("dd\n",)), (("a\n", "b\n"), ("a\n", "ccc\n")), (("a\n", "d\n"), ("a\n", "e\n"))]


@pytest.mark.parametrize("objective", ["siblings", "progress"])
def test_the_order_of_siblings_is_learnt_beside_their_values(
    parent: Path, tmp_path: Path, objective: ValueObjective
) -> None:
    settings = replace(SETTINGS, num_steps=40, validation_share=0.0)
    report = train_value(parent, VALUES, settings, tmp_path / "out", objective=objective)
    assert report.last_loss < 0.3 * report.first_loss
    reader = ValueReader(load_value_model(tmp_path / "out"), raw=True)
    metrics = value_metrics(reader, VALUES, objective)
    assert metrics["sibling_accuracy"] == 1.0 and metrics["mse"] < 0.03
    assert metrics["loss"] == pytest.approx(value_loss_by_hand(load_value_model(tmp_path / "out"), objective), abs=1e-5)


@pytest.mark.parametrize("objective", ["soft", "hard", "orm", "ranking"])
def test_log_odds_are_read_as_values(parent: Path, tmp_path: Path, objective: ValueObjective) -> None:
    train_value(parent, VALUES, replace(SETTINGS, num_steps=30), tmp_path / "out", objective=objective)
    scorer = TransformersScorer(load_value_model(tmp_path / "out"))
    (answer,) = scorer.score(["q"], [ScoreSteps(0, (), (("a\n", "b\n"), ("a\n", "ccc\n")))])
    assert answer.values[0][1] > 0.7 > 0.5 > answer.values[1][1] or objective == "soft"
    assert answer.values[0][1] > answer.values[1][1]


def test_a_head_of_another_objective_is_not_trained_on(parent: Path, tmp_path: Path) -> None:
    train_value(parent, VALUES, SETTINGS, tmp_path / "regression")
    with pytest.raises(TrainingError, match="gives identity, the objective hard wants logit"):
        train_value(tmp_path / "regression", VALUES, SETTINGS, tmp_path / "out", objective="hard")
