"""Tiny models with random weights, and a tokenizer of single characters whose texts survive the
way to ids and back.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.modeling.checkpoints import LoadedModel, new_policy, new_value_model, save_checkpoint
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast

# No space among them: a step's text is stripped. The last one stands for every character that is
# not in the list.
LETTERS = "\nabcdefghijklmnopqrstuvwxyz0123?"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "intermediate_size": 48},
    "llama-tied": {**SMALL, "intermediate_size": 48, "tie_word_embeddings": True},
    "qwen2": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2},
    "qwen3": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8},
    "mistral": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": 8},
    "gemma": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 8},
    "gpt_neox": {**SMALL, "intermediate_size": 48},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "opt": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 128},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.05},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny matrices gain nothing from more, and lose much where the machine is busy."""
    torch.set_num_threads(1)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture
def make_policy() -> Callable[..., LoadedModel]:
    def make(family: str = "llama", seed: int = 0, **changes: Any) -> LoadedModel:
        tokenizer = make_tokenizer()
        ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
        settings = {"initializer_range": 0.2, **FAMILIES[family], **ids, **changes}
        config = AutoConfig.for_model(family.removesuffix("-tied"), vocab_size=len(tokenizer), **settings)
        return new_policy(config, tokenizer, seed, template="raw")

    return make


@pytest.fixture
def make_value_model(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Callable[..., LoadedModel]:
    """A value model whose head is not zero, so that values differ."""

    def make(family: str = "llama", **changes: Any) -> LoadedModel:
        path = tmp_path / f"policy-{family}-{len(list(tmp_path.iterdir()))}"
        save_checkpoint(make_policy(family, **changes), path)
        loaded = new_value_model(path, seed=0)
        torch.nn.init.normal_(loaded.model.score.weight, std=0.05, generator=torch.Generator().manual_seed(1))
        return loaded

    return make


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: place for place, token in enumerate(["<eos>", *LETTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=LETTERS[-1]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
