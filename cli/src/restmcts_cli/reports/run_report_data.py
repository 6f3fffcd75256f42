"""What a report says, as plain data: made by commands, drawn by `run_report`. Knows nothing of
HTML, terminals or models.
"""

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from restmcts.domain.runs.promotion import HeldOutStep, auc
from restmcts.domain.stats.estimates import Estimate, Figure, pooled_share
from restmcts.domain.stats.ranks import rank_correlation
from restmcts.domain.stats.tree_values import jackknifed
from restmcts.reporting.run_origins import RunOrigin
from restmcts.reporting.tree_pictures import DrawnTree


@dataclass(frozen=True, slots=True)
class Beside:
    """A run from the same first policy, shown beside the one that is reported.

    Attributes:
        name: of its column.
        field: of its accuracy in the JSON line.
        line: its name in the chart.
        about: a sentence on what it does.
        difference: what it does otherwise than the run, after "which".
    """

    name: str
    field: str
    line: str
    about: str
    difference: str


REST_EM = Beside(
    "ReST^EM",
    "rest_em",
    "ReST^EM: samples, as many tokens",
    "ReST^EM samples whole solutions of the same puzzles instead of searching, under the same limit of tokens.",
    "sampled as many tokens instead of searching",
)
TRUE_ANSWERS = Beside(
    "true answers",
    "true_answers",
    "The same with true answers",
    "The run with true answers searches the same puzzles from the same first policy; every solution is verified.",
    "learnt from verified solutions",
)


@dataclass(frozen=True, slots=True)
class IterationResult:
    """One policy of the loop, and the work that led to it.

    Attributes:
        iteration: 0 for the base policy.
        num_trees: trees searched to collect its data; 0 in iteration 0.
        num_solved: those with at least one right leaf.
        num_tokens: generated in all these trees.
        num_policy_samples: traces it was trained on.
        num_value_samples: value targets its value model was trained on.
        greedy: accuracy on held-out problems; None where there are none.
        control: accuracy after as many further steps on the demonstrations alone; None where no
            control was run.
        beside: accuracy of the run beside, which has the same first policy; None where there is
            none.
        untrained: why "the policy" or "the value model" was not trained, where that was planned.
    """

    iteration: int
    num_trees: int = 0
    num_solved: int = 0
    num_tokens: int = 0
    num_policy_samples: int = 0
    num_value_samples: int = 0
    greedy: Figure | None = None
    control: Figure | None = None
    beside: Figure | None = None
    untrained: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One way to answer at test time, under one budget.

    Attributes:
        method: its name for readers; equal for all budgets of one method.
        budget_tokens: limit of generated tokens a problem; None for a method without one (greedy).
        mean_tokens: really generated a problem.
        most_tokens: generated for one problem.
        accuracy: under that budget.
    """

    method: str
    budget_tokens: int | None
    mean_tokens: float
    most_tokens: int
    accuracy: Figure


@dataclass(frozen=True, slots=True)
class DistancePoint:
    """Mean predicted value of partial solutions at one exact remaining distance; None: no right
    solution begins so.
    """

    distance: int | None
    value: Estimate


@dataclass(frozen=True, slots=True)
class ValueQuality:
    """A value model evaluated against exact distances.

    Attributes:
        name: e.g. `V_0`.
        points: one per distance, rising, the unsolvable last.
        auc_solvable: chance that it scores a solvable partial solution above an unsolvable one, by
            problem; None if one kind is missing.
        correlation: rank correlation of value and nearness, among solvable ones; None if either
            does not vary.
        sibling_accuracy: share of pairs of siblings, one nearer to a right answer than the other,
            in which the nearer one scores higher, ties counting half; 0.5 is a guess. None if there
            is no such pair.
    """

    name: str
    points: tuple[DistancePoint, ...]
    auc_solvable: Figure | None
    correlation: Estimate | None
    sibling_accuracy: Estimate | None = None

    @property
    def auc(self) -> Estimate | None:
        """The chance `auc_solvable` with its error."""
        return self.auc_solvable.estimate if self.auc_solvable is not None else None


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What one policy wrote, and the verdict on it."""

    policy: str
    text: str
    verdict: str


