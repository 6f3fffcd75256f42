"""Attention in bfloat16 on a CPU is that of the library, to rounding."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from restmcts.modeling.checkpoints import LoadedModel, load_policy, save_checkpoint
from restmcts.modeling.decoding.forward import ModelForward
from restmcts.modeling.decoding.half_attention import use_half_attention

FAMILIES: dict[str, dict[str, int]] = {
    "llama": {},
    "gpt2": {"n_positions": 256},
    "qwen2": {},
    "gemma": {},
    "mistral": {"sliding_window": 80},
    "gpt_neox": {},
}
LENGTHS = (150, 90, 1)


@pytest.fixture
def make_half(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Callable[[str], LoadedModel]:
    def make(family: str) -> LoadedModel:
        save_checkpoint(make_policy(family, **FAMILIES[family]), tmp_path / family)
        return load_policy(tmp_path / family, dtype="bfloat16", device="cpu")

    return make


def padded(lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 30, (len(lengths), max(lengths)), generator=generator)
    mask = torch.stack([(torch.arange(max(lengths)) >= max(lengths) - length).long() for length in lengths])
    return ids, mask


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_and_new_tokens_have_the_librarys_logits(make_half: Callable[[str], LoadedModel], family: str) -> None:
    loaded = make_half(family)
    ids, mask = padded(LENGTHS)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)

    def logits() -> torch.Tensor:
        """Of the texts in one pass, and of their last token behind the others, `[2, rows, V]`."""
        with torch.inference_mode():
            whole = loaded.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1]
            before = loaded.model(
                input_ids=ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], use_cache=True
            )
            last = loaded.model(
                input_ids=ids[:, -1:],
                attention_mask=mask,
                position_ids=positions[:, -1:],
                past_key_values=before.past_key_values,
            ).logits[:, -1]
        return torch.stack([whole, last]).float()

    by_library = logits()
    assert loaded.model.config._attn_implementation == "sdpa"
    use_half_attention(loaded)
    assert loaded.model.config._attn_implementation != "sdpa"
    ours = logits()
    assert torch.isfinite(ours).all() and not torch.equal(ours, by_library)
    rounding = 4 * torch.finfo(torch.bfloat16).eps * by_library.abs().max()
    assert (ours - by_library).abs().max() <= rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_types_keep_the_librarys_attention(make_policy: Callable[..., LoadedModel], dtype: torch.dtype) -> None:
    loaded = make_policy("llama")
    loaded.model.to(dtype)
    ModelForward(loaded)
    assert loaded.model.config._attn_implementation == "sdpa"
