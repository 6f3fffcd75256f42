"""Where a solution first goes wrong, as the values of its steps say, and how often that is right:
the scores of ProcessBench (arXiv:2412.06559) and of PRMBench (arXiv:2501.03124).

Pure arithmetic over values and labels; knows no models and no files.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from restmcts.domain.stats.estimates import Estimate, share

NO_ERROR = -1
"""The place of the first wrong step of a solution that has none."""

Rule = Literal["below", "drop"]
"""By which values call a step wrong: a chance of being right that lies below the threshold, or
progress that drops by more than the threshold from the step before (from 0 before the first)."""

MAX_THRESHOLDS = 512


def suspicions(values: Sequence[float], rule: Rule) -> list[float]:
    """Return for each step what is compared with the threshold: the higher, the more wrong.

    For "below" it is minus the value, and the step is wrong where it is above minus the
    threshold; for "drop" it is the drop.
    """
    if rule == "below":
        return [-value for value in values]
    return [before - value for before, value in zip((0.0, *values), values, strict=False)]


def first_error(values: Sequence[float], rule: Rule, threshold: float) -> int:
    """Return the place, from 0, of the first step that its value calls wrong; -1 if none is."""
    limit = -threshold if rule == "below" else threshold
    return next((place for place, each in enumerate(suspicions(values, rule)) if each > limit), NO_ERROR)


@dataclass(frozen=True, slots=True)
class FirstErrorScore:
    """How well first wrong steps are found on one split.

    Attributes:
        of_wrong: share of the solutions with a wrong step for which exactly its place is said;
            None where there are none.
        of_right: share of the solutions without one for which none is said; None likewise.
    """

    of_wrong: Estimate | None
    of_right: Estimate | None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of the two, 0 if both are 0; None where one is."""
        if self.of_wrong is None or self.of_right is None:
            return None
        return harmonic_mean(self.of_wrong.value, self.of_right.value)


def harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two shares; 0 if both are 0."""
    return 2.0 * first * second / (first + second) if first + second > 0.0 else 0.0


def first_error_score(said: Sequence[int | None], labels: Sequence[int]) -> FirstErrorScore:
    """Return the score of what is said of solutions.

    Args:
        said: places of first wrong steps; None: nothing, which is never right.
        labels: the true ones.

    Raises:
        ValueError: if the lengths differ.
    """
    hits = [(label, place == label) for place, label in zip(said, labels, strict=True)]
    wrong = [hit for label, hit in hits if label != NO_ERROR]
    right = [hit for label, hit in hits if label == NO_ERROR]
    return FirstErrorScore(*(share(sum(each), len(each)) if each else None for each in (wrong, right)))


def mean_f1(scores: Sequence[FirstErrorScore]) -> float | None:
    """Return the plain mean of the splits' F1; None where one has none."""
    found = [score.f1 for score in scores]
    known = [f1 for f1 in found if f1 is not None]
    return fmean(known) if known and len(known) == len(found) else None


def best_threshold(solutions: Sequence[Sequence[float]], labels: Sequence[int], rule: Rule) -> float:
    """Return the threshold with the highest F1 on these solutions, the most cautious one (that
    calls fewest steps wrong) of equals.

    It is in the middle between two neighbouring values (drops) that there are; of more than
    512 of them, at as many of their quantiles.

    Raises:
        ValueError: if there are no values, or the lengths differ.
    """
    listed = [suspicions(values, rule) for values in solutions]
    distinct = sorted({each for one in listed for each in one})
    if not distinct:
        raise ValueError("a threshold is chosen on at least one value")
    if len(distinct) > MAX_THRESHOLDS:
        distinct = [distinct[place * (len(distinct) - 1) // (MAX_THRESHOLDS - 1)] for place in range(MAX_THRESHOLDS)]
    edges = [distinct[0] - 1.0, *distinct, distinct[-1] + 1.0]
    limits = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    quality = {limit: _quality(listed, labels, limit) for limit in limits}
    best = max(limits, key=lambda limit: (quality[limit], limit))
    return -best if rule == "below" else best


def _quality(listed: Sequence[Sequence[float]], labels: Sequence[int], limit: float) -> tuple[float, float]:
    """Return the F1 of a limit, and the share of exact places, for splits without one kind."""
    said = [next((place for place, each in enumerate(one) if each > limit), NO_ERROR) for one in listed]
    hits = sum(place == label for place, label in zip(said, labels, strict=True))
    return first_error_score(said, labels).f1 or 0.0, hits / max(len(labels), 1)


@dataclass(frozen=True, slots=True)
class StepScore:
    """How well single steps are called right or wrong, as PRMBench counts them.

    Attributes:
        f1: of "this step is right"; None where no step is.
        negative_f1: of "this step is wrong"; None where no step is.
    """

    num_steps: int
    f1: float | None
    negative_f1: float | None

    @property
    def prm_score(self) -> float | None:
        """Half of each F1, as PRMBench weighs them; None where one is."""
        if self.f1 is None or self.negative_f1 is None:
            return None
        return (self.f1 + self.negative_f1) / 2


def step_score(called_right: Sequence[bool], is_right: Sequence[bool]) -> StepScore:
    """Return the score of what is said of steps, over all of them together.

    Raises:
        ValueError: if the lengths differ.
    """
    pairs = list(zip(called_right, is_right, strict=True))
    return StepScore(len(pairs), _f1_of(pairs, True), _f1_of(pairs, False))


def _f1_of(pairs: Sequence[tuple[bool, bool]], kind: bool) -> float | None:
    hits = sum(said is kind and true is kind for said, true in pairs)
    said, true = sum(said is kind for said, _ in pairs), sum(true is kind for _, true in pairs)
    if not true:
        return None
    return harmonic_mean(hits / said, hits / true) if said else 0.0


def sureness(values: Sequence[float], label: int, said: int, rule: Rule, threshold: float) -> float:
    """Return by how far a wrong prediction lies beyond the threshold: of a right step that is
    called wrong, or of the wrong step that is not.
    """
    limit = -threshold if rule == "below" else threshold
    found = suspicions(values, rule)
    if said != NO_ERROR and (label == NO_ERROR or said < label):
        return found[said] - limit
    return limit - found[label] if label != NO_ERROR else math.inf