@dataclass(frozen=True, slots=True)
class AnsweredProblem:
    """A problem and what several policies wrote to it."""

    question: str
    answers: tuple[GivenAnswer, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page or a terminal shows of a run; what is empty or None is left out.

    Attributes:
        title: of the page.
        command: the line that makes this report again.
        seed: of the run.
        seconds: from the start of the run to its end, pauses included, as `runs show` says it.
        iterations: rising from 0.
        search: methods in the order to be listed, budgets rising.
        values: value models in the order they were trained.
        tree: one tree to be drawn.
        answered: problems with the answers of several policies beside one another.
        origin: where the run comes from: settings, commands, versions, machine and times.
        notes: sentences that the numbers cannot say (a smoke run claims nothing, say).
        mark: the word beside each accuracy: "unchecked" where no probe checks the verdicts that
            the run trained on, else nothing.
        beside: what the iterations' runs beside are.
        claims: whether figures mean something: a smoke run says counts alone.
        solved: the share of the trees searched for training data that have a right end.
    """

    title: str
    command: str
    seed: int
    seconds: float
    iterations: tuple[IterationResult, ...] = ()
    search: tuple[SearchResult, ...] = ()
    values: tuple[ValueQuality, ...] = ()
    tree: DrawnTree | None = None
    answered: tuple[AnsweredProblem, ...] = ()
    origin: RunOrigin | None = None
    notes: tuple[str, ...] = ()
    mark: str = ""
    beside: Beside = REST_EM
    claims: bool = True
    solved: Estimate | None = None


def evaluate_values(
    name: str,
    values: Sequence[float],
    distances: Sequence[int | None],
    partial_solutions: Sequence[tuple[Hashable, str]] | None = None,
    problems: Sequence[Hashable] | None = None,
) -> ValueQuality:
    """Return how predicted values agree with exact remaining distances, one of each per partial
    solution.

    Args:
        partial_solutions: what each goes on from, and its last step; siblings are those that go on
            from the same. One that comes twice is compared once.
        problems: which problem each is of, over which errors are; None: those that go on from the
            same are of one.

    Raises:
        ValueError: if the lengths differ.
    """
    groups: dict[int | None, list[float]] = defaultdict(list)
    for value, moves_left in zip(values, distances, strict=True):
        groups[moves_left].append(value)
    order = sorted(groups, key=lambda moves_left: (moves_left is None, moves_left or 0))
    points = tuple(DistancePoint(key, Figure.of(groups[key]).estimate) for key in order)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place in range(len(values)):
        of_its_own = partial_solutions[place][0] if partial_solutions else place
        members[problems[place] if problems is not None else of_its_own].append(place)
    steps = [
        [HeldOutStep(0, values[place], distances[place] is not None) for place in places] for places in members.values()
    ]

    def correlation(some: Sequence[list[int]]) -> float | None:
        known = [(values[one], -left) for places in some for one in places if (left := distances[one]) is not None]
        return rank_correlation([value for value, _ in known], [float(nearness) for _, nearness in known])

    return ValueQuality(
        name=name,
        points=points,
        auc_solvable=auc(steps),
        correlation=jackknifed(list(members.values()), correlation),
        sibling_accuracy=_sibling_accuracy(values, distances, partial_solutions or (), list(members.values())),
    )


def _sibling_accuracy(
    values: Sequence[float],
    distances: Sequence[int | None],
    partial_solutions: Sequence[tuple[Hashable, str]],
    members: Sequence[Sequence[int]],
) -> Estimate | None:
    known = {one: place for place, one in enumerate(partial_solutions)}
    counts = []
    for places in members:
        families: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
        for place in places:
            if partial_solutions and known[partial_solutions[place]] == place:
                left = distances[place]
                families[partial_solutions[place][0]].append((math.inf if left is None else left, values[place]))
        won = [
            (near_value > far_value) + 0.5 * (near_value == far_value)
            for family in families.values()
            for (near, near_value), (far, far_value) in combinations(sorted(family), 2)
            if near < far
        ]
        if won:
            counts.append((sum(won), len(won)))
    return pooled_share(counts) if counts else None


def json_line(report: Report, report_path: str) -> str:
    """Return the report as one line of JSON, the last line that a command with `--json` prints."""
    line = {
        "seed": report.seed,
        "seconds": round(report.seconds, 1),
        "iterations": [_iteration_fields(result) for result in report.iterations],
        "control": _last([result.control for result in report.iterations]),
        report.beside.field: _last([result.beside for result in report.iterations]),
        "value_auc": {quality.name: _value(quality.auc) for quality in report.values},
        "value_auc_stderr": {quality.name: _error(quality.auc) for quality in report.values},
        "value_auc_interval": {quality.name: _interval(quality.auc) for quality in report.values},
        "value_sibling_accuracy": {quality.name: _value(quality.sibling_accuracy) for quality in report.values},
        "value_sibling_accuracy_stderr": {quality.name: _error(quality.sibling_accuracy) for quality in report.values},
        "value_sibling_accuracy_interval": {
            quality.name: _interval(quality.sibling_accuracy) for quality in report.values
        },
        "search": [
            {
                "method": result.method,
                "budget_tokens": result.budget_tokens,
                "mean_tokens": round(result.mean_tokens, 1),
                "most_tokens": result.most_tokens,
                "accuracy": result.accuracy.estimate.value,
                "stderr": _error(result.accuracy.estimate),
                "interval": _interval(result.accuracy.estimate),
            }
            for result in report.search
        ],
        "notes": list(report.notes),
        "unchecked": bool(report.mark),
        "report": report_path,
    }
    return json.dumps(line, allow_nan=False)


def _value(figure: Estimate | None) -> float | None:
    return figure.value if figure is not None else None


def _error(figure: Estimate | None) -> float | None:
    return round(figure.standard_error, 5) if figure is not None else None


def _interval(figure: Estimate | None) -> list[float] | None:
    return [round(end, 5) for end in figure.interval] if figure is not None else None


def _last(figures: Sequence[Figure | None]) -> float | None:
    return next((figure.estimate.value for figure in reversed(figures) if figure is not None), None)


def _iteration_fields(result: IterationResult) -> dict[str, object]:
    greedy = result.greedy.estimate if result.greedy is not None else None
    return {
        "iteration": result.iteration,
        "greedy_accuracy": greedy.value if greedy else None,
        "stderr": _error(greedy),
        "interval": _interval(greedy),
        "trees": result.num_trees,
        "solved": result.num_solved,
        "tokens": result.num_tokens,
    }
