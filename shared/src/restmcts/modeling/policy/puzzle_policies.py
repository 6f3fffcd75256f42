"""The first policies of the generated problems: Llamas of about 90,000 parameters with fresh
weights, and their tokenizers.

They are named by how they are made (`number-paths:3`), so that whoever stores a run needs no model
library.
"""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import LlamaConfig, PreTrainedTokenizerFast

from restmcts.domain.tasks import number_paths, small_programs, word_problems
from restmcts.modeling.policy import number_paths_tokenizer, small_programs_tokenizer, word_problems_tokenizer

_TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    number_paths.KIND: number_paths_tokenizer.make_number_paths_tokenizer,
    small_programs.KIND: small_programs_tokenizer.make_small_programs_tokenizer,
    word_problems.KIND: word_problems_tokenizer.make_word_problems_tokenizer,
}


@dataclass(frozen=True, slots=True)
class FreshPolicy:
    """What `new_policy` makes a first policy from."""

    config: LlamaConfig
    tokenizer: PreTrainedTokenizerFast
    seed: int


def fresh_policy(name: str) -> FreshPolicy | None:
    """Return what the policy of that name is made from; None if the name is of another model."""
    kind, _, seed = name.partition(":")
    if kind not in _TOKENIZERS or not seed.isdecimal():
        return None
    tokenizer = _TOKENIZERS[kind]()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=128,
        initializer_range=0.1,
        max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return FreshPolicy(config, tokenizer, int(seed))
