"""A run's report, as one self-contained HTML page and as tables for the terminal. Says only
what is in the `Report` it is given.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from restmcts.errors import StorageError
from restmcts.reporting.line_charts import (
    NUM_COLOURS,
    Point,
    Series,
    accuracy_axis,
    category_axis,
    line_chart,
    number_axis,
)
from rich.console import Group
from rich.table import Table
from rich.text import Text

from restmcts_cli.reports.run_report_data import IterationResult, Report, SearchResult, ValueQuality
from restmcts_cli.reports.run_summary import percent, summarise
from restmcts_cli.reports.tree_pictures import MAX_NODES, draw_tree


def write_report(report: Report, path: Path) -> None:
    """Write the page, whole or not at all; it needs no network and no other file.

    Raises:
        StorageError: if the disk does not take it.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A model may write lone surrogates, which UTF-8 cannot hold.
        unfinished.write_text(render_page(report), encoding="utf-8", errors="replace")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        reason = error.strerror or error
        raise StorageError(
            f"cannot write the report {path}: {reason}; free some space or choose another folder"
        ) from error


def render_page(report: Report) -> str:
    """Return the page as HTML; every text of the report is escaped."""
    environment = Environment(
        loader=PackageLoader("restmcts_cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        sentences=summarise(report),
        has_accuracy=_has_accuracy(report),
        has_control=_has_control(report),
        iterations_chart=_iterations_chart(report.iterations),
        search_chart=_search_chart(report.search),
        values_chart=_values_chart(report.values),
        tree=draw_tree(report.tree) if report.tree is not None else "",
        percent=percent,
        decimal=_decimal,
        num_colours=NUM_COLOURS,
        max_nodes=MAX_NODES,
    )


def render_table(report: Report) -> Group:
    """Return the tables and sentences of the report for a rich console."""
    parts: list[Table | Text] = []
    if report.iterations:
        parts.append(_iterations_table(report))
    if report.search:
        parts.append(_search_table(report.search))
    if report.values:
        parts.append(_values_table(report.values))
    parts += [Text(f"• {sentence}") for sentence in summarise(report)]
    return Group(*parts)


def _has_accuracy(report: Report) -> bool:
    return any(result.greedy is not None for result in report.iterations)


def _has_control(report: Report) -> bool:
    return any(result.control is not None for result in report.iterations)


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _iterations_chart(iterations: tuple[IterationResult, ...]) -> Markup:
    points, controls = [], []
    for place, result in enumerate(iterations):
        if result.greedy is not None:
            points.append(Point(place, result.greedy.accuracy.value, result.greedy.accuracy.standard_error))
        if result.control is not None:
            controls.append(Point(place, result.control.accuracy.value, result.control.accuracy.standard_error))
    if not points:
        return Markup("")
    series = [Series("Self-training, greedy", tuple(points))]
    if controls:
        # The control leaves the loop's line where both are still the base policy.
        series.append(Series("Control: demonstrations alone", (points[0], *controls), dashed=True))
    x_axis = category_axis("Iteration", [str(result.iteration) for result in iterations])
    return line_chart("Accuracy by iteration", x_axis, accuracy_axis(series), series)


def _search_chart(search: tuple[SearchResult, ...]) -> Markup:
    if not search:
        return Markup("")
    methods: dict[str, list[Point]] = defaultdict(list)
    for result in search:
        measured = result.graded.accuracy
        methods[result.method].append(Point(result.mean_tokens, measured.value, measured.standard_error))
    series = [Series(name, tuple(sorted(points, key=lambda p: p.x))) for name, points in methods.items()]
    x_axis = number_axis("Tokens generated a problem", [0.0, *(result.mean_tokens for result in search)], floor=0.0)
    return line_chart("Accuracy against tokens", x_axis, accuracy_axis(series), series)


def _values_chart(values: tuple[ValueQuality, ...]) -> Markup:
    met = {point.distance for quality in values for point in quality.points}
    order = sorted(met, key=lambda distance: (distance is None, distance or 0))
    if not order:
        return Markup("")
    places = {distance: place for place, distance in enumerate(order)}
    series = [
        Series(
            q.name,
            tuple(Point(places[p.distance], p.mean_value, p.standard_error, p.distance is None) for p in q.points),
        )
        for q in values
    ]
    names = ["unsolvable" if distance is None else str(distance) for distance in order]
    ends = [end for one in series for p in one.points for end in (p.y - p.error, p.y + p.error)]
    y_axis = number_axis("Mean predicted value", [0.0, *ends], floor=0.0)
    return line_chart(
        "Predicted value against exact distance", category_axis("Moves still needed", names), y_axis, series
    )


def _iterations_table(report: Report) -> Table:
    columns = [
        "iteration",
        *(["greedy"] if _has_accuracy(report) else []),
        *(["control"] if _has_control(report) else []),
    ]
    columns += ["trees", "solved", "tokens", "traces learnt", "values learnt"]
    table = _table("Accuracy by iteration" if _has_accuracy(report) else "Iterations", columns)
    for result in report.iterations:
        cells = [str(result.iteration)]
        if _has_accuracy(report):
            cells.append(percent(result.greedy) if result.greedy is not None else "–")
        if _has_control(report):
            cells.append(percent(result.control) if result.control is not None else "–")
        counts = (
            result.num_trees,
            result.num_solved,
            result.num_tokens,
            result.num_policy_samples,
            result.num_value_samples,
        )
        table.add_row(*cells, *(f"{count:,}" for count in counts))
    return table


def _search_table(search: tuple[SearchResult, ...]) -> Table:
    table = _table("Accuracy against tokens", ["method", "limit", "tokens spent", "accuracy"])
    for result in search:
        limit = "none" if result.budget_tokens is None else f"{result.budget_tokens:,}"
        table.add_row(Text(result.method), limit, f"{result.mean_tokens:,.0f}", percent(result.graded))
    return table


def _values_table(values: tuple[ValueQuality, ...]) -> Table:
    table = _table("Value against exact distance", ["value model", "AUC, still solvable", "rank correlation"])
    for quality in values:
        table.add_row(Text(quality.name), _decimal(quality.auc_solvable), _decimal(quality.correlation))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table
