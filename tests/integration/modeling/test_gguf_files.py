"""A GGUF file becomes a folder that loads like any other model, with the same weights."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from restmcts.domain.requests import GenerationSettings, ProposeSteps
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import load_policy
from restmcts.modeling.gguf_files import convert_gguf
from restmcts.modeling.policy.proposer import TransformersProposer
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = ["<unk>", "<eos>", "a", "b", "Ġ", "Ċ", "1", "2", "ab"]


def write_gguf(file: Path) -> LlamaForCausalLM:
    """Write a Llama of two layers as GGUF; return it as the library has it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, tensor in model.state_dict().items():
        written = names.get_name(name, try_suffixes=(".weight",))
        assert written is not None, name
        values = tensor.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            # llama.cpp turns neighbouring pairs where the library turns halves.
            heads = values.reshape(2, 2, values.shape[0] // 4, values.shape[1])
            values = heads.swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(written, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_a_converted_model_has_the_weights_of_the_file_and_writes(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf")
    convert_gguf(tmp_path / "model.gguf", tmp_path / "model")
    loaded = load_policy(tmp_path / "model", template="plain", dtype="float32")
    assert loaded.inference_dtype == torch.bfloat16
    ids = torch.tensor([[2, 3, 6, 7]])
    with torch.no_grad():
        expected, found = model(input_ids=ids).logits, loaded.model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    settings = GenerationSettings(max_step_tokens=4, max_solution_tokens=4, step_separator="newline")
    (answer,) = TransformersProposer(loaded).propose(["ab"], [ProposeSteps(0, (), 1, None, 0)], settings)
    assert 0 < answer.samples[0].num_tokens <= 4 + 16


def test_a_file_that_is_no_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "model")
