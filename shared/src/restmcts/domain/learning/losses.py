"""What a training makes of weighted steps, as data; the arithmetic is in
restmcts.modeling.training.path_training.

Notation: w is a step's weight, t one of its tokens, π the policy in training, π_old the policy
that the training began with, ρ = π/π_old of a token.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SupervisedLoss:
    """Cross-entropy of all tokens of whole solutions, as TRL's trainer computes it; weights are not
    read.
    """


@dataclass(frozen=True, slots=True)
class LikelihoodLoss:
    """Weighted likelihood, with a bounded push away from what has a negative weight.

    A token of positive weight adds -w·log π; one of negative weight |w|·min(ρ, max_ratio), and
    nothing once log ρ < -max_fall, so that it is never pushed further than so far.
    The sum is divided by that of the positive weights of the step's batch (of all sizes, where
    there is none).

    Attributes:
        max_ratio: of the probability of an unwanted token to what it was.
        max_fall: fall of an unwanted token's natural log-probability after which it is left alone.
    """

    max_ratio: float = 3.0
    max_fall: float = 2.0


@dataclass(frozen=True, slots=True)
class ClippedRatioLoss:
    """Policy gradient with a clipped ratio (PPO, arXiv:1707.06347, Eq. 7; asymmetric bounds as in
    DAPO, arXiv:2503.14476): the weights are advantages.

    A step adds the mean over its tokens of -min(ρ·w, clip(ρ, 1 - low, 1 + high)·w); the sum is
    divided by the number of steps in the batch.
    """

    low: float = 0.2
    high: float = 0.28


@dataclass(frozen=True, slots=True)
class PreferenceLoss:
    """Weighted direct preference optimisation with a supervised term (arXiv:2305.18290, Eq. 7).

    Rows come in pairs: the chosen step, of weight g > 0, and then the rejected one, of weight -g. A
    pair adds -g·log σ(beta·(Δ⁺ - Δ⁻)) - supervised·log π(chosen)/|chosen|, where Δ is the step's
    log π - log π_old; the sum is divided by the number of pairs in the batch.

    Attributes:
        beta: how dear it is to leave the policy that the training began with.
        supervised: weight of the likelihood of the chosen step.
    """

    beta: float = 0.1
    supervised: float = 0.2


Loss = SupervisedLoss | LikelihoodLoss | ClippedRatioLoss | PreferenceLoss
