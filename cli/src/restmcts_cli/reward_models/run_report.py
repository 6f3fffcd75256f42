"""A reward model on a run's trees, as tables, one JSON document and sentences."""

from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup
from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.separation import CHANCE, is_above_chance
from restmcts.domain.stats.tree_values import TreeValues
from restmcts.reporting.figures import NONE, decimal, percent
from restmcts.reporting.line_charts import Point, Series, accuracy_axis, line_chart, number_axis
from restmcts.reporting.tables import Table
from restmcts.reporting.truth import unchecked_verdicts


@dataclass(frozen=True, slots=True)
class RunBench:
    """A model on the labelled trees of a run, and what scoring them took.

    Attributes:
        mark: the word beside each figure: "unchecked" where no probe checks the run's verdicts.
    """

    model: str
    format: str
    run: str
    mark: str
    phase: str | None
    figures: TreeValues
    num_trees: int
    num_paths: int
    refused: int
    tokens: int
    seconds: float


def run_sentences(result: RunBench) -> list[str]:
    """Return what the numbers come to, as sentences."""
    found = result.figures
    said = [
        f"{found.num_steps:,} labelled steps of {result.num_trees:,} trees of {found.num_problems:,} problems; "
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
    if found.calibration_error is not None:
        said.append(
            f"As chances of leading to a right answer its values are off by {_with_error(found.calibration_error, result)} on "
            "average (expected calibration error)."
        )
    said.append(
        f"{result.tokens:,} tokens in {result.seconds:.1f} s of scoring: "
        f"{result.tokens / result.seconds if result.seconds else 0.0:,.0f} a second."
    )
    if result.refused:
        said.append(f"{result.refused} of {result.num_paths} paths were refused by the model and are left out.")
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
        "headline": {"name": "AUC", "value": figures["auc"] and figures["auc"]["value"]},
        "trees": result.num_trees,
        "paths": result.num_paths,
        "refused": result.refused,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 3),
        "tokens_per_second": round(result.tokens / result.seconds, 1) if result.seconds else None,
        "says": run_sentences(result),
    }
