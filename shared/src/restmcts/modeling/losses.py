"""The losses of both models: sums over supervised positions, so that a mean over several batches is a mean over positions."""

import torch
from torch import nn

IGNORED = -100


def summed_token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the summed cross-entropy in float32, a scalar.

    Args:
        logits: `[B, T, V]`; those at position t are for the token at t + 1.
        targets: `[B, T]`, the next token's id, `IGNORED` where there is no target (already shifted, unlike the library's labels).
    """
    wanted = targets != IGNORED
    return nn.functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum")


def summed_value_loss(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the summed squared error, a scalar; both `[places]`, not clamped, so that no gradient is lost beyond [0, 1]."""
    return (values - targets.to(values.dtype)).square().sum()
