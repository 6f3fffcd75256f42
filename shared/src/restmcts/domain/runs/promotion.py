"""Whether a new checkpoint is not worse than the old one on held-out problems: figures with errors,
and the decision.

The steps of one tree are not independent of one another, so that a figure's contributions are
those of whole trees (delta method; for the AUC, Obuchowski, Biometrics 53, 1997), and differences
are paired by tree.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from restmcts.domain.ranges import AtLeastOne, AtLeastZero, NotNegative, check_ranges
from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.stats.ranks import average_ranks
from restmcts.errors import InputError

ValueMetric = Literal["both", "auc", "siblings"]
AUC, SIBLING_ACCURACY = "auc", "sibling accuracy"
BENCH_AUC = "auc on labelled steps"
VALUE_BENCH = "value-bench"
"""The problem set with the labelled solutions on which new value models are evaluated."""
DECIDING: Mapping[ValueMetric, tuple[str, ...]] = {
    "both": (AUC, SIBLING_ACCURACY),
    "auc": (AUC,),
    "siblings": (SIBLING_ACCURACY,),
}
"""The figures on held-out trees that decide on value models, by setting."""


@dataclass(frozen=True, slots=True)
class PromotionSettings:
    """How new checkpoints are evaluated.

    Attributes:
        margin: standard errors of the difference by which a figure may be below the old one's.
        num_problems: problems that are held out at most, one in ten until there are so many; 0:
            none, and every checkpoint is promoted.
        num_samples: solutions that the first policy samples for each held-out problem, to
            evaluate value models on.
        value_metric: what decides on value models: "auc" (steps that led to a right answer above
            others), "siblings" (the same among steps after the same ones), or "both".
        value_gain: standard errors of the difference by which a new value model must be better in
            each of these to be promoted; None: it must not be worse, by `margin`.
        value_bench: solutions whose steps are labelled, as `restmcts prm bench --on` takes them:
            how well a new value model's values separate right steps from wrong ones decides too.
    """

    margin: NotNegative = 1.0
    num_problems: AtLeastZero = 200
    num_samples: AtLeastOne = 8
    value_metric: ValueMetric = "both"
    value_gain: NotNegative | None = None
    value_bench: str | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        asked = self.value_gain is not None or self.value_metric != "both" or self.value_bench is not None
        if asked and not self.num_problems:
            raise InputError(
                "promotion.value_gain, promotion.value_metric and promotion.value_bench need held-out problems: set "
                "promotion.num_problems above 0"
            )


@dataclass(frozen=True, slots=True)
class HeldOutStep:
    """A step of a held-out tree: its parent's node, V as the evaluated model gave it, and whether
    a right answer was reached.
    """

    parent_id: int
    value: float
    is_right: bool


def auc(trees: Sequence[Sequence[HeldOutStep]]) -> Figure | None:
    """Return the chance that a step that led to a right answer has a higher value than one that
    did not, ties counting half, over all trees together; None where one of the two kinds is
    missing.
    """
    steps = [step for tree in trees for step in tree]
    num_right = sum(step.is_right for step in steps)
    num_wrong = len(steps) - num_right
    if not num_right or not num_wrong:
        return None
    overall = average_ranks([step.value for step in steps])
    within = {kind: _ranks_within(steps, kind) for kind in (True, False)}
    # The rank among all less the rank among its own kind is the number of the other kind below it.
    below = [rank - within[step.is_right][index] for index, (step, rank) in enumerate(zip(steps, overall, strict=True))]
    value = math.fsum(count for step, count in zip(steps, below, strict=True) if step.is_right) / (
        num_right * num_wrong
    )
    influences, first = [], 0
    for tree in trees:
        total = 0.0
        for index in range(first, first + len(tree)):
            if steps[index].is_right:
                total += (below[index] / num_wrong - value) / num_right
            else:
                total += (1.0 - below[index] / num_right - value) / num_wrong
        influences.append(total)
        first += len(tree)
    return _linear(value, influences)


def _linear(value: float, influences: Sequence[float]) -> Figure:
    """Return a figure that each tree moves by its influence; the influences sum to 0."""
    return Figure.of([value + len(influences) * influence for influence in influences])


def _ranks_within(steps: Sequence[HeldOutStep], is_right: bool) -> dict[int, float]:
    members = [index for index, step in enumerate(steps) if step.is_right == is_right]
    return dict(zip(members, average_ranks([steps[index].value for index in members]), strict=True))


def sibling_accuracy(trees: Sequence[Sequence[HeldOutStep]]) -> Figure | None:
    """Return the share of pairs of a right and a wrong sibling in which the right one has the
    higher value, ties counting half.
    """
    counts = [_pairs_won(tree) for tree in trees]
    num_pairs = sum(pairs for _, pairs in counts)
    if not num_pairs:
        return None
    value = math.fsum(won for won, _ in counts) / num_pairs
    return _linear(value, [(won - value * pairs) / num_pairs for won, pairs in counts])


def _pairs_won(tree: Sequence[HeldOutStep]) -> tuple[float, float]:
    won = Counter[str]()
    for first, second in combinations(tree, 2):
        if first.parent_id == second.parent_id and first.is_right != second.is_right:
            right, wrong = (first, second) if first.is_right else (second, first)
            won["pairs"] += 1
            won["twice"] += (right.value > wrong.value) + (right.value >= wrong.value)
    return won["twice"] / 2, won["pairs"]


def is_promoted(gains: Mapping[str, Estimate], margin: float, least_gain: float | None = None) -> bool:
    """Return whether no figure fell by more than `margin` standard errors of its difference; with
    `least_gain`, whether each rose, by at least so many.
    """
    if least_gain is None:
        return all(found.value >= -margin * found.standard_error for found in gains.values())
    return all(found.value > 0.0 and found.value >= least_gain * found.standard_error for found in gains.values())
