"""Checkpoints come back as they were saved, and what cannot be loaded says so in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from restmcts.errors import ModelError, StorageError
from restmcts.modeling import checkpoints
from restmcts.modeling.checkpoints import (
    LoadedModel,
    checkpoint_kind,
    isolated_randomness,
    load_policy,
    load_value_model,
    new_value_model,
    save_checkpoint,
)
from restmcts.modeling.prompt_rendering import Template

MakePolicy = Callable[..., LoadedModel]


@pytest.fixture
def saved(make_policy: MakePolicy, tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    save_checkpoint(make_policy("llama-tied"), path)
    return path


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


def test_a_policy_comes_back_as_it_was_saved(saved: Path, make_policy: MakePolicy) -> None:
    loaded, original = load_policy(saved), make_policy("llama-tied")
    assert all(torch.equal(a, b) for a, b in zip(loaded.model.parameters(), original.model.parameters(), strict=True))
    assert loaded.prompts.template == Template.RAW
    assert loaded.tokenizer.get_vocab() == original.tokenizer.get_vocab()
    assert json.loads((saved / "restmcts.json").read_text()) == {
        "kind": "policy",
        "template": "raw",
        "step_separator": "\n",
        "value_scale": "identity",
    }
    assert loaded.model.config.get_text_config().pad_token_id == loaded.tokenizer.eos_token_id
    assert not loaded.model.training
    assert [child.name for child in saved.parent.iterdir()] == ["policy"]


def test_a_named_template_goes_before_the_saved_one(saved: Path) -> None:
    assert load_policy(saved, template="plain").prompts.template == Template.PLAIN


def test_a_folder_without_our_file_is_loaded_all_the_same(saved: Path) -> None:
    (saved / "restmcts.json").unlink()
    assert load_policy(saved).prompts.template == Template.PLAIN
    assert checkpoint_kind(saved) == "policy"


def test_a_new_value_model_has_the_policys_trunk_and_says_zero(saved: Path, tmp_path: Path) -> None:
    value, policy = new_value_model(saved, seed=3), load_policy(saved)
    trunks = zip(value.model.base_model.parameters(), policy.model.base_model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in trunks)
    assert not value.model.score.weight.any()
    save_checkpoint(value, tmp_path / "value")
    again = load_value_model(tmp_path / "value")
    assert again.model.config.num_labels == 1 and again.prompts.template == Template.RAW
    assert checkpoint_kind(tmp_path / "value") == "value"
    (tmp_path / "value" / "restmcts.json").unlink()
    assert checkpoint_kind(tmp_path / "value") == "value"


@pytest.mark.parametrize("puzzle", ["number-paths", "word-problems"])
def test_a_fresh_policy_is_decided_by_the_seed_in_its_name(puzzle: str) -> None:
    weights = [load_policy(f"{puzzle}:{seed}").model.state_dict() for seed in (0, 0, 1)]
    same, other = (all(torch.equal(weights[0][name], each[name]) for name in each) for each in weights[1:])
    assert same and not other
    assert load_policy(f"{puzzle}:0").prompts.template == "raw"
    with pytest.raises(ModelError, match="no such folder"):
        load_policy(f"{puzzle}:x")


def test_the_wrong_kind_is_refused(saved: Path, tmp_path: Path) -> None:
    save_checkpoint(new_value_model(saved, seed=0), tmp_path / "value")
    with pytest.raises(ModelError, match="a value model where a policy model is wanted"):
        load_policy(tmp_path / "value")
    with pytest.raises(ModelError, match="a policy model where a value model is wanted"):
        load_value_model(saved)
    (saved / "restmcts.json").unlink()
    with pytest.raises(ModelError, match=r"no value model \(score.weight missing\)"):
        load_value_model(saved)


@pytest.mark.parametrize("name", ["./nothing/here", "/nothing", "a/b/c", "white space"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(ModelError, match="there is no such folder; give") as caught:
        load_policy(name)
    one_line(caught)


def test_a_hub_id_that_cannot_be_had_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: HfApi, name: str, timeout: float) -> None:
        assert timeout <= 10
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(
        ModelError, match=r"some/model: no such folder, and the hub does not give it \(no route\)"
    ) as caught:
        load_policy("some/model")
    one_line(caught)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no-such-type"}'),
        ("config.json", None),
        ("model.safetensors", b"broken"),
        ("model.safetensors", None),
        ("tokenizer.json", b"{"),
        ("restmcts.json", b"{"),
        ("restmcts.json", b'{"kind": "cook", "template": "raw"}'),
        ("restmcts.json", b"[1]"),
    ],
)
def test_a_broken_folder_is_one_clear_line(saved: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (saved / file).unlink()
    else:
        (saved / file).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_policy(saved)
    assert one_line(caught).startswith(str(saved))


def test_pickled_weights_are_not_read(saved: Path) -> None:
    state = load_policy(saved).model.state_dict()
    (saved / "model.safetensors").unlink()
    torch.save(state, saved / "pytorch_model.bin")
    with pytest.raises(ModelError):
        load_policy(saved)


def test_missing_weights_are_not_made_up(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="weights are missing"):
        load_policy(saved)


def test_a_checkpoint_is_never_written_over(saved: Path, make_policy: MakePolicy) -> None:
    with pytest.raises(StorageError, match="exists already"):
        save_checkpoint(make_policy(), saved)


def test_a_full_disk_leaves_nothing_behind(
    make_policy: MakePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_policy()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loaded.tokenizer, "save_pretrained", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        save_checkpoint(loaded, tmp_path / "policy")
    one_line(caught)
    assert list(tmp_path.iterdir()) == []


def test_randomness_outside_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with isolated_randomness(1):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with checkpoints.isolated_randomness(1):
        assert torch.equal(torch.rand(2), inside)
