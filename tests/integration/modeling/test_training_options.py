"""How a model is trained besides its loss: memory, adapters, precision, packing, held-out
problems, event files.
"""

import itertools
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.learning.losses import LikelihoodLoss
from restmcts.domain.runs import training_settings
from restmcts.domain.runs.training_settings import ADAPTER_RANK, TrainingSettings
from restmcts.errors import InputError, TrainingError
from restmcts.modeling.checkpoints import LoadedModel, load_policy, load_value_model, save_checkpoint
from restmcts.modeling.training import training
from restmcts.modeling.training.lora import trained_model
from restmcts.modeling.training.path_training import PathExample
from restmcts.modeling.training.training import train_paths, train_policy, train_preferences, train_value
from restmcts.modeling.training.training_loop import Attempt, StepLoop, training_arguments
from restmcts.modeling.training.training_rows import PolicyExample, PreferenceExample, ValueExample
from restmcts.modeling.training.value_training import split_by_problem
from restmcts.modeling.value.value_metrics import calibration_error, value_metrics
from restmcts.modeling.value.value_reading import ValueReader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import BertConfig, BertForMaskedLM, LlamaModel, PreTrainedTokenizerFast, TrainingArguments

SETTINGS = TrainingSettings(num_steps=3, batch_size=8, learning_rate=1e-2, schedule="constant", warmup_ratio=0.0)
EXAMPLES = [PolicyExample("ab"[: 1 + i % 2], ("cd\n", "e" * (1 + i % 3) + "\n")[: 1 + i % 2]) for i in range(8)]
PATHS = [PathExample("a", ("c\n",), (1.0,), True)]
PREFERENCES = [PreferenceExample("a", (), ("c\n",), ("d" * (1 + i) + "\n",), False, False) for i in range(6)]
VALUES = [
    ValueExample(question, (first, "b\n"), (high, high), (high > 0.5, high > 0.5), True)
    for question in ("q", "r", "s", "t", "u", "v", "w", "x")
    for first, high in (("a\n", 0.9), ("c\n", 0.1))
]


