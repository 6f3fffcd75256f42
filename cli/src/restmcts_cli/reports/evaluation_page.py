"""An evaluation's report as one self-contained HTML page."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from restmcts.domain.stats.outcomes import OutcomeTable
from restmcts.domain.stats.search_quality import SearchQuality
from restmcts.reporting.line_charts import (
    NUM_COLOURS,
    Point,
    Series,
    accuracy_axis,
    category_axis,
    line_chart,
    number_axis,
)
from restmcts.reporting.tree_pictures import draw_tree, tree_legend

from restmcts_cli.reports.evaluation_tables import EvaluationReport, named, report_tables, summarise


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing under its title."""

    title: str
    drawing: Markup


def render_evaluation(report: EvaluationReport) -> str:
    """Return the page; every text of the report is escaped."""
    environment = Environment(
        loader=PackageLoader("restmcts_cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = report.table
    return environment.get_template("evaluation.html.j2").render(
        report=report,
        sentences=summarise(table),
        accuracy_charts=[*_by_tokens(table), *_by_models(table)],
        tables=report_tables(report),
        calibration=_calibration(report.qualities),
        draw_tree=draw_tree,
        tree_legend=tree_legend,
        num_colours=NUM_COLOURS,
    )


def _by_tokens(table: OutcomeTable) -> list[Chart]:
    """Return accuracy against tokens, a line a method: one chart a pair of models."""
    charts = []
    for models in table.models:
        lines: dict[str, list[Point]] = defaultdict(list)
        for one in table.summaries():
            if one.models == models:
                lines[one.method].append(Point.of(one.costs["tokens"], one.accuracy))
        series = [Series(name, tuple(sorted(points, key=lambda point: point.x))) for name, points in lines.items()]
        x_axis = number_axis(
            "Tokens generated a problem", [0.0, *(p.x for one in series for p in one.points)], floor=0.0
        )
        title = "Accuracy against tokens" + (f", {models}" if models else "")
        charts.append(Chart(title, line_chart(title, x_axis, accuracy_axis(series), series)))
    return charts


def _by_models(table: OutcomeTable) -> list[Chart]:
    """Return accuracy by iteration, a line a method under the largest limit; nothing where
    there is one pair of models.
    """
    if len(table.models) < 2:
        return []
    largest = max(table.budgets, default=None)
    lines: dict[str, list[Point]] = defaultdict(list)
    for one in table.summaries():
        if one.budget in (None, largest):
            place = table.models.index(one.models)
            lines[one.method].append(Point.of(float(place), one.accuracy))
    series = [Series(name, tuple(points)) for name, points in lines.items()]
    title = "Accuracy by iteration" + (f", limit {largest:,} tokens a problem" if largest is not None else "")
    return [Chart(title, line_chart(title, category_axis("Models", table.models), accuracy_axis(series), series))]


def _calibration(qualities: Sequence[SearchQuality]) -> Markup:
    series = [
        Series(
            named(quality.method, quality.models),
            tuple(Point.of(one.mean_value, one.share_right) for one in quality.bins),
        )
        for quality in qualities
        if len(quality.bins) > 1
    ]
    if not series:
        return Markup("")
    diagonal = Series("a chance", (Point(0.0, 0.0), Point(1.0, 1.0)), dashed=True)
    x_axis = number_axis("Value at the answer's end", [0.0, 1.0])
    return line_chart("Calibration", x_axis, accuracy_axis([*series, diagonal]), [*series, diagonal])
