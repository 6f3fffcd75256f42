"""Line charts as inline SVG, coloured by the page's CSS so that they follow its light and dark.
Knows nothing of what they show.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from restmcts.domain.stats.estimates import Estimate
from restmcts.reporting.figures import percent

NUM_COLOURS = 7
_WIDTH, _HEIGHT = 560, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 14, 48
_INSET = 8
"""Room between an edge of the axes and the first and last place, for error bars."""
_LONG_TICK = 4
"""Characters from which the last tick's text ends at the edge: centred, it would be cut off."""
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-4.8L4.6 3.6H-4.6z",
    "M0-5L5 0L0 5L-5 0z",
)


@dataclass(frozen=True, slots=True)
class Point:
    """A point with the half length of its error bar, in units of the data; a detached one is
    not joined to the one before. `figure` is the share that it shows, where it is one.
    """

    x: float
    y: float
    error: float = 0.0
    detached: bool = False
    figure: Estimate | None = None

    @classmethod
    def of(cls, x: float, figure: Estimate, *, detached: bool = False) -> "Point":
        """Return a share as a point with the interval that tables show of it."""
        return cls(x, figure.value, figure.standard_error, detached, figure)

    @property
    def bar(self) -> tuple[float, float]:
        """The ends of its error bar."""
        if self.figure is not None:
            return self.figure.shown_interval
        return self.y - self.error, self.y + self.error


