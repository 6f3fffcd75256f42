"""The losses of value models: sums over supervised positions, so that a mean over several
batches is a mean over positions.
"""

import torch
from torch import nn

from restmcts.domain.runs.training_settings import ValueObjective, gives_values

IGNORED = -100
SIBLING_SCALE = 0.1
"""Difference of the values of two siblings that counts as one of log-odds."""
SIBLING_WEIGHT = 0.05
"""Of a pair of siblings beside a squared error."""


def summed_value_loss(outputs: torch.Tensor, targets: torch.Tensor, objective: ValueObjective) -> torch.Tensor:
    """Return the summed loss of an objective, a scalar.

    Args:
        outputs: `[places]`, as the head gives them: for "mse", "siblings" and "progress" values,
            not clamped, so that no gradient is lost beyond [0, 1]; for all others log-odds.
        targets: `[places]`, in [0, 1].
    """
    targets = targets.to(outputs.dtype)
    if gives_values(objective):
        return (outputs - targets).square().sum()
    return nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")


def summed_pair_loss(
    first: torch.Tensor, second: torch.Tensor, gaps: torch.Tensor, objective: ValueObjective
) -> torch.Tensor:
    """Return the summed loss of pairs that an objective compares, a scalar; all are `[pairs]`.

    "ranking": -log sigmoid(first - second). "siblings": the same of the difference over
    `SIBLING_SCALE`, times `SIBLING_WEIGHT`. "progress": (first - second - gap)².

    Args:
        gaps: of their targets.
    """
    difference = first - second
    if objective == "progress":
        return (difference - gaps.to(difference.dtype)).square().sum()
    if objective == "siblings":
        return -SIBLING_WEIGHT * nn.functional.logsigmoid(difference / SIBLING_SCALE).sum()
    return -nn.functional.logsigmoid(difference).sum()
