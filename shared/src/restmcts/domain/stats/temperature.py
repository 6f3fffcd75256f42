"""One temperature, and where values are no chances a bias, that make a model's values chances of
leading to a right answer; and what that gains on problems on which it was not fitted.

Steps weigh the same, errors are over problems. Pure arithmetic; knows no models and no storage.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from restmcts.domain.runs.promotion import HeldOutStep, auc, sibling_accuracy
from restmcts.domain.scoring import EDGE, Calibration, logit, sigmoid
from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.stats.tree_values import Problems, ValuedStep, calibration_error, jackknifed
from restmcts.errors import InputError

LOWEST, HIGHEST = 0.25, 20.0
"""Temperatures beyond these are not fitted: values that separate right from wrong without an
error, or not at all, would have 0 or infinity.
"""

NUM_FOLDS = 5
_MAX_STEPS = 100
_TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of the values as they were and as calibrated, and the difference, paired by
    problem.
    """

    before: Estimate
    after: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """A calibration, and what it gains.

    Attributes:
        calibration: fitted on all problems.
        num_folds: parts of the problems: each part's figures are under a calibration that was
            fitted on the others.
        nll: mean negative log-likelihood of what steps led to, in nats.
        brier: mean squared error of the same.
        calibration_error: expected calibration error.
        auc: as calibrated on all problems, and before; None where one kind is missing.
        siblings: sibling accuracy, likewise.
    """

    calibration: Calibration
    num_problems: int
    num_steps: int
    num_folds: int
    nll: Change
    brier: Change
    calibration_error: Change
    auc: tuple[Estimate, Estimate] | None
    siblings: tuple[Estimate, Estimate] | None


def fitted(pairs: Iterable[tuple[float, bool]], *, with_bias: bool) -> Calibration:
    """Return the calibration with the highest likelihood, of values in [0, 1] and whether each led
    to a right answer, by Newton's method on the inverse temperature and the bias (it is convex).

    Raises:
        InputError: if all of them, or none, led to a right answer.
    """
    points = [(logit(value), float(right)) for value, right in pairs]
    if len({right for _, right in points}) < 2:
        raise InputError("a calibration needs both steps that led to a right answer and steps that did not")
    inverse, bias = 1.0, 0.0
    loss = _loss(points, inverse, bias)
    for _ in range(_MAX_STEPS):
        direction = _newton(points, inverse, bias, with_bias=with_bias)
        size = 1.0
        while True:
            new = (_bounded(inverse + size * direction[0]), bias + size * direction[1])
            new_loss = _loss(points, *new)
            if new_loss <= loss or size < _TOLERANCE:
                break
            size /= 2.0
        moved = abs(new[0] - inverse) + abs(new[1] - bias)
        if new_loss > loss or moved < _TOLERANCE:
            break
        (inverse, bias), loss = new, new_loss
    return Calibration(1.0 / inverse, bias)


def _bounded(inverse: float) -> float:
    return min(max(inverse, 1.0 / HIGHEST), 1.0 / LOWEST)


def _loss(points: Sequence[tuple[float, float]], inverse: float, bias: float) -> float:
    total = 0.0
    for x, right in points:
        z = inverse * x + bias
        total += max(z, 0.0) - right * z + math.log1p(math.exp(-abs(z)))
    return total


def _newton(
    points: Sequence[tuple[float, float]], inverse: float, bias: float, *, with_bias: bool
) -> tuple[float, float]:
    """Return Newton's step of inverse temperature and bias; of the bias alone where the other
    would leave its bounds.
    """
    slope = offset = curve = mixed = weight_sum = 0.0
    for x, right in points:
        chance = sigmoid(inverse * x + bias)
        weight = chance * (1.0 - chance) + _TOLERANCE
        slope += (chance - right) * x
        offset += chance - right
        curve += weight * x * x
        mixed += weight * x
        weight_sum += weight
    if not with_bias:
        return (-slope / curve if curve else 0.0), 0.0
    determinant = curve * weight_sum - mixed * mixed
    if determinant > _TOLERANCE * curve * weight_sum:
        step = (mixed * offset - weight_sum * slope) / determinant
        if _bounded(inverse + step) != inverse:
            return step, (mixed * slope - curve * offset) / determinant
    return 0.0, -offset / weight_sum


def calibrated(problems: Problems, *, with_bias: bool) -> CalibrationResult:
    """Return the calibration of steps of trees by problem, and what it gains on problems on which
    it was not fitted.

    Raises:
        InputError: if there are fewer than two problems, or a part of them has steps of one kind
            only.
    """
    members = [steps for steps in problems if steps]
    if len(members) < 2:
        raise InputError("a calibration is fitted on some problems and measured on others; give at least two")
    num_folds = min(NUM_FOLDS, len(members))
    folds = [fitted(_pairs(_without(members, fold, num_folds)), with_bias=with_bias) for fold in range(num_folds)]
    unseen = [_applied(steps, folds[place % num_folds]) for place, steps in enumerate(members)]
    found = fitted(_pairs(members), with_bias=with_bias)
    both = members, [_applied(steps, found) for steps in members]
    return CalibrationResult(
        found,
        len(members),
        sum(map(len, members)),
        num_folds,
        _change(members, unseen, _nll),
        _change(members, unseen, _brier),
        _change(members, unseen, calibration_error),
        _ordering(auc, *both),
        _ordering(sibling_accuracy, *both),
    )


def _without(members: Problems, fold: int, num_folds: int) -> list[Sequence[ValuedStep]]:
    return [steps for place, steps in enumerate(members) if place % num_folds != fold]


def _pairs(problems: Problems) -> list[tuple[float, bool]]:
    return [(step.value, step.is_right) for steps in problems for step in steps]


def _applied(steps: Sequence[ValuedStep], calibration: Calibration) -> list[ValuedStep]:
    return [replace(step, value=calibration.applied(step.value)) for step in steps]


def _nll(problems: Problems) -> float:
    chances = [min(max(value if right else 1.0 - value, EDGE), 1.0) for value, right in _pairs(problems)]
    return -math.fsum(map(math.log, chances)) / len(chances)


def _brier(problems: Problems) -> float:
    pairs = _pairs(problems)
    return math.fsum((value - right) ** 2 for value, right in pairs) / len(pairs)


def _change(before: Problems, after: Problems, figure: Callable[[Problems], float]) -> Change:
    together = list(zip(before, after, strict=True))
    parts = (
        jackknifed(together, lambda some: figure([one for one, _ in some])),
        jackknifed(together, lambda some: figure([one for _, one in some])),
        jackknifed(together, lambda some: figure([one for _, one in some]) - figure([one for one, _ in some])),
    )
    old, new, difference = (part for part in parts if part is not None)
    return Change(old, new, difference)


def _ordering(
    figure: Callable[[Sequence[Sequence[HeldOutStep]]], Figure | None], before: Problems, after: Problems
) -> tuple[Estimate, Estimate] | None:
    old, new = (
        figure([[HeldOutStep(step.parent, step.value, step.is_right) for step in steps] for steps in problems])
        for problems in (before, after)
    )
    return None if old is None or new is None else (old.estimate, new.estimate)