@dataclass(frozen=True, slots=True)
class Series:
    """A named line through its points, in their order; a dashed one is a comparison."""

    name: str
    points: tuple[Point, ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened at a place of the x axis, and whether it is good."""

    x: float
    text: str
    good: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its label, range and ticks as (place, text); `low` is below `high`.

    Attributes:
        of_shares: whether its values are shown as per cents.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    of_shares: bool = False


def category_axis(label: str, names: Sequence[str]) -> Axis:
    """Return an axis with a tick at 0, 1, 2 … for each name."""
    return Axis(label, -0.4, len(names) - 0.6, tuple((float(place), name) for place, name in enumerate(names)))


def number_axis(label: str, values: Iterable[float], *, as_percent: bool = False, floor: float | None = None) -> Axis:
    """Return an axis with round ticks around the values; `floor` is a lower end that it never
    goes below.
    """
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    step = _round_step((high - low) or abs(high) or 1.0)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    if floor is not None:
        low = max(low, floor)
    high = max(high, low + step)
    num_ticks = round((high - low) / step)
    places = [low + index * step for index in range(num_ticks + 1)]
    texts = [f"{100 * place:.3g} %" if as_percent else f"{place:,.10g}" for place in (round(p, 10) for p in places)]
    return Axis(label, low, high, tuple(zip(places, texts, strict=True)), as_percent)


def accuracy_axis(series: Sequence[Series]) -> Axis:
    """Return an axis of per cents from 0 that holds the series with their error bars."""
    ends = [min(max(end, 0.0), 1.0) for one in series for point in one.points for end in point.bar]
    return number_axis("Accuracy", [0.0, *ends], as_percent=True, floor=0.0)


def line_chart(
    title: str,
    x_axis: Axis,
    y_axis: Axis,
    series: Sequence[Series],
    *,
    levels: Sequence[tuple[str, float]] = (),
    moments: Sequence[Moment] = (),
    mark: str = "",
) -> Markup:
    """Return the chart as an `<svg>` with its legend below it; every text is escaped.

    Args:
        levels: horizontal lines, each with its name.
        moments: marks at the upper edge.
        mark: the word beside each figure.
    """
    marks = [*(_level(name, place, y_axis) for name, place in levels), *(_moment(one, x_axis) for one in moments)]
    lines = (_line(place, one, x_axis, y_axis, mark) for place, one in enumerate(series))
    body = Markup("").join([_grid(x_axis, y_axis), *marks, *lines])
    picture = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, title, body
    )
    legend = Markup("").join(_legend_entry(place, one) for place, one in enumerate(series))
    return Markup('<div class="scroll">{}</div><ul class="legend">{}</ul>').format(picture, legend)


_FILE_STYLE = """
svg { background: #ffffff; } text { fill: #1d2126; font: 12.5px system-ui, sans-serif; }
.tick, .label { fill: #5b636d; } .middle { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: #dfe2e6; fill: none; } .axis { stroke: #5b636d; fill: none; }
.line { fill: none; stroke: currentColor; stroke-width: 2; } .line.dashed { stroke-dasharray: 5 4; }
.error { fill: none; stroke: currentColor; stroke-width: 1.2; } .marker { fill: currentColor; }
.c0 { color: #2a6fdb; } .c1 { color: #b9560c; } .c2 { color: #17824a; } .c3 { color: #7d3fc0; }
.c4 { color: #b81f57; } .c5 { color: #0a7b8a; } .c6 { color: #75651f; }
"""


def standalone_chart(title: str, x_axis: Axis, y_axis: Axis, series: Sequence[Series]) -> str:
    """Return the chart as a whole SVG file with colours and a legend of its own; every text is
    escaped.
    """
    lines = [_line(place, one, x_axis, y_axis) for place, one in enumerate(series)]
    legend = Markup("").join(
        Markup('<g transform="translate({} {})"><g class="series c{}"><path class="line" d="M0 0H26"/>').format(
            _LEFT, _HEIGHT + 12 + 20 * place, place % NUM_COLOURS
        )
        + Markup('<path class="marker" transform="translate(13 0)" d="{}"/></g>').format(_marker(place))
        + Markup('<text x="34" y="4">{}</text></g>').format(one.name)
        for place, one in enumerate(series)
    )
    body = Markup("").join([_grid(x_axis, y_axis), *lines, legend])
    size = Markup('xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}"').format(
        _WIDTH, _HEIGHT + 20 * len(series) + 8
    )
    style = Markup("<style>{}</style>").format(Markup(_FILE_STYLE))
    return str(Markup("<svg {}><title>{}</title>{}{}</svg>\n").format(size, title, style, body))


def _round_step(span: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that cuts the span into at most five
    parts.
    """
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * 5 >= span * 0.999)


def _across(axis: Axis, value: float) -> float:
    width = _WIDTH - _LEFT - _RIGHT - 2 * _INSET
    return round(_LEFT + _INSET + (value - axis.low) / (axis.high - axis.low) * width, 1)


def _down(axis: Axis, value: float) -> float:
    return round(_HEIGHT - _BOTTOM - (value - axis.low) / (axis.high - axis.low) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _grid(x_axis: Axis, y_axis: Axis) -> Markup:
    parts: list[Markup] = []
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for place, text in y_axis.ticks:
        y = _down(y_axis, place)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(_LEFT, y, right))
        parts.append(Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(_LEFT - 8, y + 4, text))
    for place, text in x_axis.ticks:
        x = _across(x_axis, place)
        parts.append(Markup('<path class="axis" d="M{} {}v5"/>').format(x, bottom))
        at_edge = x >= right - _INSET and len(text) >= _LONG_TICK
        anchor, x = ("end", _WIDTH - 2) if at_edge else ("middle", x)
        parts.append(Markup('<text class="tick {}" x="{}" y="{}">{}</text>').format(anchor, x, bottom + 19, text))
    middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(_LEFT, bottom, right))
    parts.append(
        Markup('<text class="label middle" x="{}" y="{}">{}</text>').format(middle_x, _HEIGHT - 8, x_axis.label)
    )
    parts.append(
        Markup('<text class="label middle" transform="translate(13 {}) rotate(-90)">{}</text>').format(
            middle_y, y_axis.label
        )
    )
    return Markup("").join(parts)


def _level(name: str, place: float, y_axis: Axis) -> Markup:
    y, right = _down(y_axis, place), _WIDTH - _RIGHT
    return Markup('<path class="level" d="M{} {}H{}"/><text class="tick end" x="{}" y="{}">{}</text>').format(
        _LEFT, y, right, right, y - 5, name
    )


def _moment(moment: Moment, x_axis: Axis) -> Markup:
    x = _across(x_axis, moment.x)
    sign, kind = ("✓", "good") if moment.good else ("✗", "bad")
    line = Markup('<path class="moment" d="M{} {}V{}"/>').format(x, _TOP + 4, _HEIGHT - _BOTTOM)
    text = Markup('<text class="middle {}" x="{}" y="{}">{}<title>{}</title></text>')
    return line + text.format(kind, x, _TOP, sign, moment.text)


def _line(place: int, series: Series, x_axis: Axis, y_axis: Axis, mark: str = "") -> Markup:
    places = [(_across(x_axis, point.x), _down(y_axis, point.y)) for point in series.points]
    joined = [index > 0 and not point.detached for index, point in enumerate(series.points)]
    path = " ".join(f"{'L' if join else 'M'}{x} {y}" for join, (x, y) in zip(joined, places, strict=True))
    parts = [Markup('<path class="line{}" d="{}"/>').format(" dashed" if series.dashed else "", path)]
    for point, (x, y) in zip(series.points, places, strict=True):
        low, high = point.bar
        if high > low:
            top, bottom = _down(y_axis, min(high, y_axis.high)), _down(y_axis, max(low, y_axis.low))
            parts.append(
                Markup('<path class="error" d="M{0} {1}V{2}M{3} {1}h6M{3} {2}h6"/>').format(x, top, bottom, x - 3)
            )
        hint = f"{series.name}: {_value(point, y_axis)} {mark}".rstrip()
        parts.append(
            Markup('<path class="marker" transform="translate({} {})" d="{}"><title>{}</title></path>').format(
                x, y, _marker(place), escape(hint)
            )
        )
    return Markup('<g class="series c{}">{}</g>').format(place % NUM_COLOURS, Markup("").join(parts))


def _value(point: Point, axis: Axis) -> str:
    if axis.of_shares:
        return percent(point.figure if point.figure is not None else point.y)
    if point.figure is not None:
        return point.figure.as_decimal()
    return f"{point.y:.3f}" + (f" ± {point.error:.3f}" if point.error > 0.0 else "")


def _legend_entry(place: int, series: Series) -> Markup:
    swatch = Markup('<svg class="swatch series c{}" viewBox="0 0 26 12" aria-hidden="true">{}{}</svg>').format(
        place % NUM_COLOURS,
        Markup('<path class="line{}" d="M0 6H26"/>').format(" dashed" if series.dashed else ""),
        Markup('<path class="marker" transform="translate(13 6)" d="{}"/>').format(_marker(place)),
    )
    return Markup("<li>{} {}</li>").format(swatch, series.name)


def _marker(place: int) -> str:
    return _MARKERS[place % len(_MARKERS)]
