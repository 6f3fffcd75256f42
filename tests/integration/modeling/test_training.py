"""Training: which positions count, that nothing else does, and that the same inputs give the
same weights.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import InputError, ModelError, TrainingError
from restmcts.modeling import checkpoints
from restmcts.modeling.checkpoints import LoadedModel, load_policy, load_value_model, new_value_model, save_checkpoint
from restmcts.modeling.training.training import train_policy, train_value
from restmcts.modeling.training.training_loop import Attempt
from restmcts.modeling.training.training_rows import PolicyExample, ValueExample
from restmcts.modeling.value.value_model import TransformersScorer

SETTINGS = TrainingSettings(num_steps=3, batch_size=4, learning_rate=1e-2, schedule="constant", warmup_ratio=0.0)
POLICY_EXAMPLES = [PolicyExample("ab"[: 1 + i % 2], ("cd\n", "e" * (1 + i % 3) + "\n")[: 1 + i % 2]) for i in range(8)]
VALUE_EXAMPLES = [
    ValueExample("q" * (1 + i % 3), ("cd\n", "efg\n"), ((i % 4) / 4, None if i % 2 else 0.9)) for i in range(8)
]


@pytest.fixture
def parent(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(make_policy(), tmp_path / "parent")
    return tmp_path / "parent"


def weights(path: Path) -> dict[str, torch.Tensor]:
    is_value = checkpoints.checkpoint_kind(path) == "value"
    return dict((load_value_model(path) if is_value else load_policy(path)).model.state_dict())


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert first.keys() == second.keys()
    assert max(float((first[name] - second[name]).abs().max()) for name in first) <= tolerance


def policy_loss_by_hand(path: Path, examples: list[PolicyExample]) -> float:
    """Return the mean over all tokens of all solutions, end token included, one example at a
    time.
    """
    loaded = load_policy(path)
    losses = []
    for example in examples:
        prompt = loaded.tokenizer(example.question + "\n")["input_ids"]
        ids = prompt + loaded.tokenizer("".join(example.steps))["input_ids"] + [loaded.tokenizer.eos_token_id]
        with torch.inference_mode():
            table = torch.log_softmax(loaded.model(torch.tensor([ids])).logits[0], -1)
        losses += [-float(table[place - 1, ids[place]]) for place in range(len(prompt), len(ids))]
    return sum(losses) / len(losses)


def value_loss_by_hand(path: Path, examples: list[ValueExample]) -> float:
    loaded = new_value_model(path, seed=0)
    losses = []
    for example in examples:
        request = ScoreSteps(0, (), (example.steps,))
        values = TransformersScorer(loaded).score([example.question], [request])[0].values[0]
        losses += [(v - t) ** 2 for v, t in zip(values, example.targets, strict=True) if t is not None]
    return sum(losses) / len(losses)


def test_the_policys_loss_is_the_mean_over_the_solutions_tokens(parent: Path, tmp_path: Path) -> None:
    report = train_policy(parent, POLICY_EXAMPLES, replace(SETTINGS, num_steps=1, batch_size=8), tmp_path / "out")
    assert report.first_loss == pytest.approx(policy_loss_by_hand(parent, POLICY_EXAMPLES), abs=1e-5)
    assert report.num_targets == sum(len("".join(example.steps)) + 1 for example in POLICY_EXAMPLES)
    assert report.num_examples == 8 and report.num_dropped == 0 and report.num_steps == 1


def test_the_values_loss_is_the_mean_over_the_steps_with_targets(parent: Path, tmp_path: Path) -> None:
    report = train_value(parent, VALUE_EXAMPLES, replace(SETTINGS, num_steps=1, batch_size=8), tmp_path / "out")
    assert report.first_loss == pytest.approx(value_loss_by_hand(parent, VALUE_EXAMPLES), abs=1e-5)
    assert report.num_targets == 12


@pytest.mark.parametrize("train", ["policy", "value"])
def test_how_a_step_is_spread_over_batches_changes_nothing(parent: Path, tmp_path: Path, train: str) -> None:
    run: Any = train_policy if train == "policy" else train_value
    examples = POLICY_EXAMPLES if train == "policy" else VALUE_EXAMPLES
    reports = [
        run(
            parent,
            examples,
            replace(SETTINGS, batch_size=8 // parts, gradient_accumulation=parts),
            tmp_path / f"out{parts}",
        )
        for parts in (1, 2, 8)
    ]
    for parts, report in zip((2, 8), reports[1:], strict=True):
        assert report.first_loss == pytest.approx(reports[0].first_loss, abs=1e-5)
        assert_equal(weights(tmp_path / "out1"), weights(tmp_path / f"out{parts}"), tolerance=2e-3)


def test_the_question_is_not_trained_on(parent: Path, tmp_path: Path) -> None:
    one = train_policy(parent, [PolicyExample("ab", ("c\n",))], replace(SETTINGS, num_steps=1), tmp_path / "one")
    assert one.num_targets == 3


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_same_inputs_give_the_same_weights(parent: Path, tmp_path: Path, optimizer: Any) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, num_steps=5, batch_size=3)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name))
        train_policy(parent, POLICY_EXAMPLES, replace(settings, seed=seed), tmp_path / name)
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    with pytest.raises(AssertionError):
        assert_equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_a_policy_learns_what_it_is_shown(parent: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float | None]] = []
    settings = replace(SETTINGS, num_steps=60, optimizer="muon", muon_learning_rate=0.02, schedule="cosine")
    attempt = Attempt(on_progress=lambda step, total, loss: seen.append((step, total, loss)))
    report = train_policy(parent, POLICY_EXAMPLES, settings, tmp_path / "out", attempt)
    assert report.last_loss < 0.3 * report.first_loss
    assert seen[-1][:2] == (60, 60) and seen[-1][2] == report.last_loss


def test_a_value_model_learns_from_a_policy_and_goes_on_from_itself(parent: Path, tmp_path: Path) -> None:
    examples = [ValueExample(q, ("a\n", "b\n"), (0.2, 0.8)) for q in ("q", "r")]
    first = train_value(parent, examples, replace(SETTINGS, num_steps=60), tmp_path / "v0")
    second = train_value(tmp_path / "v0", examples, replace(SETTINGS, num_steps=2, learning_rate=1e-5), tmp_path / "v1")
    assert second.first_loss < 0.2 * first.first_loss
    (answer,) = TransformersScorer(load_value_model(tmp_path / "v0")).score(
        ["q"], [ScoreSteps(0, (), (("a\n", "b\n"),))]
    )
    assert answer.values[0] == pytest.approx((0.2, 0.8), abs=0.1)


def test_long_examples_are_dropped_and_counted_never_cut(parent: Path, tmp_path: Path) -> None:
    examples = [*POLICY_EXAMPLES, PolicyExample("a", ("b" * 40 + "\n",))]
    report = train_policy(parent, examples, replace(SETTINGS, max_length=20), tmp_path / "out")
    assert (report.num_examples, report.num_dropped) == (8, 1)


def test_epochs_count_where_no_steps_are_given(parent: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, num_steps=None, num_epochs=2, batch_size=3)
    assert train_policy(parent, POLICY_EXAMPLES, settings, tmp_path / "out").num_steps == 6


@pytest.mark.parametrize(
    ("examples", "settings"),
    [
        ([], SETTINGS),
        (POLICY_EXAMPLES, replace(SETTINGS, max_length=2)),
        ([PolicyExample("a", ())], replace(SETTINGS, max_length=1)),
    ],
)
def test_nothing_to_train_on_is_an_error(
    parent: Path, tmp_path: Path, examples: Any, settings: TrainingSettings
) -> None:
    with pytest.raises(TrainingError, match="can be used"):
        train_policy(parent, examples, settings, tmp_path / "out")
    with pytest.raises(TrainingError):
        train_value(parent, [ValueExample("q", ("a\n",), (None,))], SETTINGS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_no_number_is_an_error_and_leaves_no_checkpoint(parent: Path, tmp_path: Path) -> None:
    examples = [ValueExample("q", ("a\n",), (float("nan"),))]
    with pytest.raises(TrainingError, match="loss is nan at step 1 of 3"):
        train_value(parent, examples, SETTINGS, tmp_path / "out")
    assert [child.name for child in tmp_path.iterdir()] == ["parent"]


def test_a_full_disk_is_one_line_and_leaves_no_checkpoint(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(TrainingError, match="No space left on device") as caught:
        train_policy(parent, POLICY_EXAMPLES, SETTINGS, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [child.name for child in tmp_path.iterdir()] == ["parent"]


def test_a_checkpoint_is_not_trained_over(parent: Path) -> None:
    with pytest.raises(TrainingError, match="exists already"):
        train_policy(parent, POLICY_EXAMPLES, SETTINGS, parent)


def test_an_unknown_parent_is_a_model_error(tmp_path: Path) -> None:
    for train, examples in ((train_policy, POLICY_EXAMPLES), (train_value, VALUE_EXAMPLES)):
        run: Any = train
        with pytest.raises(ModelError, match="no such folder"):
            run(tmp_path / "nothing", examples, SETTINGS, tmp_path / "out")


@pytest.mark.parametrize("change", [{"num_steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"warmup_ratio": 1.0}])
def test_settings_that_cannot_be_are_bad_input(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SETTINGS, **change)
