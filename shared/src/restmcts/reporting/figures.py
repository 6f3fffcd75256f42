"""How reports print a figure with its error, and what they say of a difference: one way
everywhere.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.text import counted

NOISE_LIMIT = 2.0
"""Standard errors up to which a difference is called noise."""

CLAIM_LIMIT = 3.0
"""Standard errors from which a report claims a difference."""

NONE = "–"

ERRORS = (
    "± is one standard error over {}; where fewer than five of them are right, or fewer than five wrong, the 95 % interval "
    "(Wilson's) is given in brackets instead."
)
"""What is said of the errors beside shares, and of the bars of charts."""


def percent(figure: Estimate | float | None, mark: str = "") -> str:
    """Return a share as text, with its error where it has one: `51.4 % ± 1.6`, `51.4 %`; a dash
    for None.

    Args:
        mark: a word that is put beside the figure.
    """
    if figure is None:
        return NONE
    text = figure.as_percent() if isinstance(figure, Estimate) else f"{100 * figure:.1f} %"
    return f"{text} {mark}".rstrip()


def share_document(figure: Estimate | None) -> dict[str, Any] | None:
    """Return a share as JSON, with its 95 % interval as "interval"; None for None."""
    return {**asdict(figure), "interval": list(figure.interval)} if figure is not None else None


def rows_in_words(result: Mapping[str, Any], kind: str) -> str:
    """Return what a training learned from, by its result: rows of its data set, the values of steps
    in those of a value model, and the rows that were too long; and the rank of its adapters, if it
    trained some. Empty where it does not say.
    """
    if result.get("num_examples") is None:
        return ""
    parts = [counted(result["num_examples"], "row")]
    if kind == "train-value" and result.get("num_targets") is not None:
        parts.append(counted(result["num_targets"], "step value"))
    if result.get("num_dropped"):
        parts.append(f"{result['num_dropped']:,} more left out as too long")
    if result.get("lora_rank"):
        parts.append(f"by adapters of rank {result['lora_rank']}")
    return ", ".join(parts)


def decimal(value: float | None, places: int = 2) -> str:
    """Return a number with that many places; a dash for None."""
    return NONE if value is None else f"{value:.{places}f}"


def with_error(figure: Estimate | None, places: int = 2) -> str:
    """Return a number that is no share with its standard error: `3.41 ± 0.12`; a dash for None."""
    return NONE if figure is None else f"{figure.value:.{places}f} ± {figure.standard_error:.{places}f}"


def points(difference: Estimate) -> str:
    """Return the size of a difference of two shares, without its sign: `1.4 points`."""
    return f"{100 * abs(difference.value):.1f} points"


def gain(difference: Estimate | None) -> str:
    """Return a difference of two shares in points, with its sign and error: `+1.4 ± 0.5 (+2.8
    SE)`; a dash for None.
    """
    if difference is None:
        return NONE
    errors = f"{difference.in_standard_errors:+.1f} SE"
    return f"{100 * difference.value:+.1f} ± {100 * difference.standard_error:.1f} ({errors})"


def above_or_below(difference: Estimate) -> str:
    """Return how the first figure lies to the second: `1.4 points above`, or `level with`."""
    if difference.value == 0.0:
        return "level with"
    return f"{points(difference)} {'above' if difference.value > 0 else 'below'}"


def against_noise(difference: Estimate) -> str:
    """Return how a difference compares with its standard error, as the end of a sentence."""
    errors = abs(difference.in_standard_errors)
    if difference.value == 0.0:
        return ""
    if math.isinf(errors):
        return ", on too few problems for a standard error"
    if errors < NOISE_LIMIT:
        return f": {errors:.1f} standard errors, no more than noise"
    return f": {errors:.1f} standard errors, {'clearly' if errors >= CLAIM_LIMIT else 'probably'} more than noise"


def spent_in_words(limit: int | None, mean: float | None, most: int) -> str:
    """Return what trees spent under a limit of tokens, on average and at most; nothing where there
    is no limit, or not all have ended.
    """
    if limit is None or mean is None:
        return ""
    beyond = "; what is under way at the limit is finished" if most > limit else ""
    return f"limit {limit:,} tokens a tree: {mean:,.0f} spent on average, {most:,} at most{beyond}"


def leader(opening: str, best: str, second: str, accuracy: Estimate, ahead: Estimate, mark: str = "") -> str:
    """Return the sentence that names the best of several methods.

    Args:
        opening: under which conditions, up to a comma and a blank.
        accuracy: of the best.
        ahead: the best's accuracy less that of the second, paired.
        mark: a word that is put beside the accuracy.
    """
    if ahead.value == 0.0:
        return f"{opening}{best} and {second} come out level at {percent(accuracy, mark)}."
    of_best = percent(accuracy, mark)
    return f"{opening}{best} is best ({of_best}), {above_or_below(ahead)} {second}{against_noise(ahead)}."


def duration(seconds: float) -> str:
    """Return a length of time that was measured, in the two units that matter: "2 h 05 min"."""
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60:02d} s" if whole < 600 else "")
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"
