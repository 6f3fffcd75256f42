"""What an evaluation says in plain words: which method is best at which budget, and whether the
difference is more than noise.
"""

from restmcts.domain.runs.evaluation import ANSWERING
from restmcts.domain.stats.outcomes import OutcomeTable
from restmcts.reporting.figures import against_noise, leader, points


def summarise(table: OutcomeTable) -> list[str]:
    """Return the sentences; they claim a difference only where its standard error allows it."""
    sentences = [_best(table, budget, models) for models in table.models for budget in table.budgets]
    errors = "problems and seeds" if table.num_seeds > 1 else "problems alone, since there was one seed"
    if table.num_seen:
        sentences.append(
            f"{table.num_seen:,} of the {table.num_problems:,} problems were in the training data of a model: they are "
            "marked as seen in outcomes.csv, and results.json has every accuracy without them too."
        )
    sentences.append(f"Standard errors are over {errors}; differences are paired by problem.")
    return [sentence for sentence in sentences if sentence]


def _best(table: OutcomeTable, budget: int, models: str) -> str:
    keys = [key for key in table.cells if key[1] == budget and key[2] == models]
    ranked = sorted(keys, key=lambda key: -table.summary(key).accuracy.value)
    if len(ranked) < 2:
        return ""
    best, second = ranked[:2]
    opening = f"{models}: with" if models else "With"
    opening += f" at most {budget:,} tokens a problem, "
    ahead = table.difference(best, second)
    sentence = leader(opening, best[0], second[0], table.summary(best).accuracy, ahead)
    rival = next((key for key in ranked if _only_samples(key[0])), None)
    if ahead.value == 0.0 or rival is None or rival == second or _only_samples(best[0]):
        return sentence
    gained = table.difference(best, rival)
    return f"{sentence} The best that only samples is {rival[0]}, {points(gained)} behind{against_noise(gained)}."


def _only_samples(method: str) -> bool:
    return method in ANSWERING and ANSWERING.get(method).search.reads_pool
