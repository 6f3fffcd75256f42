"""The charts of a run's page: accuracy, losses and value quality by iteration, and losses by
step.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from restmcts.adapters.sql.reads.queries import PhaseNumbers
from restmcts.reporting.line_charts import Point, Series, category_axis, line_chart, number_axis

NAMES = {"grade-policy": "Policy, greedy", "grade-base": "Policy, greedy", "grade-control": "Control: seed data alone"}
KINDS = {"train-policy": "Policy", "train-value": "Value model"}
MAX_TRAININGS = 4


def accuracy_chart(phases: Sequence[PhaseNumbers]) -> Markup:
    """Return the accuracy of what is evaluated in every iteration; empty where nothing is."""
    points: dict[str, list[Point]] = defaultdict(list)
    for phase in phases:
        stem = re.sub(r"-\d+$", "", phase.name)
        if phase.accuracy is not None and phase.state == "done" and stem.startswith("grade-"):
            name = NAMES.get(stem, stem.removeprefix("grade-"))
            points[name].append(Point.of(phase.iteration, phase.accuracy))
    ends = [
        end for series in points.values() for p in series for end in (max(p.y - p.error, 0.0), min(p.y + p.error, 1.0))
    ]
    return _chart("Accuracy by iteration", "Accuracy", points, [0.0, *ends], as_percent=True)


def loss_chart(phases: Sequence[PhaseNumbers]) -> Markup:
    """Return the last loss of every training; controls are left out, which are trained on other
    data.
    """
    points: dict[str, list[Point]] = defaultdict(list)
    for phase in phases:
        loss = phase.result.get("last_loss")
        if phase.kind in KINDS and loss is not None and not phase.name.startswith("control"):
            points[KINDS[phase.kind]].append(Point(phase.iteration, loss))
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


def quality_chart(phases: Sequence[PhaseNumbers], quality: Mapping[str, float]) -> Markup:
    """Return the AUC of the value model in every collecting phase."""
    collected = [phase for phase in phases if phase.purpose == "collect" and phase.name in quality]
    points = (
        {"V at verified ends": [Point(phase.iteration, quality[phase.name]) for phase in collected]}
        if collected
        else {}
    )
    return _chart(
        "Value model: AUC by iteration", "AUC", points, [0.5, 1.0, *(p.y for series in points.values() for p in series)]
    )


def _chart(
    title: str, label: str, points: Mapping[str, list[Point]], ends: Sequence[float], as_percent: bool = False
) -> Markup:
    if not points:
        return Markup("")
    last = max(int(point.x) for series in points.values() for point in series)
    series = [Series(name, tuple(own), dashed=name.startswith("Control")) for name, own in points.items()]
    x_axis = category_axis("Iteration", [str(place) for place in range(last + 1)])
    return line_chart(title, x_axis, number_axis(label, ends, as_percent=as_percent, floor=0.0), series)
