"""One token a row from next-token logits, by a uniform number that only the row's own seed decides.

Knows no model and no text. Uniform numbers come from SplitMix64 (Steele, Lea and Flood, 2014),
keyed by (seed, sample) and counted by position, so a row's draws never depend on what else is in
its batch, nor on the device.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from restmcts.domain.requests import derive_seed

Keys = np.ndarray[Any, np.dtype[np.uint64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
# Float64 working copies of the logits are made for at most so many entries at once (256 MB with
# their sums).
_MAX_ENTRIES = 1 << 24


def sample_key(seed: int, sample: int) -> int:
    """Return the stream of uniform numbers that belongs to one sample of one request."""
    return derive_seed("sample", seed, sample)


def uniforms(keys: Keys, positions: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return one number in [0, 1) per key, `[N]`, for the token at its position, from 0."""
    with np.errstate(over="ignore"):
        state = keys + _GAMMA * (positions + 1).astype(np.uint64)
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
    mixed: Keys = state ^ (state >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True, slots=True)
class ChosenTokens:
    """The next token of every row.

    Attributes:
        token_ids: `[N]`.
        log_probs: `[N]`, at temperature 1.
        top_ids: `[N, K]`, the K most probable tokens, best first.
        top_log_probs: `[N, K]`, theirs.
    """

    token_ids: torch.Tensor
    log_probs: torch.Tensor
    top_ids: torch.Tensor
    top_log_probs: torch.Tensor


def choose_tokens(
    logits: torch.Tensor,
    numbers: torch.Tensor,
    greedy: torch.Tensor,
    temperature: float,
    top_p: float,
    num_top: int = 0,
) -> ChosenTokens:
    """Return the next token of every row, and the most probable ones.

    Args:
        logits: `[N, V]`, of any float type.
        numbers: `[N]` in [0, 1), float64; where each row's draw falls on its cumulative
            distribution.
        greedy: `[N]`; rows that take the most probable token instead.
        temperature: of the softmax that is drawn from.
        top_p: the smallest set of most probable tokens with this mass is kept.
        num_top: K.
    """
    rows_at_once = max(1, _MAX_ENTRIES // logits.shape[-1])
    if logits.shape[0] <= rows_at_once:
        return _choose(logits, numbers, greedy, temperature, top_p, num_top)
    slices = [slice(i, i + rows_at_once) for i in range(0, logits.shape[0], rows_at_once)]
    parts = [_choose(logits[s], numbers[s], greedy[s], temperature, top_p, num_top) for s in slices]
    return ChosenTokens(
        torch.cat([part.token_ids for part in parts]),
        torch.cat([part.log_probs for part in parts]),
        torch.cat([part.top_ids for part in parts]),
        torch.cat([part.top_log_probs for part in parts]),
    )


def _choose(
    logits: torch.Tensor, numbers: torch.Tensor, greedy: torch.Tensor, temperature: float, top_p: float, num_top: int
) -> ChosenTokens:
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    if bool(greedy.all()):
        tokens = log_probs.argmax(dim=-1)
    else:
        scaled = log_probs if temperature == 1.0 else torch.log_softmax(log_probs / temperature, dim=-1)
        tokens = _draw(scaled.double().exp(), numbers, top_p)
        if bool(greedy.any()):
            tokens = torch.where(greedy, log_probs.argmax(dim=-1), tokens)
    top = log_probs.topk(min(num_top, log_probs.shape[1]), dim=-1)
    return ChosenTokens(tokens, log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1), top.indices, top.values)


def _draw(probabilities: torch.Tensor, numbers: torch.Tensor, top_p: float) -> torch.Tensor:
    if top_p < 1.0:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(dim=-1) - ordered >= top_p
        probabilities = probabilities.masked_fill(outside.gather(1, order.argsort(dim=-1)), 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    targets = numbers.unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True).squeeze(1)
    return tokens.clamp_(max=probabilities.shape[-1] - 1)
