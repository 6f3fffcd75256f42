"""The charts of a run's page: accuracy, losses and value quality by iteration or by what was
spent, and losses by step; and those of several runs in one.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from markupsafe import Markup
from restmcts.adapters.sql.reads.queries import PhaseNumbers, tokens_after
from restmcts.domain.stats.estimates import Estimate
from restmcts.reporting.line_charts import Axis, Moment, Point, Series, category_axis, line_chart, number_axis

NAMES = {"grade-policy": "Policy, greedy", "grade-base": "Policy, greedy", "grade-control": "Control: seed data alone"}
KINDS = {"train-policy": "Policy", "train-value": "Value model"}
MAX_TRAININGS = 4
TOKENS = "Tokens generated for training data"
CHANCE = ("a guess", 0.5)
Across = Literal["iteration", "tokens"]
"""What a curve is drawn over."""

Points = Mapping[str, Sequence[Point]]


def accuracy_chart(phases: Sequence[PhaseNumbers], across: Across = "iteration", mark: str = "") -> Markup:
    """Return the accuracy of what is evaluated in every iteration, with the decisions on new
    policies; empty where nothing is.
    """
    points: dict[str, list[Point]] = defaultdict(list)
    for stem, place, phase in _evaluated(phases, across):
        if phase.accuracy is not None:
            points[NAMES.get(stem, stem.removeprefix("grade-"))].append(Point.of(place, phase.accuracy))
    return _accuracies(f"Accuracy by {across}", points, across, tuple(_decisions(phases, "policy", across)), mark)


def compared_charts(runs: Mapping[str, Sequence[PhaseNumbers]], across: Across) -> dict[str, Markup]:
    """Return charts with a line for each run, by title; those that would be empty are left out."""
    accuracy: dict[str, list[Point]] = {}
    solved: dict[str, list[Point]] = {}
    for name, phases in runs.items():
        found = [
            (place, phase)
            for stem, place, phase in _evaluated(phases, across)
            if NAMES.get(stem) == NAMES["grade-base"]
        ]
        accuracy[name] = [Point.of(place, phase.accuracy) for place, phase in found if phase.accuracy is not None]
        spent = tokens_after(phases)
        solved[name] = [
            Point(phase.place if across == "iteration" else spent[phase.name], phase.num_solved / phase.num_done)
            for phase in phases
            if phase.purpose == "collect" and phase.num_done
        ]
    titles = (f"Accuracy of the policy by {across}", f"Share of searched problems with a right end by {across}")
    drawn = {
        title: _accuracies(title, {name: own for name, own in points.items() if own}, across)
        for title, points in zip(titles, (accuracy, solved), strict=True)
    }
    return {title: chart for title, chart in drawn.items() if chart}


def _evaluated(phases: Sequence[PhaseNumbers], across: Across) -> Iterator[tuple[str, float, PhaseNumbers]]:
    spent = tokens_after(phases)
    for phase in phases:
        stem = re.sub(r"-\d+$", "", phase.name)
        if phase.state == "done" and stem.startswith("grade-"):
            yield stem, phase.place if across == "iteration" else spent[phase.name], phase


def _decisions(phases: Sequence[PhaseNumbers], kind: str, across: Across) -> Iterator[Moment]:
    spent = tokens_after(phases)
    for phase in phases:
        candidate = str(phase.result.get("candidate") or "")
        if phase.kind == "gate" and phase.state == "done" and candidate.startswith(kind):
            promoted = bool(phase.result.get("promoted"))
            place = phase.place if across == "iteration" else spent[phase.name]
            yield Moment(float(place), f"{candidate} was {'promoted' if promoted else 'rejected'}", promoted)


def _accuracies(title: str, points: Points, across: Across, moments: Sequence[Moment] = (), mark: str = "") -> Markup:
    ends = [min(max(end, 0.0), 1.0) for series in points.values() for point in series for end in point.bar]
    return _chart(title, "Accuracy", points, [0.0, *ends], across=across, as_percent=True, moments=moments, mark=mark)


def loss_chart(phases: Sequence[PhaseNumbers]) -> Markup:
    """Return the last loss of every training; controls are left out, which are trained on other
    data.
    """
    points: dict[str, list[Point]] = defaultdict(list)
    for phase in phases:
        loss = phase.result.get("last_loss")
        if phase.kind in KINDS and loss is not None and not phase.name.startswith("control"):
            points[KINDS[phase.kind]].append(Point(phase.place, loss))
    return _chart(
        "Last training loss by iteration", "Loss", points, [0.0, *(p.y for series in points.values() for p in series)]
    )


def step_losses_chart(phases: Sequence[PhaseNumbers], kind: str) -> Markup:
    """Return the losses of the last trainings of a kind, by step; empty where none are known."""
    trained = [phase for phase in phases if phase.kind == kind and phase.result.get("losses")][-MAX_TRAININGS:]
    if not trained:
        return Markup("")
    series = [
        Series(phase.name, tuple(Point(step, loss) for step, loss in phase.result["losses"])) for phase in trained
    ]
    points = [point for one in series for point in one.points]
    x_axis = number_axis("Step", [0.0, *(point.x for point in points)])
    y_axis = number_axis("Loss", [0.0, *(point.y for point in points)])
    return line_chart(f"{KINDS[kind]}: training loss by step", x_axis, y_axis, series)


def quality_chart(phases: Sequence[PhaseNumbers], quality: Mapping[str, Estimate], mark: str = "") -> Markup:
    """Return the AUC of the value model in every collecting phase, with the line of a guess and the
    decisions on new value models.
    """
    collected = [phase for phase in phases if phase.purpose == "collect" and phase.name in quality]
    points = (
        {"V at verified ends": [Point.of(phase.place, quality[phase.name]) for phase in collected]} if collected else {}
    )
    ends = [0.5, 1.0, *(max(point.bar[0], 0.0) for series in points.values() for point in series)]
    moments = tuple(_decisions(phases, "value", "iteration"))
    return _chart("Value model: AUC by iteration", "AUC", points, ends, levels=(CHANCE,), moments=moments, mark=mark)


def _chart(
    title: str,
    label: str,
    points: Points,
    ends: Sequence[float],
    *,
    across: Across = "iteration",
    as_percent: bool = False,
    levels: Sequence[tuple[str, float]] = (),
    moments: Sequence[Moment] = (),
    mark: str = "",
) -> Markup:
    if not points:
        return Markup("")
    series = [Series(name, tuple(own), dashed=name.startswith("Control")) for name, own in points.items()]
    x_axis = _iterations(points) if across == "iteration" else number_axis(TOKENS, _places(points), floor=0.0)
    y_axis = number_axis(label, ends, as_percent=as_percent, floor=0.0)
    within = [moment for moment in moments if x_axis.low <= moment.x <= x_axis.high]
    return line_chart(title, x_axis, y_axis, series, levels=levels, moments=within, mark=mark)


def _places(points: Points) -> list[float]:
    return [0.0, *(point.x for series in points.values() for point in series)]


def _iterations(points: Points) -> Axis:
    return category_axis("Iteration", [str(place) for place in range(int(max(_places(points))) + 1)])
