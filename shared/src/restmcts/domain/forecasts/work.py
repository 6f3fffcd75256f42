"""What the phases of a run will take, from what phases like them took: tokens, model calls, nodes,
time and disk.

Pure arithmetic: who measures, and where, is not known here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from restmcts.domain.runs.phases import (
    SEARCH_PHASE,
    Phase,
    PromotionPhase,
    SearchPhase,
    TrainPolicyPhase,
    TrainValuePhase,
)
from restmcts.domain.runs.plans import BASE
from restmcts.domain.runs.splits import size_of_round
from restmcts.domain.runs.training_settings import TrainingSettings

Source = Literal["probe", "earlier runs", "limits"]
"""Where a forecast is from: a probe of this run, runs of the same models that are done, or the
limits in the run's own settings."""

TIME_FACTORS: Mapping[Source, float] = {"probe": 3.0, "earlier runs": 1.3, "limits": math.inf}
"""By which the time may be missed in both directions: a margin, not an error of statistics."""

STANDARD_ERRORS = 2.0
CHANGE = {"tokens": 0.1, "calls": 0.25}
"""Share by which what a tree takes may change while the models learn, beside its error."""

LEAST_SLOPE = 0.25
"""Share of the mean cost of a tree that each further tree costs at least: two short measurements
on a busy machine may say that it costs nothing."""


@dataclass(frozen=True, slots=True)
class MeasuredSearch:
    """What a search phase took.

    Attributes:
        key: of `search_key`; phases of one key search alike.
        seconds: that the process spent on it; what several phases shared is divided among them.
        token_variance: of the tokens of single trees.
        policy: that searched, by its name in its run.
    """

    key: str
    num_trees: int
    tokens: int
    calls: int
    nodes: int
    seconds: float
    token_variance: float = 0.0
    policy: str = ""


@dataclass(frozen=True, slots=True)
class MeasuredTraining:
    """What a training phase took.

    Attributes:
        kind: "train-policy" or "train-value".
        step_examples: examples of each optimizer step.
        num_examples: all that it was trained on.
        num_sources: trees or given solutions that they are from.
        step_seconds: of one optimizer step.
        other_seconds: of loading, writing the data and saving.
    """

    kind: str
    step_examples: int
    num_examples: int
    num_sources: int
    step_seconds: float
    other_seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of the work of a run's phases.

    Attributes:
        node_bytes: of the database, a node of a tree.
        checkpoint_bytes: of a stored checkpoint, by kind.
    """

    source: Source
    searches: Sequence[MeasuredSearch] = ()
    trainings: Sequence[MeasuredTraining] = ()
    node_bytes: float | None = None
    checkpoint_bytes: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """An expected number within a range."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class PhaseForecast:
    """What a phase will take; None where nothing like it was measured.

    Attributes:
        num_trees: of a search, at most; 0 for a training.
        token_error: standard error of `tokens`.
        token_limit: what it cannot exceed; None: it has no limit.
    """

    name: str
    kind: str
    num_trees: int = 0
    num_steps: int | None = 0
    tokens: float | None = 0.0
    token_error: float = 0.0
    token_limit: int | None = 0
    calls: float | None = 0.0
    nodes: float | None = 0.0
    seconds: float | None = 0.0


@dataclass(frozen=True, slots=True)
class WorkForecast:
    """What a run will take; an amount is None where it is not known of one of the phases."""

    source: Source
    phases: Sequence[PhaseForecast]
    tokens: Amount | None
    calls: Amount | None
    seconds: Amount | None
    disk_bytes: Amount | None

    @property
    def unknown(self) -> list[str]:
        """The phases of which nothing like them was measured."""
        return [phase.name for phase in self.phases if phase.seconds is None]


