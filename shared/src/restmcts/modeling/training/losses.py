"""The losses of value models: sums over supervised positions, so that a mean over several
batches is a mean over positions.
"""

import torch
from torch import nn

from restmcts.domain.runs.training_settings import ValueObjective

IGNORED = -100


def summed_value_loss(outputs: torch.Tensor, targets: torch.Tensor, objective: ValueObjective) -> torch.Tensor:
    """Return the summed loss of an objective, a scalar.

    Args:
        outputs: `[places]`, as the head gives them: for "mse" values, not clamped, so that no
            gradient is lost beyond [0, 1]; for all others log-odds.
        targets: `[places]`, in [0, 1].
    """
    targets = targets.to(outputs.dtype)
    if objective == "mse":
        return (outputs - targets).square().sum()
    return nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")


def summed_ranking_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Return -log sigmoid(chosen - rejected), summed; both `[pairs]`."""
    return -nn.functional.logsigmoid(chosen - rejected).sum()
