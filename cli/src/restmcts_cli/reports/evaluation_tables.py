"""The tables of an evaluation's report, and its plain words: which method is best at which budget,
and whether the difference is more than noise. Says only what is in the `EvaluationReport`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from restmcts.domain.runs.evaluation import ANSWERING
from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.outcomes import COSTS, Outcome, OutcomeTable, pass_at_k
from restmcts.domain.stats.search_quality import SearchQuality, search_quality
from restmcts.domain.text import counted
from restmcts.reporting.figures import ERRORS, against_noise, leader, percent, points, with_error
from restmcts.reporting.run_origins import RunOrigin
from restmcts.reporting.tables import CellValue, Table

from restmcts_cli.reports.evaluation_examples import Example

POWERS = tuple(2**power for power in range(11))


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """All that is shown of an evaluation.

    Attributes:
        source: of the problems.
        config: what makes it the same evaluation; of several that are pooled, by their names.
        pass_at: pass@k of the pools, by k; no method's answer.
        examples: problems on which two searches differ.
        seconds: from the start of its run to the end, pauses included; of several that are pooled,
            their sum.
        origin: where it comes from; None of several that are pooled.
    """

    source: str
    config: dict[str, Any]
    outcomes: Sequence[Outcome]
    table: OutcomeTable
    pass_at: dict[int, Estimate]
    seconds: float
    examples: tuple[Example, ...] = ()
    origin: RunOrigin | None = None

    @property
    def qualities(self) -> list[SearchQuality]:
        """How each method spent its tokens under the largest limit, or without one."""
        budgets = self.table.budgets
        cells = self.table.cells.items()
        return [
            search_quality(key, members, budgets)
            for key, members in cells
            if key[1] in (None, max(budgets, default=None))
        ]


def pass_at_powers(counts: Sequence[tuple[int, int]]) -> dict[int, Estimate]:
    """Return pass@k for the powers of two up to the size of the smallest pool, from (samples,
    right ones) of each problem.
    """
    if not counts:
        return {}
    least = min(num_samples for num_samples, _ in counts)
    samples, right = zip(*counts, strict=True)
    return {k: pass_at_k(samples, right, k) for k in POWERS if k <= least}


LIMIT_TITLE = "Accuracy under a limit of generated tokens a problem"
MATCHED_TITLE = "Accuracy at equal tokens really spent, mean a problem"
ABOUT_LIMIT = (
    "At the limit nothing new is started, and what is under way is finished, so that more is spent; all costs are means a "
    "problem. “Any right” is the share of problems with a right solution anywhere in the tree or pool (pass@k): no "
    "method's answer. Methods that only need samples read one pool a problem and seed; their seconds are those until the "
    "last sample was drawn."
)
ABOUT_MATCHED = (
    "Between two limits a method's accuracy is that of a mixture of both. A method that cannot spend so much is shown with the "
    "most that it spends; a dash: its smallest limit already costs more."
)
ABOUT_QUALITY = (
    "Under the largest limit. AUC: the chance that a right answer's value lies above a wrong one's. Wasted: expanded nodes below "
    "which no solution was finished. Repeated: generated tokens that are in no node, said before or thrown away. Right within: "
    "problems with a right solution anywhere after so many tokens. " + ERRORS.format("problems")
)
ABOUT_PASS = f"The chance that one of k samples is right: no method's answer. {ERRORS.format('problems')}"


def report_tables(report: EvaluationReport) -> list[Table]:
    """Return the tables of a report, in order."""
    table = report.table
    tables = [limit_table(table)]
    if table.budgets:
        tables.append(matched_table(table))
    tables.append(quality_table(report.qualities, table.budgets))
    if report.pass_at:
        columns = tuple(f"pass@{k}" for k in report.pass_at)
        tables.append(
            Table("Pass@k of the samples", columns, (tuple(map(percent, report.pass_at.values())),), ABOUT_PASS)
        )
    return tables


def limit_table(table: OutcomeTable, costs_shown: Sequence[str] = COSTS) -> Table:
    """Return the main table: a row a method and budget, what it answered and what that cost."""
    costs = (name.replace("_", " ") for name in costs_shown)
    rows = []
    for one in table.summaries():
        spent = (one.costs[name] if name == "seconds" else round(one.costs[name]) for name in costs_shown)
        shares = (percent(one.any_right), percent(one.undecided))
        rows.append((named(one.method, one.models), one.budget, percent(one.accuracy), *spent, *shares))
    return Table(
        LIMIT_TITLE, ("method", "limit", "accuracy", *costs, "any right", "undecided"), tuple(rows), ABOUT_LIMIT
    )


def matched_table(table: OutcomeTable) -> Table:
    """Return accuracies at equal numbers of tokens really spent: a row a method, a column a
    number.
    """
    by_method: dict[str, dict[int, str]] = {}
    for row in table.compute_matched():
        by_method.setdefault(named(row.method, row.models), {})[row.tokens] = percent(row.accuracy)
    rows = tuple((name, *(cells[tokens] for tokens in table.budgets)) for name, cells in by_method.items())
    return Table(MATCHED_TITLE, ("method", *(f"{tokens:,}" for tokens in table.budgets)), rows, ABOUT_MATCHED)


def quality_table(qualities: Sequence[SearchQuality], budgets: Sequence[int]) -> Table:
    """Return a row a method: value against truth, waste, depth, and when a right solution was
    there.
    """
    columns = ("method", "AUC", "wasted", "repeated", "depth", *(f"right within {limit:,}" for limit in budgets))
    rows = tuple(_quality_row(one, budgets) for one in qualities)
    return Table("How the tokens were spent", columns, rows, ABOUT_QUALITY)


def _quality_row(one: SearchQuality, budgets: Sequence[int]) -> tuple[CellValue, ...]:
    area = one.auc.as_decimal() if one.auc is not None else None
    figures = (area, percent(one.wasted), percent(one.repeated), with_error(one.mean_depth))
    return (named(one.method, one.models), *figures, *(percent(one.solved_within.get(limit)) for limit in budgets))


def named(method: str, models: str) -> str:
    """Return the name of a cell's row: the method, and the pair of models where there are
    several.
    """
    return f"{method} ({models})" if models else method


def summarise(table: OutcomeTable) -> list[str]:
    """Return the sentences; they claim a difference only where its standard error allows it."""
    sentences = [_best(table, budget, models) for models in table.models for budget in table.budgets]
    sentences += _failures(table)
    errors = "problems and seeds" if table.num_seeds > 1 else "problems alone, since there was one seed"
    if table.num_seen:
        sentences.append(
            f"{table.num_seen:,} of {counted(table.num_problems, 'problem')} in the training data of a model: they are "
            "marked as seen in outcomes.csv, and results.json has every accuracy without them too."
        )
    sentences.append(f"Standard errors are over {errors}; differences are paired by problem.")
    return [sentence for sentence in sentences if sentence]


def _failures(table: OutcomeTable) -> list[str]:
    """Return a sentence where a model or a worker failed: such answers are not the method's."""
    failed: Counter[str] = Counter()
    for one in table.summaries():
        failed[named(one.method, one.models)] += one.failed
    names = ", ".join(f"{name} {count:,}" for name, count in failed.items() if count)
    if not names:
        return []
    return [
        f"{failed.total():,} of {counted(sum(map(len, table.cells.values())), 'answer')} failed and count as not right ({names}); "
        "restmcts ui shows why."
    ]


def _best(table: OutcomeTable, budget: int, models: str) -> str:
    keys = [key for key in table.cells if key[1] == budget and key[2] == models]
    ranked = sorted(keys, key=lambda key: -table.summary(key).accuracy.value)
    if len(ranked) < 2:
        return ""
    best, second = ranked[:2]
    opening = f"{models}: under" if models else "Under"
    opening += f" a limit of {budget:,} tokens a problem, "
    ahead = table.difference(best, second)
    tokens = [table.summary(key).costs["tokens"] for key in (best, second)]
    sentence = leader(opening, best[0], second[0], table.summary(best).accuracy, ahead)
    sentence += f" On average {best[0]} spent {tokens[0]:,.0f} tokens and {second[0]} {tokens[1]:,.0f}."
    rival = next((key for key in ranked if _only_samples(key[0])), None)
    if ahead.value == 0.0 or rival is None or rival == second or _only_samples(best[0]):
        return sentence
    gained = table.difference(best, rival)
    return f"{sentence} The best that only samples is {rival[0]}, {points(gained)} behind{against_noise(gained)}."


def _only_samples(method: str) -> bool:
    return method in ANSWERING and ANSWERING.get(method).search.reads_pool
