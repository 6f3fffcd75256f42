"""What searched trees say of a value model: whether its values order steps that lead to a right
answer above others, how far they are chances, and whether they rise with the right leaves below.

Figures are over steps, their errors over problems: steps of one problem are not independent. Pure
arithmetic; knows no models and no storage.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeVar

from restmcts.domain.runs.promotion import HeldOutStep, auc, sibling_accuracy
from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.ranks import rank_correlation
from restmcts.domain.stats.search_quality import Bin, calibration

NUM_GROUPS = 20
FEWEST_STEPS = 5
ScoreName = Literal["model", "likelihood", "combined"]


@dataclass(frozen=True, slots=True)
class ValuedStep:
    """A labelled step of a tree.

    Attributes:
        parent: of the step, unique among all steps of its problem.
        depth: from 1.
        value: V after it.
        is_right: whether it led to a right answer.
        right_leaves: share of the checked leaves at or below it that are right; None where there
            are none.
    """

    parent: int
    depth: int
    value: float
    is_right: bool
    right_leaves: float | None


@dataclass(frozen=True, slots=True)
class DepthRank:
    """Spearman's correlation of value and share of right leaves among the steps of one depth; None
    where either does not vary.
    """

    depth: int
    num_steps: int
    correlation: Estimate | None


@dataclass(frozen=True, slots=True)
class StepOrder:
    """How a score of steps orders them.

    Attributes:
        by: "model"; "likelihood", the policy's a token; or "combined", V + 0.1 log p.
        auc: chance that a step that led to a right answer has a higher score than one that did
            not; None where one kind is missing.
        siblings: the same of steps after the same ones; None likewise.
    """

    by: ScoreName
    auc: Estimate | None
    siblings: Estimate | None


@dataclass(frozen=True, slots=True)
class TreeValues:
    """A value model on searched trees.

    Attributes:
        auc: as in `StepOrder`.
        siblings: likewise.
        bins: share of steps that led to a right answer, by tenths of their value.
        calibration_error: mean gap of the two, weighed by steps (arXiv:1706.04599, Eq. 3).
        by_depth: rising.
    """

    num_problems: int
    num_steps: int
    auc: Estimate | None
    siblings: Estimate | None
    bins: tuple[Bin, ...]
    calibration_error: Estimate | None
    by_depth: tuple[DepthRank, ...]


Problems = Sequence[Sequence[ValuedStep]]
_Problem = TypeVar("_Problem")


def tree_values(problems: Problems) -> TreeValues:
    """Return what the labelled steps of trees, by problem, say of their values.

    Raises:
        ValueError: if there is no step.
    """
    members = [steps for steps in problems if steps]
    flat = [step for steps in members for step in steps]
    if not flat:
        raise ValueError("values are measured on at least one labelled step")
    order = step_order("model", members)
    depths = sorted({step.depth for step in flat})
    return TreeValues(
        len(members),
        len(flat),
        order.auc,
        order.siblings,
        calibration([(step.value, step.is_right) for step in flat]),
        jackknifed(members, calibration_error),
        tuple(_depth_rank(members, depth) for depth in depths),
    )


def step_order(by: ScoreName, problems: Problems) -> StepOrder:
    """Return how the values of the labelled steps of trees, by problem, order them."""
    held_out = [[HeldOutStep(step.parent, step.value, step.is_right) for step in steps] for steps in problems]
    overall, siblings = auc(held_out), sibling_accuracy(held_out)
    return StepOrder(
        by,
        overall.estimate if overall is not None else None,
        siblings.estimate if siblings is not None else None,
    )


def calibration_error(problems: Problems) -> float:
    """Return the expected calibration error of values as chances of leading to a right answer."""
    pairs = [(step.value, step.is_right) for steps in problems for step in steps]
    bins = calibration(pairs)
    return math.fsum(one.share_right.n * abs(one.share_right.value - one.mean_value) for one in bins) / len(pairs)


def _depth_rank(problems: Problems, depth: int) -> DepthRank:
    def correlation(some: Problems) -> float | None:
        known = [(s.value, s.right_leaves) for steps in some for s in steps if s.right_leaves is not None]
        return rank_correlation([value for value, _ in known], [leaves for _, leaves in known])

    steps = [[step for step in each if step.depth == depth] for each in problems]
    at_depth = [each for each in steps if each]
    num = sum(map(len, at_depth))
    return DepthRank(depth, num, jackknifed(at_depth, correlation) if num >= FEWEST_STEPS else None)


def jackknifed(problems: Sequence[_Problem], figure: Callable[[Sequence[_Problem]], float | None]) -> Estimate | None:
    """Return a figure over all problems with its error by the delete-a-group jackknife, of 20
    groups of problems at most; None where it is not defined.
    """
    whole = figure(problems)
    if whole is None:
        return None
    num_groups = min(NUM_GROUPS, len(problems))
    kept = [[one for place, one in enumerate(problems) if place % num_groups != group] for group in range(num_groups)]
    left_out = [value for value in (figure(each) for each in kept if each) if value is not None]
    if len(left_out) < 2:
        return Estimate(whole, 0.0, len(problems))
    mean = fmean(left_out)
    spread = math.fsum((value - mean) ** 2 for value in left_out) * (len(left_out) - 1) / len(left_out)
    return Estimate(whole, math.sqrt(spread), len(problems))
