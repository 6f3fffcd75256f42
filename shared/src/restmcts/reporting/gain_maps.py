"""Gains of methods against how often the first policy is right, as a table and as a picture."""

from collections.abc import Sequence

from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.gains import MethodGain
from restmcts.domain.text import counted
from restmcts.reporting.line_charts import Axis, Point, Series, number_axis, standalone_chart
from restmcts.reporting.tables import Table


def gain_table(gains: Sequence[MethodGain], over: str) -> Table:
    """Return a row for each setting and method."""
    columns = ("", "method", "first policy", f"over {over}", "ahead in")
    rows = tuple(
        (
            one.setting,
            one.method,
            f"{100 * one.first.value:.1f} %{_error(one.first)}",
            f"{100 * one.gain.value:+.1f}{_error(one.gain)}",
            f"{one.num_ahead} of {counted(one.num_seeds, 'seed')}",
        )
        for one in gains
    )
    return Table("", columns, rows, "± is one standard error over seeds; gains are points of accuracy.")


def _error(figure: Estimate) -> str:
    return f" ± {100 * figure.standard_error:.1f}" if figure.n > 1 else ""


def gain_picture(gains: Sequence[MethodGain], over: str) -> str:
    """Return the picture as a whole SVG file: a line a method, a point a setting, with errors."""
    methods = dict.fromkeys(one.method for one in gains)
    series = [
        Series(
            method,
            tuple(
                Point(one.first.value, one.gain.value, one.gain.standard_error)
                for one in sorted(gains, key=lambda one: one.first.value)
                if one.method == method
            ),
        )
        for method in methods
    ]
    return standalone_chart(f"Gain over {over} at equal tokens", _across(gains), _up(gains, over), series)


def _across(gains: Sequence[MethodGain]) -> Axis:
    places = [0.0, *(one.first.value for one in gains)]
    return number_axis("Accuracy of the first policy", places, as_percent=True, floor=0.0)


def _up(gains: Sequence[MethodGain], over: str) -> Axis:
    ends = [one.gain.value + sign * one.gain.standard_error for one in gains for sign in (-1, 1)]
    return number_axis(f"Gain over {over}, points", [0.0, *ends], as_percent=True)
