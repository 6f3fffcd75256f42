"""Half precision for use, float32 for training: what is stored, what is read, and what the machine
can do.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from restmcts.domain.requests import GenerationSettings, ProposeSteps
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import InputError
from restmcts.modeling import devices
from restmcts.modeling.checkpoints import LoadedModel, load_policy, load_value_model, new_value_model, save_checkpoint
from restmcts.modeling.devices import chosen_device, chosen_dtype
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.training.training import train_policy, train_value
from restmcts.modeling.training.training_rows import PolicyExample, ValueExample
from transformers import AutoModelForCausalLM

CPU = torch.device("cpu")
EXAMPLES = [PolicyExample("abc", ("de\n", "f\n"))] * 4
SETTINGS = TrainingSettings(num_steps=3, batch_size=2, learning_rate=1e-5, optimizer="adamw", seed=0)


@pytest.fixture
def half(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    """A checkpoint as they come from the hub: its weights in bfloat16."""
    loaded = make_policy()
    loaded.model.to(torch.bfloat16)
    save_checkpoint(loaded, tmp_path / "half")
    return tmp_path / "half"


def weights(loaded: LoadedModel) -> torch.Tensor:
    return torch.cat([tensor.detach().float().flatten() for tensor in loaded.model.state_dict().values()])


def test_what_is_trained_from_half_precision_is_used_in_it_and_trained_on_in_float32(
    half: Path, tmp_path: Path
) -> None:
    train_policy(half, EXAMPLES, SETTINGS, tmp_path / "one")
    used, master = load_policy(tmp_path / "one", dtype="bfloat16"), load_policy(tmp_path / "one", dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "one", dtype="auto")
    assert plain.dtype == used.model.dtype == torch.bfloat16 and master.model.dtype == torch.float32
    assert torch.equal(weights(used), weights(master).bfloat16().float()), "the weights in use are the masters, rounded"
    assert not torch.equal(weights(used), weights(master)), "a step is smaller than half precision can tell"


def test_small_steps_add_up_over_trainings(half: Path, tmp_path: Path) -> None:
    begin = weights(load_policy(half, dtype="float32"))
    train_policy(half, EXAMPLES, SETTINGS, tmp_path / "one")
    train_policy(tmp_path / "one", EXAMPLES, SETTINGS, tmp_path / "two")
    one, two = (weights(load_policy(tmp_path / name, dtype="float32")) for name in ("one", "two"))
    moved, further = (one - begin).abs().sum(), (two - begin).abs().sum()
    assert further > 1.5 * moved > 0


def test_a_value_model_on_a_policy_in_half_precision_is_used_in_it(half: Path, tmp_path: Path) -> None:
    examples = [ValueExample("abc", ("de\n",), (target,)) for target in (0.0, 1.0)]
    train_value(half, examples, SETTINGS, tmp_path / "value")
    used, master = (load_value_model(tmp_path / "value", dtype=dtype) for dtype in ("bfloat16", "float32"))
    assert torch.equal(weights(used), weights(master).bfloat16().float())
    save_checkpoint(new_value_model(half, seed=0), tmp_path / "first")
    assert load_value_model(tmp_path / "first", dtype="float32").inference_dtype == torch.bfloat16


def test_float32_checkpoints_stay_what_they_are(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> None:
    save_checkpoint(make_policy(), tmp_path / "parent")
    train_policy(tmp_path / "parent", EXAMPLES, SETTINGS, tmp_path / "out")
    assert load_policy(tmp_path / "out").model.dtype == torch.float32
    assert not (tmp_path / "out" / "master").exists()


def test_bfloat16_samples_and_tells_log_probabilities(half: Path) -> None:
    answers = [
        TransformersProposer(load_policy(half, dtype=dtype)).propose(
            ["abc"], [ProposeSteps(0, (), 1, 2, seed=1, greedy=True)], GenerationSettings(max_step_tokens=6)
        )
        for dtype in ("bfloat16", "float32")
    ]
    halves, singles = (answer[0].samples[0].steps[0] for answer in answers)
    assert halves.log_prob == pytest.approx(singles.log_prob, rel=0.2)


@pytest.mark.parametrize(
    ("name", "stored", "can", "expected"),
    [
        ("auto", torch.bfloat16, {"avx512_bf16": True}, torch.bfloat16),
        ("auto", torch.bfloat16, {"amx_bf16": True}, torch.bfloat16),
        ("auto", torch.bfloat16, {}, torch.float32),
        ("auto", torch.float16, {"avx512_bf16": True}, torch.float32),
        ("auto", torch.float32, {"avx512_bf16": True}, torch.float32),
        ("bfloat16", torch.float32, {}, torch.bfloat16),
        ("float32", torch.bfloat16, {"avx512_bf16": True}, torch.float32),
    ],
)
def test_auto_is_the_stored_type_where_the_machine_is_quick_in_it(
    monkeypatch: pytest.MonkeyPatch, name: str, stored: torch.dtype, can: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(devices.torch.cpu, "get_capabilities", lambda: can)
    assert chosen_dtype(name, stored, CPU) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [("cuda:99", "choose auto or cpu"), ("gpu", "choose auto, cpu, cuda"), ("cuda:x", "choose auto, cpu, cuda")],
)
def test_a_device_that_is_not_there_is_one_line(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        chosen_device(name)


def test_the_device_is_chosen_and_shown(half: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with caplog.at_level("INFO", logger="restmcts"):
        load_policy(half, device="cpu", dtype="bfloat16")
    assert "half: bfloat16 on cpu" in caplog.text
    with pytest.raises(InputError, match="choose one of auto, float32, bfloat16"):
        load_policy(half, dtype="int4")  # type: ignore[arg-type]
