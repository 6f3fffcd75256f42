"""What an evaluation says in plain words: which method is best at which budget, and whether the
difference is more than noise.
"""

import math

from restmcts.domain.runs.evaluation import METHODS
from restmcts.domain.stats.outcomes import Comparison, Key
from restmcts.domain.stats.statistics import Difference

NOISE_LIMIT = 2.0
CLAIM_LIMIT = 3.0


def summarise(comparison: Comparison) -> list[str]:
    """Return the sentences; they claim a difference only where its standard error allows it."""
    sentences = [_best(comparison, budget, models) for models in comparison.models for budget in comparison.budgets]
    errors = "problems and seeds" if comparison.num_seeds > 1 else "problems alone: there was one seed"
    if comparison.num_seen:
        sentences.append(
            f"{comparison.num_seen:,} of the {comparison.num_problems:,} problems were in the training data of a model: they are "
            "marked as seen in outcomes.csv, and results.json has every accuracy without them too."
        )
    sentences.append(f"Standard errors and differences are by a paired bootstrap over {errors}.")
    return [sentence for sentence in sentences if sentence]


def _best(comparison: Comparison, budget: int, models: str) -> str:
    keys = [key for key in comparison.cells if key[1] == budget and key[2] == models]
    ranked = sorted(keys, key=lambda key: -comparison.standing(key).accuracy.value)
    if len(ranked) < 2:
        return ""
    best, second = ranked[:2]
    whose = f"{models}: with" if models else "With"
    opening = f"{whose} at most {budget:,} tokens a problem, "
    ahead = comparison.difference(best, second)
    if ahead.value == 0.0:
        return f"{opening}{best[0]} and {second[0]} come out level at {_percent(comparison, best)}."
    told = f"{opening}{best[0]} is best ({_percent(comparison, best)}), {_points(ahead)} above {second[0]}{against_noise(ahead)}."
    rival = next((key for key in ranked if _only_samples(key[0])), None)
    if rival is not None and rival != second and not _only_samples(best[0]):
        gained = comparison.difference(best, rival)
        told += f" The best that only samples is {rival[0]}, {_points(gained)} behind{against_noise(gained)}."
    return told


def _only_samples(method: str) -> bool:
    return method in METHODS and METHODS[method].reads_pool


def _percent(comparison: Comparison, key: Key) -> str:
    accuracy = comparison.standing(key).accuracy
    return f"{100 * accuracy.value:.1f} % ± {100 * accuracy.standard_error:.1f}"


def _points(change: Difference) -> str:
    return f"{100 * abs(change.value):.1f} points"


def against_noise(change: Difference) -> str:
    """Return how a difference stands to its standard error, as the end of a sentence."""
    errors = abs(change.in_standard_errors)
    if change.value == 0.0:
        return ""
    if math.isinf(errors):
        return ", on too few problems for a standard error"
    if errors < NOISE_LIMIT:
        return f": {errors:.1f} standard errors, no more than noise"
    return f": {errors:.1f} standard errors, {'clearly' if errors >= CLAIM_LIMIT else 'probably'} more than noise"
