"""A reward model on a run's trees, as tables, one JSON document and sentences."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup
from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.separation import CHANCE, is_above_chance
from restmcts.domain.stats.tree_values import StepOrder, TreeValues
from restmcts.domain.stats.value_choices import LOG_PROB_WEIGHT, Choice
from restmcts.domain.text import counted
from restmcts.reporting.figures import NONE, decimal, percent
from restmcts.reporting.line_charts import Point, Series, accuracy_axis, line_chart, number_axis
from restmcts.reporting.tables import Table
from restmcts.reporting.truth import unchecked_verdicts

_ERRORS_OF_95_PERCENT = 1.96
_COMBINED = f"V + {LOG_PROB_WEIGHT:g} log p"
_SCORES = {"likelihood": "the policy's likelihood, a token", "combined": _COMBINED}


@dataclass(frozen=True, slots=True)
class RunBench:
    """A model on the labelled trees of a run, what its values buy there, and what scoring took.

    Attributes:
        mark: the word beside each figure: "unchecked" where no probe checks the run's verdicts.
        orders: of the same steps, by what else they can be ordered.
    """

    model: str
    format: str
    run: str
    mark: str
    phase: str | None
    figures: TreeValues
    orders: tuple[StepOrder, ...]
    choices: tuple[Choice, ...]
    num_trees: int
    num_paths: int
    refused: int
    tokens: int
    seconds: float


def run_sentences(result: RunBench) -> list[str]:
    """Return what the numbers come to, as sentences."""
    found = result.figures
    said = [
        f"{counted(found.num_steps, 'labelled step')} of {counted(result.num_trees, 'tree')} of "
        f"{counted(found.num_problems, 'problem')}; "
        "errors are over problems.",
        *([unchecked_verdicts(f"run {result.run}")] if result.mark else []),
        _about(found.auc, "A step that led to a right answer has a higher value than one that did not", "AUC", result),
        _about(
            found.siblings,
            "Of two steps after the same ones the right one has the higher value",
            "sibling accuracy",
            result,
        ),
    ]
    said += [
        f"By {_SCORES[order.by]}: AUC {_with_error(order.auc, result)}, sibling accuracy {_with_error(order.siblings, result)}."
        for order in result.orders
        if order.auc is not None and order.siblings is not None
    ]
    if found.calibration_error is not None:
        said.append(
            f"As chances of leading to a right answer its values are off by {_with_error(found.calibration_error, result)} on "
            "average (expected calibration error)."
        )
    said += _about_choices(result)
    said.append(
        f"{counted(result.tokens, 'token')} in {result.seconds:.1f} s of scoring: "
        f"{result.tokens / result.seconds if result.seconds else 0.0:,.0f} a second."
    )
    if result.refused:
        said.append(f"{result.refused:,} of {counted(result.num_paths, 'path')} refused by the model, and left out.")
    return said


def _about(figure: Estimate | None, opening: str, name: str, result: RunBench) -> str:
    if figure is None:
        return f"{opening}: not measured, one of the two kinds is missing ({name})."
    verdict = ""
    if figure.interval[1] < CHANCE:
        verdict = "; it is worse than chance"
    elif not is_above_chance(figure):
        verdict = "; it is no better than chance"
    return f"{opening} with chance {_with_error(figure, result)} ({name}; 0.50 is a guess){verdict}."


def _about_choices(result: RunBench) -> Iterator[str]:
    """Yield what choosing among most solutions comes to."""
    drawn = [choice for choice in result.choices if choice.way.startswith("best of")]
    if not drawn:
        return
    widest = drawn[-1]
    gain = widest.gain
    verdict = ""
    if abs(gain.value) <= _ERRORS_OF_95_PERCENT * gain.standard_error:
        verdict = "; that is no difference beyond its error"
    yield (
        f"Choosing the {widest.way} solutions by its values is right in {_share(widest.model, result)} of "
        f"{widest.model.n:,} problems, in points {_points(gain, result)} more than at random, at the same tokens{verdict}."
    )


def _share(figure: Estimate, result: RunBench) -> str:
    return f"{percent(figure)} {result.mark}".rstrip()


def _points(difference: Estimate | None, result: RunBench) -> str:
    if difference is None:
        return NONE
    return f"{100 * difference.value:+.1f} ± {100 * difference.standard_error:.1f} {result.mark}".rstrip()


def _with_error(figure: Estimate, result: RunBench) -> str:
    return f"{figure.value:.3f} ± {figure.standard_error:.3f} {result.mark}".rstrip()


def run_tables(result: RunBench) -> list[Table]:
    """Return calibration, and ranks by depth."""
    found = result.figures
    bins = tuple(
        (decimal(one.mean_value, 3), one.share_right.n, f"{percent(one.share_right.value)} {result.mark}".rstrip())
        for one in found.bins
    )
    depths = tuple(
        (str(one.depth), one.num_steps, NONE if one.correlation is None else _with_error(one.correlation, result))
        for one in found.by_depth
    )
    return [
        Table(
            f"{result.model} on run {result.run}: calibration",
            ("mean value", "steps", "led to a right answer"),
            bins,
            "Steps by tenths of their value. Values that are chances of a right answer equal the share.",
        ),
        Table(
            "Value and right leaves, by depth",
            ("depth", "steps", "rank correlation"),
            depths,
            "Spearman's correlation of a step's value with the share of right ones among the leaves below it; a dash "
            "where either does not vary, or there are too few steps.",
        ),
        _order_table(result),
        *_choice_tables(result),
    ]


def _order_table(result: RunBench) -> Table:
    model = StepOrder("model", result.figures.auc, result.figures.siblings)
    rows = (
        *(
            (
                _SCORES.get(order.by, result.model),
                *(NONE if each is None else _with_error(each, result) for each in (order.auc, order.siblings)),
            )
            for order in (model, *result.orders)
        ),
        ("random", decimal(CHANCE, 3), decimal(CHANCE, 3)),
    )
    return Table(
        "Who orders steps best",
        ("steps by", "AUC", "sibling accuracy"),
        rows,
        "AUC: the chance that a step that led to a right answer is above one that did not; sibling accuracy: the same of "
        f"two steps after the same ones. {_COMBINED} is the score by which a best-first search chooses. Errors are over "
        "problems.",
    )


def _choice_tables(result: RunBench) -> list[Table]:
    if not result.choices:
        return []
    shares = tuple(
        (
            one.way,
            f"{one.tokens:,.0f}",
            _share(one.model, result),
            *(NONE if each is None else _share(each, result) for each in (one.likelihood, one.combined)),
            _share(one.at_random, result),
            _share(one.any_right, result),
        )
        for one in result.choices
    )
    gains = tuple(
        (
            one.way,
            _points(one.gain, result),
            _points(one.gain_over_likelihood, result),
            _points(one.combined_over_likelihood, result),
        )
        for one in result.choices
    )
    return [
        Table(
            "What its values buy at equal tokens",
            ("way", "tokens", "the model", "likelihood", _COMBINED, "random", "a right one is there"),
            shares,
            "Best of N: of N samples that are drawn from those of a tree, the one of best score; the mean over all draws. "
            "Best-first: the tree's steps are met in order of their score until the tokens are spent. Likelihood: the "
            f"policy's, a token. {_COMBINED}: the model's value and a tenth of the log-probability of the solution so far. "
            "Errors are over problems.",
        ),
        Table(
            "Gains at equal tokens, in points",
            ("way", "the model over random", "the model over likelihood", f"{_COMBINED} over likelihood"),
            gains,
            "Differences of the table above, paired by problem.",
        ),
    ]


def calibration_chart(result: RunBench) -> Markup:
    """Return the share of steps that led to a right answer against their value."""
    bins = Series(result.model, tuple(Point.of(one.mean_value, one.share_right) for one in result.figures.bins))
    diagonal = Series("a chance", (Point(0.0, 0.0), Point(1.0, 1.0)), dashed=True)
    series = [bins, diagonal]
    return line_chart(
        f"Calibration {result.mark}".rstrip(), number_axis("Value", [0.0, 1.0]), accuracy_axis(series), series
    )


def run_document(result: RunBench) -> dict[str, Any]:
    """Return the results for programs."""
    figures = asdict(result.figures)
    return {
        "model": result.model,
        "format": result.format,
        "on": f"run:{result.run}",
        "unchecked": bool(result.mark),
        "phase": result.phase,
        **figures,
        "orders": [asdict(one) for one in result.orders],
        "choices": [asdict(one) for one in result.choices],
        "headline": {"name": "AUC", "value": figures["auc"] and figures["auc"]["value"]},
        "trees": result.num_trees,
        "paths": result.num_paths,
        "refused": result.refused,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 3),
        "tokens_per_second": round(result.tokens / result.seconds, 1) if result.seconds else None,
        "says": run_sentences(result),
    }
