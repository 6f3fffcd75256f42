"""The demo's first policy: a Llama of about 90,000 parameters with fresh weights, and the tokenizer of number paths.

It is named by how it is made, so that whoever stores a run needs no model library.
"""

from typing import Any

from transformers import LlamaConfig

from restmcts.domain.number_paths import FRESH_POLICY
from restmcts.modeling.number_paths_tokenizer import make_number_paths_tokenizer


def seed_of(name: str) -> int | None:
    """Return the seed in the name of a fresh policy (`number-paths:3`); None if the name is of another model."""
    seed = name.removeprefix(FRESH_POLICY)
    return int(seed) if name.startswith(FRESH_POLICY) and seed.isdecimal() else None


def config_and_tokenizer() -> tuple[LlamaConfig, Any]:
    """Return what `new_policy` makes it from."""
    tokenizer = make_number_paths_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=128,
        initializer_range=0.1,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return config, tokenizer