@pytest.fixture
def parent(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(make_policy(), tmp_path / "parent")
    return tmp_path / "parent"


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_policy(path).model.state_dict())


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture
def limit_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a real model's forward pass run out of memory above so many rows."""
    forward = LlamaModel.forward

    def limit(num_rows: int) -> None:
        def limited(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
            states = forward(self, input_ids, **options)
            if len(input_ids) > num_rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return states

        monkeypatch.setattr(LlamaModel, "forward", limited)

    return limit


@pytest.mark.parametrize("kind", ["policy", "preferences", "value"])
def test_out_of_memory_halves_the_forward_pass_and_keeps_the_step(
    parent: Path, tmp_path: Path, limit_memory: Callable[[int], None], kind: str
) -> None:
    run: Any = {"policy": train_policy, "preferences": train_preferences, "value": train_value}[kind]
    examples = {"policy": EXAMPLES, "preferences": PREFERENCES, "value": VALUES}[kind]
    settings = replace(SETTINGS, num_steps=1, gradient_accumulation=2)
    enough = run(parent, examples, settings, tmp_path / "enough")
    limit_memory(4)
    reported: list[int] = []
    scarce = run(parent, examples, settings, tmp_path / "scarce", Attempt(on_smaller=reported.append))
    # A pair is two rows.
    assert (enough.micro_batch, reported, scarce.micro_batch) == (
        (8, [4, 2], 2) if kind == "preferences" else (8, [4], 4)
    )
    assert scarce.first_loss == pytest.approx(enough.first_loss, abs=1e-5)
    load = load_value_model if kind == "value" else load_policy
    first, second = (dict(load(tmp_path / name).model.state_dict()) for name in ("enough", "scarce"))
    assert largest_difference(first, second) < 2e-3


def test_out_of_memory_for_a_single_example_is_one_line(parent: Path, tmp_path: Path, limit_memory: Any) -> None:
    limit_memory(0)
    with pytest.raises(TrainingError, match="out of memory with 1 examples in a forward pass; give shorter") as caught:
        train_policy(parent, EXAMPLES, SETTINGS, tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_state_that_cannot_be_saved_is_one_line(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    attempt = Attempt(folder=tmp_path / "job", on_saved=lambda *_: None)
    with pytest.raises(TrainingError, match=r"cannot be saved: .*No space left on device"):
        train_policy(parent, EXAMPLES, replace(SETTINGS, save_seconds=0.0), tmp_path / "out", attempt)


@pytest.mark.parametrize("change", [{"packing": True}, {"gradient_checkpointing": True}])
def test_what_saves_time_or_memory_changes_no_weight(parent: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    plain = train_policy(parent, EXAMPLES, SETTINGS, tmp_path / "plain")
    other = train_policy(parent, EXAMPLES, replace(SETTINGS, **change), tmp_path / "other")
    assert other.first_loss == pytest.approx(plain.first_loss, abs=1e-5)
    assert largest_difference(weights(tmp_path / "plain"), weights(tmp_path / "other")) < 2e-3


def test_bfloat16_is_of_the_passes_alone(parent: Path, tmp_path: Path) -> None:
    plain = train_policy(parent, EXAMPLES, SETTINGS, tmp_path / "plain")
    other = train_policy(parent, EXAMPLES, replace(SETTINGS, precision="bfloat16"), tmp_path / "other")
    assert other.first_loss == pytest.approx(plain.first_loss, abs=0.05) and other.first_loss != plain.first_loss
    assert {tensor.dtype for tensor in weights(tmp_path / "other").values()} == {torch.float32}


@pytest.mark.parametrize(
    ("precision", "is_quick", "change", "attention"),
    [
        ("float32", True, {}, "sdpa"),
        ("bfloat16", False, {}, "eager"),
        ("auto", True, {}, "eager"),
        ("auto", False, {}, "sdpa"),
        ("auto", True, {"packing": True, "batch_size": 256}, "sdpa"),
    ],
)
def test_short_rows_in_half_precision_take_plain_attention_on_a_cpu(
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Any,
    is_quick: bool,
    change: dict[str, Any],
    attention: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": is_quick})
    found: list[str] = []

    def noted(loaded: LoadedModel, settings: TrainingSettings) -> Any:
        found.append(loaded.model.config._attn_implementation)
        return trained_model(loaded, settings)

    monkeypatch.setattr(training, "trained_model", noted)
    settings = replace(SETTINGS, num_steps=1, precision=precision, **change)
    train_policy(parent, EXAMPLES, settings, tmp_path / "policy")
    train_value(parent, VALUES, settings, tmp_path / "value")
    assert found == [attention, attention]
    assert load_policy(tmp_path / "policy").model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("is_large", [True, False])
@pytest.mark.parametrize("kind", ["policy", "preferences", "value"])
def test_adapters_are_merged_into_a_plain_checkpoint(
    parent: Path, tmp_path: Path, kind: str, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model has them without being asked."""
    if is_large:
        monkeypatch.setattr(training_settings, "LARGE_MODEL", 0)
    settings = replace(SETTINGS, lora_rank=None if is_large else 4, num_steps=20)
    if kind == "value":
        report = train_value(parent, VALUES, settings, tmp_path / "out")
        trained = dict(load_value_model(tmp_path / "out").model.state_dict())
        assert trained["score.weight"].abs().max() > 0
    else:
        run: Any = train_policy if kind == "policy" else train_preferences
        report = run(parent, EXAMPLES if kind == "policy" else PREFERENCES, settings, tmp_path / "out")
        trained = weights(tmp_path / "out")
    assert report.last_loss < 0.8 * report.first_loss
    assert report.lora_rank == (ADAPTER_RANK if is_large else 4)
    before = weights(parent)
    moved = {name for name in before if name in trained and not torch.equal(before[name], trained[name])}
    assert moved == {name for name in before if name.endswith("proj.weight")}


def test_an_encoder_may_be_the_trunk(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    report = train_value(
        tmp_path / "bert",
        VALUES,
        replace(SETTINGS, num_steps=60, learning_rate=2e-3),
        tmp_path / "out",
        objective="hard",
    )
    assert report.last_loss < 0.5 * report.first_loss


HEAD = replace(SETTINGS, trainable="head", num_steps=20, optimizer="muon", learning_rate=0.1)


def trunk_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_value_model(path).model.base_model.state_dict())


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_head_is_trained_and_its_trunk_kept_bit_by_bit(
    make_policy: Callable[..., LoadedModel], tmp_path: Path, stored: torch.dtype
) -> None:
    """Dropout would show in what the head learns."""
    loaded = make_policy(attention_dropout=0.5)
    loaded.model.to(stored)
    save_checkpoint(loaded, tmp_path / "parent")
    before = {
        name: one.to(stored) for name, one in load_policy(tmp_path / "parent").model.base_model.state_dict().items()
    }
    asked: list[bool] = []
    forward = LlamaModel.forward

    def noting(self: Any, *arguments: Any, **named: Any) -> Any:
        states = forward(self, *arguments, **named)
        if torch.is_grad_enabled():
            asked.append(states.last_hidden_state.requires_grad or self.training)
        return states

    LlamaModel.forward = noting
    try:
        report = train_value(tmp_path / "parent", VALUES, HEAD, tmp_path / "head")
    finally:
        LlamaModel.forward = forward
    assert len(asked) == 20 and not any(asked), "nothing is kept of the trunk, and it has no dropout"
    assert report.last_loss < 0.8 * report.first_loss
    after = trunk_of(tmp_path / "head")
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name].to(stored), before[name]) for name in before)
    train_value(tmp_path / "head", VALUES, replace(HEAD, num_steps=1), tmp_path / "again")
    assert all(torch.equal(one, trunk_of(tmp_path / "again")[name]) for name, one in after.items())
    heads = [load_value_model(tmp_path / name).model.score.weight for name in ("head", "again")]
    assert heads[0].abs().max() > 0 and not torch.equal(*heads)


def test_a_head_is_resumed_with_its_own_state_alone(parent: Path, tmp_path: Path) -> None:
    saved: dict[int, Path] = {}

    def keep(step: int, folder: Path) -> None:
        saved[step] = Path(shutil.copytree(folder, tmp_path / f"saved-{step}"))

    settings = replace(HEAD, validation_share=0.5, patience=9, evaluate_steps=3, save_seconds=0.0)
    train_value(parent, VALUES, settings, tmp_path / "straight", Attempt(folder=tmp_path / "job", on_saved=keep))
    optimizer = torch.load(saved[7] / "optimizer.pt", weights_only=True)
    assert len(optimizer["state"]) == 1 and optimizer["state"][0]["exp_avg"].shape == (1, 32)
    train_value(parent, VALUES, settings, tmp_path / "resumed", Attempt(resume_from=saved[7]))
    first, second = (dict(load_value_model(tmp_path / name).model.state_dict()) for name in ("straight", "resumed"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_policy_has_no_head_to_train_alone(parent: Path, tmp_path: Path) -> None:
    runs: list[Callable[[], object]] = [
        lambda: train_policy(parent, EXAMPLES, HEAD, tmp_path / "out"),
        lambda: train_preferences(parent, PREFERENCES, HEAD, tmp_path / "out"),
        lambda: train_paths(parent, PATHS, LikelihoodLoss(), HEAD, tmp_path / "out"),
    ]
    for run in runs:
        with pytest.raises(TrainingError, match="trainable = head is for value models"):
            run()
    assert not (tmp_path / "out").exists()


def test_held_out_problems_are_never_learnt_from_and_always_the_same() -> None:
    learnt, held_out = split_by_problem(VALUES, 0.5)
    assert {e.question for e in learnt}.isdisjoint(e.question for e in held_out) and learnt and held_out
    assert sorted(learnt + held_out, key=VALUES.index) == VALUES
    fewer, _ = split_by_problem([e for e in VALUES if e.question != "q"], 0.5)
    assert fewer == [e for e in learnt if e.question != "q"]
    assert split_by_problem(VALUES, 0.0) == (VALUES, [])


def test_held_out_figures_are_told_of_before_and_after(parent: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, validation_share=0.5, num_steps=40)
    report = train_value(parent, VALUES, settings, tmp_path / "out", objective="hard")
    assert report.held_out_before["auc"] == 0.5 and report.held_out["auc"] > 0.9
    assert report.held_out_before["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert report.held_out["sibling_accuracy"] > 0.9 and report.held_out["calibration_error"] < 0.3
    assert report.held_out["num_steps"] == 2 * len(split_by_problem(VALUES, 0.5)[1])


def test_training_stops_when_held_out_problems_say_so_and_keeps_the_best(parent: Path, tmp_path: Path) -> None:
    # What is held out is labelled the other way round: the longer the training, the worse.
    learnt, held_out = split_by_problem(VALUES, 0.5)
    opposite = [replace(e, leads_to_right=tuple(not right for right in e.leads_to_right)) for e in held_out]
    settings = replace(SETTINGS, validation_share=0.5, num_steps=60, evaluate_steps=2, patience=3)
    report = train_value(parent, learnt + opposite, settings, tmp_path / "out", objective="hard")
    assert report.num_steps <= 10
    saved = value_metrics(ValueReader(load_value_model(tmp_path / "out"), raw=True), opposite, "hard")
    assert saved["loss"] == pytest.approx(report.held_out["loss"], abs=1e-5) and saved["loss"] < 1.5


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    reported = [(0.05, False), (0.05, True), (0.95, True), (0.95, True), (1.0, False)]
    assert calibration_error(reported) == pytest.approx((2 * abs(0.5 - 0.05) + 3 * abs(2 / 3 - 2.9 / 3)) / 5)


def test_losses_and_figures_are_in_the_event_files(parent: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, validation_share=0.5, evaluate_steps=1, patience=5)
    report = train_value(
        parent, VALUES, settings, tmp_path / "out", Attempt(log_folder=tmp_path / "log"), objective="hard"
    )
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert events.Scalars("train/loss")[0].value == pytest.approx(report.first_loss)
    assert [(event.step, pytest.approx(event.value)) for event in events.Scalars("train/loss")] == report.losses
    assert len(events.Scalars("eval/auc")) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"dpo_beta": 0.0},
        {"patience": 2},
        {"validation_share": 1.0},
        {"save_seconds": -1.0},
        {"trainable": "head", "lora_rank": 4},
        {"trainable": "head", "gradient_checkpointing": True},
    ],
)
def test_settings_that_cannot_be_are_bad_input(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SETTINGS, **change)


def scheduled_rates(settings: TrainingSettings, folder: Path) -> list[float]:
    """Return the learning rate of each step, by the schedule alone."""
    loop = StepLoop()
    loop.args = TrainingArguments(**training_arguments(EXAMPLES, settings, str(folder), Attempt()))
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    scheduler = loop.create_scheduler(settings.num_steps, optimizer)
    rates = []
    for _ in range(settings.num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_every_step_learns_and_the_warmup_ends_at_the_peak(tmp_path: Path, schedule: Any) -> None:
    for num_steps, warmup_ratio in itertools.product((1, 2, 7), (0.0, 0.03, 0.5)):
        changes = {"num_steps": num_steps, "warmup_ratio": warmup_ratio, "schedule": schedule}
        rates = scheduled_rates(replace(SETTINGS, learning_rate=1e-3, **changes), tmp_path)
        assert len(rates) == num_steps and min(rates) > 0
        num_warmup = math.ceil(warmup_ratio * num_steps)
        assert rates[max(num_warmup - 1, 0)] == max(rates) == pytest.approx(1e-3)
        assert rates[:num_warmup] == sorted(rates[:num_warmup])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_steps_of_a_training_have_the_rates_of_its_schedule(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: Any
) -> None:
    settings = replace(SETTINGS, num_steps=4, warmup_ratio=0.5, schedule=schedule)
    expected = scheduled_rates(settings, tmp_path)
    rates: list[float] = []
    take_step = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: Any = None) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return take_step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train_policy(parent, EXAMPLES, settings, tmp_path / "out")
    assert rates == expected


def test_a_training_of_one_step_changes_weights(parent: Path, tmp_path: Path) -> None:
    train_policy(parent, EXAMPLES, replace(SETTINGS, num_steps=1), tmp_path / "out")
    before, after = weights(parent), weights(tmp_path / "out")
    assert any(not torch.equal(before[name], after[name]) for name in before)
