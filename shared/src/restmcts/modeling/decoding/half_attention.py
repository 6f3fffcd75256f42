"""Attention in bfloat16 on a CPU, for models that are only read.

torch's kernel multiplies for every head of every row by itself, and also what the mask hides. Two
batched products for one new token a row take a third of its time; for texts, pieces of queries over
the columns that they see take two thirds.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from restmcts.modeling.checkpoints import LoadedModel

_NAME = "sdpa_half_on_cpu"
# What some families give besides queries, keys, values and mask.
_ADDITIONS = ("softcap", "position_bias", "cache", "s_aux")
_PIECE_TOKENS = 64


def use_half_attention(loaded: LoadedModel) -> None:
    """Let the model attend so from now on, if it is in bfloat16 on a CPU, and attends by torch's
    kernel. In float16 products of queries and keys may be too large.
    """
    is_half = loaded.model.dtype == torch.bfloat16
    if is_half and loaded.device.type == "cpu" and loaded.model.config._attn_implementation == "sdpa":
        loaded.model.set_attn_implementation(_NAME)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Return `[rows, tokens, heads, head size]` of queries `[rows, heads, tokens, head size]`
    over keys and values `[rows, key heads, columns, head size]`.
    """
    is_plain = all(more.get(name) is None for name in _ADDITIONS) and query.shape[3] == value.shape[3]
    is_masked = attention_mask is not None and attention_mask.dtype == torch.bool and attention_mask.shape[1] == 1
    if is_plain and query.shape[2] == 1 and (is_masked or attention_mask is None):
        return _attend_to_all(query, key, value, attention_mask, scaling), None
    if is_plain and is_masked and query.shape[2] > _PIECE_TOKENS:
        assert attention_mask is not None
        return _attend_in_pieces(query, key, value, attention_mask, scaling), None
    attended: torch.Tensor
    attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
    return attended, None


def _attend_to_all(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """Of one token a row. Scores are in half precision, as in the library's plain attention; their
    softmax is in float32.
    """
    num_rows, num_key_heads, _, size = key.shape
    queries = query.reshape(num_rows * num_key_heads, -1, size)
    scores = torch.bmm(queries, key.flatten(0, 1).transpose(1, 2)).float().unflatten(0, key.shape[:2])
    scores *= size**-0.5 if scaling is None else scaling
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    shares = scores.softmax(dim=-1).to(value.dtype).flatten(0, 1)
    return torch.bmm(shares, value.flatten(0, 1)).reshape(num_rows, 1, -1, size)


def _attend_in_pieces(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    pieces = []
    for queries, seen in zip(query.split(_PIECE_TOKENS, dim=2), mask.split(_PIECE_TOKENS, dim=2), strict=True):
        seen_columns = seen.flatten(0, 2).any(dim=0).nonzero()
        columns = int(seen_columns[-1]) + 1 if len(seen_columns) else 1
        keys, values = key[:, :, :columns], value[:, :, :columns]
        pieces.append(
            scaled_dot_product_attention(
                queries, keys, values, attn_mask=seen[..., :columns], scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(pieces, dim=2).transpose(1, 2)


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
