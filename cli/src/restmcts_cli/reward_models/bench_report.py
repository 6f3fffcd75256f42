"""A bench's results as tables, one JSON document and one self-contained HTML page."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from restmcts.domain.stats.estimates import Estimate
from restmcts.errors import StorageError
from restmcts.reporting.figures import decimal, percent
from restmcts.reporting.line_charts import NUM_COLOURS
from restmcts.reporting.tables import Table

from restmcts_cli.reward_models.results import BenchResult, Miss, SplitResult, label_in_words, sentences

PAGE = "report.html"


def bench_table(result: BenchResult) -> Table:
    """Return the splits' figures, a row each."""
    rows = [_row(split) for split in (*result.splits, *((result.whole,) if len(result.splits) > 1 else ()))]
    return Table(
        f"{result.model} on {result.on}",
        ("split", "solutions", "first wrong step", "none where right", "F1", "PRMScore", "AUC of steps"),
        tuple(rows),
        "First wrong step: share of the solutions with a wrong step whose first one is said exactly. None where right: "
        "share of those without one in which none is said. F1: their harmonic mean, in percent. PRMScore: half of the "
        "F1 of right and of wrong steps, in percent. AUC: the chance that a right step looks less wrong than a wrong "
        "one (0.50 is a guess); its error is over solutions.",
    )


def _row(split: SplitResult) -> tuple[str | int | None, ...]:
    first, area = split.first_errors, split.auc
    return (
        split.name,
        split.num,
        percent(first.of_wrong),
        percent(first.of_right),
        _hundred(first.f1),
        _hundred(split.steps.prm_score),
        None if area is None else f"{area.value:.2f} ± {area.standard_error:.2f}",
    )


def _hundred(share: float | None) -> str:
    return decimal(None if share is None else 100 * share, 1)


def bench_document(result: BenchResult) -> dict[str, Any]:
    """Return the results for programs."""
    name, value = result.headline
    return {
        "model": result.model,
        "format": result.format,
        "on": result.on,
        "rule": result.rule,
        "threshold": result.threshold.value,
        "threshold_from": result.threshold.source,
        "headline": {"name": name, "value": value},
        "mean_f1": result.mean_f1,
        "splits": [_split_document(split) for split in result.splits],
        "all": _split_document(result.whole),
        "tokens": result.tokens,
        "seconds": round(result.seconds, 3),
        "tokens_per_second": round(result.tokens / result.seconds, 1) if result.seconds else None,
        "misses": [_miss_document(miss) for miss in result.misses],
        "says": sentences(result),
    }


def _split_document(split: SplitResult) -> dict[str, Any]:
    first = split.first_errors
    return {
        "split": split.name,
        "solutions": split.num,
        "refused": split.refused,
        "first_wrong_step": _estimate(first.of_wrong),
        "none_where_right": _estimate(first.of_right),
        "f1": first.f1,
        "step_f1": split.steps.f1,
        "step_negative_f1": split.steps.negative_f1,
        "prm_score": split.steps.prm_score,
        "auc": _estimate(split.auc),
    }


def _estimate(figure: Estimate | None) -> dict[str, Any] | None:
    return None if figure is None else asdict(figure)


def _miss_document(miss: Miss) -> dict[str, Any]:
    one = miss.solution
    return {
        "split": one.split,
        "key": one.key,
        "label": one.first_error,
        "said": miss.said,
        "sureness": miss.sureness,
        "question": one.question,
        "steps": one.steps,
        "values": miss.values,
    }


def write_page(
    title: str,
    says: list[str],
    tables: list[Table],
    charts: dict[str, Markup],
    misses: list[dict[str, Any]],
    path: Path,
) -> None:
    """Write the page; every text is escaped, and a chart is above the table of its title.

    Raises:
        StorageError: if the disk does not take it.
    """
    environment = Environment(
        loader=PackageLoader("restmcts_cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("prm_bench.html.j2").render(
        title=title, sentences=says, tables=tables, charts=charts, misses=misses, num_colours=NUM_COLOURS
    )
    try:
        path.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}; free some space") from error


def shown_misses(result: BenchResult) -> list[dict[str, Any]]:
    """Return the worst misses as a page shows them."""
    return [
        {
            "title": f"{miss.solution.split} {miss.solution.key}",
            "question": miss.solution.question,
            "label": label_in_words(miss.solution.first_error if miss.solution.first_error is not None else -1),
            "said": label_in_words(miss.said),
            "steps": list(zip(miss.solution.steps, miss.values, strict=True)),
        }
        for miss in result.misses
    ]