@dataclass(frozen=True, slots=True)
class Machine:
    """How many trees are searched side by side, and how many trainings run so."""

    trees_in_flight: int
    trainings_at_once: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What of a stored run needs no work any more.

    Attributes:
        phases: names of those that have ended.
        trees: that have ended, by the name of a phase that searches.
        tokens: that were generated.
    """

    phases: frozenset[str] = frozenset()
    trees: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0


NOTHING_DONE = Progress()


def search_key(spec: Mapping[str, Any]) -> str:
    """Return what makes two search phases alike.

    Args:
        spec: the phase as JSON.
    """
    is_greedy = spec["purpose"] == "evaluate" and spec["search"].get("algorithm") == "cot"
    names = ["purpose", "search", *([] if is_greedy else ["budget", "samples_of", "hint", "allocates"])]
    return json.dumps([bool(spec[name]) if name == "samples_of" else spec[name] for name in names], sort_keys=True)


def forecast(
    phases: Sequence[Phase],
    sizes: Mapping[str, int],
    measured: Measured,
    machine: Machine,
    max_tokens: int | None,
    progress: Progress = NOTHING_DONE,
) -> WorkForecast:
    """Return what the phases of a run will take, but for those that have ended.

    Args:
        sizes: problems by set name.
        max_tokens: of the whole run, which pauses there; None: no limit.
        progress: what is done already. Trees and trainings that were started count in full.
    """
    trees = {
        phase.name: size_of_round(sizes.get(phase.problem_set, 0), phase.round)
        for phase in phases
        if isinstance(phase, SearchPhase)
    }
    phases = [phase for phase in phases if phase.name not in progress.phases]
    found = [_of_phase(phase, trees, progress.trees, sizes, measured, machine) for phase in phases]
    left = max(max_tokens - progress.tokens, 0) if max_tokens is not None else None
    factor = TIME_FACTORS[measured.source]
    seconds = None
    if all(one.seconds is not None for one in found):
        span = makespan(phases, {one.name: one.seconds or 0.0 for one in found}, machine.trainings_at_once)
        seconds = Amount(span / factor, span, span * factor)
    return WorkForecast(
        measured.source, found, _tokens(found, left), _calls(found), seconds, _disk(phases, found, measured)
    )


def _of_phase(
    phase: Phase,
    trees: Mapping[str, int],
    ended: Mapping[str, int],
    sizes: Mapping[str, int],
    measured: Measured,
    machine: Machine,
) -> PhaseForecast:
    match phase:
        case SearchPhase():
            return _of_search(phase, max(trees[phase.name] - ended.get(phase.name, 0), 0), measured, machine)
        case TrainPolicyPhase() | TrainValuePhase():
            num_sources = sum(trees[name] for name in phase.sources if name in trees)
            num_sources += sizes.get(phase.solutions_of, 0) if phase.solutions_of else 0
            return _of_training(phase.name, phase.kind, phase.training, num_sources, measured)
        case PromotionPhase():
            return PhaseForecast(phase.name, phase.kind)


def _of_search(phase: SearchPhase, num_trees: int, measured: Measured, machine: Machine) -> PhaseForecast:
    spec = SEARCH_PHASE.dump_python(phase, mode="json")
    alike = [one for one in measured.searches if one.key == search_key(spec) and one.num_trees]
    # A first policy may write on without an end, a trained one seldom does.
    of_policy = [one for one in alike if one.policy == phase.policy]
    alike = of_policy or [one for one in alike if one.policy != BASE] or alike
    limit = 0 if phase.samples_of else (num_trees * phase.budget.tokens if phase.budget.tokens is not None else None)
    if not alike:
        return PhaseForecast(
            phase.name, phase.kind, num_trees, tokens=None, token_limit=limit, calls=None, nodes=None, seconds=None
        )
    largest = max(one.num_trees for one in alike)
    best = [one for one in alike if one.num_trees == largest]
    share = num_trees / sum(one.num_trees for one in best)
    error = num_trees * math.sqrt(max(one.token_variance for one in best) / sum(one.num_trees for one in best))
    return PhaseForecast(
        phase.name,
        phase.kind,
        num_trees,
        tokens=share * sum(one.tokens for one in best),
        token_error=error,
        token_limit=limit,
        calls=share * sum(one.calls for one in best),
        nodes=share * sum(one.nodes for one in best),
        seconds=_search_seconds(alike, num_trees, machine.trees_in_flight),
    )


def _search_seconds(alike: Sequence[MeasuredSearch], num_trees: int, in_flight: int) -> float:
    """Return the time of a search: a part for every wave of trees in flight, and one for each tree.

    Models are called for many trees at once, so that a few trees cost more each than many do: the
    two largest measurements show how the cost grows.
    """
    by_size: dict[int, list[float]] = {}
    for one in alike:
        by_size.setdefault(one.num_trees, []).append(one.seconds)
    (large, cost), *smaller = sorted(((size, sum(one) / len(one)) for size, one in by_size.items()), reverse=True)[:2]
    a_tree = cost / large
    if smaller:
        (small, less) = smaller[0]
        a_tree = min(max((cost - less) / (large - small), LEAST_SLOPE * a_tree), a_tree)
    waves = math.ceil(num_trees / in_flight)
    return waves * max(cost - a_tree * large, 0.0) + a_tree * num_trees


def num_steps(training: TrainingSettings, num_examples: float) -> int:
    """Return the optimizer steps of a training on so many examples."""
    if training.num_steps is not None:
        return training.num_steps
    return training.num_epochs * math.ceil(num_examples / (training.batch_size * training.gradient_accumulation))


def _of_training(
    name: str, kind: str, training: TrainingSettings, num_sources: int, measured: Measured
) -> PhaseForecast:
    alike = [one for one in measured.trainings if one.kind == kind] or list(measured.trainings)
    wanted = training.batch_size * training.gradient_accumulation
    if not alike:
        steps = training.num_steps
        return PhaseForecast(name, kind, num_steps=steps, seconds=None)
    # A step on as many examples is the best witness; else the largest says what an example costs.
    nearest = min(alike, key=lambda one: (one.kind != kind, abs(one.step_examples - wanted), -one.num_sources))
    of_kind = [one for one in alike if one.kind == kind and one.num_sources] or [nearest]
    rates = [one.num_examples / max(one.num_sources, 1) for one in of_kind]
    steps = num_steps(training, num_sources * sum(rates) / len(rates))
    step_seconds = nearest.step_seconds * wanted / nearest.step_examples
    return PhaseForecast(name, kind, num_steps=steps, seconds=nearest.other_seconds + steps * step_seconds)


class PlannedPhase(Protocol):
    """A phase among others."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def needs(self) -> Sequence[str]: ...


