"""A run's report, as one self-contained HTML page and as tables for the terminal. Says only
what is in the `Report` it is given.
"""

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from restmcts.domain.stats.estimates import Figure
from restmcts.errors import StorageError
from restmcts.reporting.figures import ERRORS, duration, percent, with_error
from restmcts.reporting.line_charts import (
    NUM_COLOURS,
    Point,
    Series,
    accuracy_axis,
    category_axis,
    line_chart,
    number_axis,
)
from restmcts.reporting.tables import CellValue, Table
from restmcts.reporting.tree_pictures import MAX_NODES, draw_tree, tree_legend
from rich.console import Group
from rich.text import Text

from restmcts_cli.reports.run_report_data import Report, ValueQuality
from restmcts_cli.reports.run_summary import summarise


@dataclass(frozen=True, slots=True)
class Section:
    """A table and the chart that is drawn above it."""

    table: Table
    chart: Markup


def write_report(report: Report, path: Path) -> None:
    """Write the page, whole or not at all; it needs no network and no other file.

    Raises:
        StorageError: if the disk does not take it.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A model may write lone surrogates, which UTF-8 cannot encode.
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
        seconds=duration(report.seconds),
        sentences=summarise(report),
        sections=_sections(report),
        tree=draw_tree(report.tree) if report.tree is not None else "",
        legend=tree_legend(report.tree) if report.tree is not None else "",
        num_colours=NUM_COLOURS,
        max_nodes=MAX_NODES,
    )


def render_table(report: Report) -> Group:
    """Return the tables and sentences of the report for a rich console."""
    tables = [section.table.terminal() for section in _sections(report)]
    return Group(*tables, *(Text(f"• {sentence}") for sentence in summarise(report)))


def _sections(report: Report) -> list[Section]:
    sections = []
    if report.iterations:
        sections.append(Section(_iterations_table(report), _iterations_chart(report)))
    if report.search:
        sections.append(Section(_search_table(report), _search_chart(report)))
    if report.values:
        sections.append(Section(_values_table(report.values), _values_chart(report.values)))
    return sections


def _has_accuracy(report: Report) -> bool:
    return any(result.greedy is not None for result in report.iterations)


def _has_control(report: Report) -> bool:
    return any(result.control is not None for result in report.iterations)


def _has_beside(report: Report) -> bool:
    return any(result.beside is not None for result in report.iterations)


def _accuracy(figure: Figure | None, mark: str) -> str:
    return percent(figure.estimate if figure is not None else None, mark)


def _title(title: str, mark: str) -> str:
    return f"{title}, {mark}" if mark else title


def _iterations_chart(report: Report) -> Markup:
    points, controls, others = [], [], []
    for place, result in enumerate(report.iterations):
        if result.greedy is not None:
            points.append(Point.of(place, result.greedy.estimate))
        if result.control is not None:
            controls.append(Point.of(place, result.control.estimate))
        if result.beside is not None:
            others.append(Point.of(place, result.beside.estimate))
    if not points:
        return Markup("")
    series = [Series("Self-training, greedy", tuple(points))]
    if controls:
        # The control leaves the loop's line where both are still the base policy.
        series.append(Series("Control: demonstrations alone", (points[0], *controls), dashed=True))
    if others:
        series.append(Series(report.beside.line, (points[0], *others)))
    x_axis = category_axis("Iteration", [str(result.iteration) for result in report.iterations])
    return line_chart(
        _title("Accuracy by iteration", report.mark), x_axis, accuracy_axis(series), series, mark=report.mark
    )


def _search_chart(report: Report) -> Markup:
    search = report.search
    methods: dict[str, list[Point]] = defaultdict(list)
    for result in search:
        methods[result.method].append(Point.of(result.mean_tokens, result.accuracy.estimate))
    series = [Series(name, tuple(sorted(points, key=lambda p: p.x))) for name, points in methods.items()]
    x_axis = number_axis("Tokens generated a problem", [0.0, *(result.mean_tokens for result in search)], floor=0.0)
    return line_chart(
        _title("Accuracy against tokens", report.mark), x_axis, accuracy_axis(series), series, mark=report.mark
    )


def _values_chart(values: tuple[ValueQuality, ...]) -> Markup:
    met = {point.distance for quality in values for point in quality.points}
    order = sorted(met, key=lambda distance: (distance is None, distance or 0))
    if not order:
        return Markup("")
    places = {distance: place for place, distance in enumerate(order)}
    series = [
        Series(
            q.name,
            tuple(
                Point(places[p.distance], p.value.value, p.value.standard_error, p.distance is None) for p in q.points
            ),
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
    has_beside = _has_beside(report)
    measured = [("greedy", _has_accuracy(report)), (report.beside.name, has_beside), ("control", _has_control(report))]
    shown = [name for name, is_there in measured if is_there]
    rows: list[tuple[CellValue, ...]] = []
    for result in report.iterations:
        accuracies = {
            "greedy": _accuracy(result.greedy, report.mark),
            report.beside.name: _accuracy(result.beside, report.mark),
            "control": _accuracy(result.control, report.mark),
        }
        counts = (result.num_trees, result.num_solved, result.num_tokens)
        learnt = (result.num_policy_samples, result.num_value_samples)
        figure = result.greedy or result.beside or result.control
        evaluated = (figure.estimate.n if figure is not None else None,) if shown else ()
        rows.append((result.iteration, *(accuracies[name] for name in shown), *evaluated, *counts, *learnt))
    measured_on = ("problems",) if shown else ()
    columns = (
        *("iteration", *shown, *measured_on, "trees", "solved", "tokens"),
        *("traces learnt", "step values learnt"),
    )
    about = f"{ERRORS.format('the held-out problems')} “problems” are how many they are. " if shown else ""
    about += COUNTS
    if _has_control(report):
        about += (
            " The control starts from the same base policy and takes as many further steps on the demonstrations alone."
        )
    if has_beside:
        about += f" {report.beside.about}"
    title = _title("Accuracy by iteration" if _has_accuracy(report) else "Iterations", report.mark)
    return Table(title, columns, tuple(rows), about)


COUNTS = (
    "Trees are the problems that were searched for training, solved those with a right solution; tokens were generated "
    "in them. A policy learns each trace whole; a value model learns a value for every step of each solution among its "
    "rows, so that these are many more than its rows."
)


def _search_table(report: Report) -> Table:
    rows = tuple(
        (
            *(result.method, result.budget_tokens, round(result.mean_tokens), result.most_tokens),
            _accuracy(result.accuracy, report.mark),
            result.accuracy.estimate.n,
        )
        for result in report.search
    )
    about = (
        "Tokens are those generated for one problem; a dash: without a limit. At the limit nothing new is started, and what "
        "is under way is finished: it is not the most that is spent. Up and to the left is better."
    )
    columns = ("method", "limit", "spent on average", "at most", "accuracy", "problems")
    return Table(_title("Accuracy against tokens", report.mark), columns, rows, about)


def _values_table(values: tuple[ValueQuality, ...]) -> Table:
    rows = tuple(
        (
            quality.name,
            quality.auc.as_decimal() if quality.auc is not None else None,
            percent(quality.sibling_accuracy),
            with_error(quality.correlation),
            quality.auc.n if quality.auc is not None else None,
            sum(point.value.n for point in quality.points),
        )
        for quality in values
    )
    about = (
        "The exact distance is the number of moves still needed, found by exhaustive search. A good value model falls "
        "from left to right. AUC: the chance that a partial solution that can still be solved scores above one that "
        "cannot (0.50 is a guess). Sibling accuracy: the same of two next steps after the same ones, of which one is nearer to "
        "a right answer. Rank correlation: of value and nearness, among those that can be solved. "
        + ERRORS.format("problems")
    )
    columns = (
        "value model",
        "AUC, still solvable",
        "sibling accuracy",
        "rank correlation",
        "problems",
        "partial solutions",
    )
    return Table("Predicted value against exact distance", columns, rows, about)