def makespan(phases: Sequence[PlannedPhase], seconds: Mapping[str, float], trainings_at_once: int) -> float:
    """Return how long the phases take together: searches one after the other, beside them at most
    so many trainings, each phase once what it needs is there.
    """
    free = {"search": [0.0], "train": [0.0] * trainings_at_once}
    ends: dict[str, float] = {}
    left = list(phases)
    names = {phase.name for phase in phases}
    while left:
        begins = []
        for place, phase in enumerate(left):
            needs = [name for name in phase.needs() if name in names]
            if all(name in ends for name in needs):
                lane = free["search" if phase.kind == "search" else "train"]
                ready = max([ends[name] for name in needs], default=0.0)
                begins.append((ready if phase.kind == "gate" else max(ready, min(lane)), place))
        begin, place = min(begins)
        phase = left.pop(place)
        ends[phase.name] = begin + seconds[phase.name]
        if phase.kind != "gate":
            lane = free["search" if phase.kind == "search" else "train"]
            lane[lane.index(min(lane))] = ends[phase.name]
    return max(ends.values(), default=0.0)


def _tokens(phases: Sequence[PhaseForecast], max_tokens: int | None) -> Amount | None:
    limits = [phase.token_limit for phase in phases]
    known = [limit for limit in limits if limit is not None]
    limit: float = sum(known) if len(known) == len(limits) else math.inf
    if all(phase.tokens is not None for phase in phases):
        expected = sum(phase.tokens or 0.0 for phase in phases)
        error = _error(phases) + CHANGE["tokens"] * expected
        amount = Amount(max(expected - error, 0.0), expected, expected + error)
    elif math.isinf(limit) and max_tokens is None:
        return None
    else:
        amount = Amount(0.0, limit, limit)
    most = max_tokens if max_tokens is not None else math.inf
    return Amount(min(amount.low, most), min(amount.expected, most), min(amount.high, most))


def _error(phases: Sequence[PhaseForecast]) -> float:
    return STANDARD_ERRORS * math.sqrt(sum(phase.token_error**2 for phase in phases))


def _calls(phases: Sequence[PhaseForecast]) -> Amount | None:
    if any(phase.calls is None for phase in phases):
        return None
    expected = sum(phase.calls or 0.0 for phase in phases)
    error = _error(phases) / max(sum(phase.tokens or 0.0 for phase in phases), 1.0) + CHANGE["calls"]
    return Amount(expected * max(1.0 - error, 0.0), expected, expected * (1.0 + error))


def _disk(phases: Sequence[Phase], found: Sequence[PhaseForecast], measured: Measured) -> Amount | None:
    """Return the bytes of trees and checkpoints; half as much again may be free space within the
    database and saved states of trainings.
    """
    nodes = [phase.nodes for phase in found]
    sizes = measured.checkpoint_bytes or {}
    kinds = [phase.kind.removeprefix("train-") for phase in phases if phase.kind.startswith("train-")]
    if measured.node_bytes is None or None in nodes or (kinds and not sizes):
        return None
    # A kind that was not trained is as large as the other: one is on the trunk of the other.
    checkpoints = sum(sizes.get(kind, max(sizes.values())) for kind in kinds)
    expected = measured.node_bytes * sum(one or 0.0 for one in nodes) + checkpoints
    return Amount(expected / 1.5, expected, expected * 1.5)
