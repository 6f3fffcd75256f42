"""What of a labelled tree becomes training data: right traces for the policy, step values for
the value model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.problems import Verdict
from restmcts.domain.ranges import AtLeastOne, UnitInterval, check_ranges
from restmcts.domain.tree import ROOT, Node, Tree


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which right traces of a problem are kept.

    Attributes:
        top_k: right traces of a problem that are kept at most; None: all.
        min_value: least model value of the trace's last step.
        rank: order in which they are kept: "shortest" by steps, "value" by the model's value of
            the last step, or "least-value" by its value of the step that it likes least (as
            MATH-SHEPHERD ranks solutions).
    """

    top_k: AtLeastOne | None = None
    min_value: float = 0.0
    rank: Literal["shortest", "value", "least-value"] = "value"

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class PairFilter:
    """Which pairs of a problem are kept for preference training.

    Attributes:
        min_gap: least difference of their quality values; equal ones are never a pair.
        top_k: at most that many a problem, widest gap first; None: all.
        between: "siblings": steps after the same partial solution, by their quality values;
            "solutions": the finished solution that the policy itself thinks best against the one it
            thinks worst, whatever is right (Self-Rewarding, arXiv:2401.10020).
    """

    min_gap: UnitInterval = 0.0
    top_k: AtLeastOne | None = None
    between: Literal["siblings", "solutions"] = "siblings"

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class StepPair:
    """Two ways to go on from the same partial solution, `steps`, by their last nodes: the one
    of higher value is chosen.
    """

    steps: tuple[str, ...]
    chosen: Node
    rejected: Node
    chosen_value: float
    rejected_value: float


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole right solution; `node_id` is its leaf, `value` the model's value there (0 where
    it was not scored), `least_value` the least of its steps'.
    """

    node_id: int
    steps: tuple[str, ...]
    value: float
    least_value: float = 0.0


@dataclass(frozen=True, slots=True)
class ValueSample:
    """(p_k, v_k) for one labelled node, with the label it comes from."""

    node_id: int
    steps: tuple[str, ...]
    label: StepLabel


@dataclass(frozen=True, slots=True)
class ValuePath:
    """A path from the root with v_k as the target of its steps, None where the target is in an
    earlier path already.

    The paths of a tree hold each labelled node's target exactly once. `leads_to_right` says of the
    same steps whether a right answer lies below; `finished`, whether the path ends in an answer.
    """

    node_id: int
    steps: tuple[str, ...]
    targets: tuple[float | None, ...]
    leads_to_right: tuple[bool | None, ...]
    finished: bool


def right_traces(tree: Tree, verdicts: Mapping[int, Verdict]) -> list[Trace]:
    """Return the tree's right solutions, one per text, in depth-first order."""
    traces: dict[tuple[str, ...], Trace] = {}
    for node in tree.depth_first():
        if node.final and verdicts.get(node.node_id) == Verdict.RIGHT:
            steps = tree.steps_to(node)
            values = [ancestor.model_value or 0.0 for ancestor in tree.lineage(node)[1:]]
            traces.setdefault(steps, Trace(node.node_id, steps, values[-1], min(values)))
    return list(traces.values())


def select_traces(traces: Sequence[Trace], criteria: TraceFilter) -> list[Trace]:
    """Return the traces of one problem that the criteria keep, best first; equal ones in the
    given order.
    """
    kept = [trace for trace in traces if trace.value >= criteria.min_value]
    orders = {"shortest": lambda trace: len(trace.steps), "value": lambda trace: -trace.value}
    kept.sort(key=orders.get(criteria.rank, lambda trace: -trace.least_value))
    return kept[: criteria.top_k]


def value_samples(tree: Tree, labels: Mapping[int, StepLabel]) -> list[ValueSample]:
    """Return (p_k, v_k) of every labelled node but the root, in depth-first order, a node
    before its children.
    """
    return [
        ValueSample(node.node_id, tree.steps_to(node), labels[node.node_id])
        for node in tree.depth_first()
        if node.node_id in labels and node.node_id != ROOT
    ]


def value_paths(tree: Tree, labels: Mapping[int, StepLabel]) -> list[ValuePath]:
    """Return the labelled nodes as maximal paths, so that one pass over a path serves all its
    steps.
    """
    used: set[int] = set()
    paths = []
    for node in tree.depth_first():
        if node.node_id in labels and node.node_id != ROOT and not _has_labelled_child(node, labels):
            lineage = tree.lineage(node)[1:]
            own_labels = [None if n.node_id in used else labels.get(n.node_id) for n in lineage]
            targets = tuple(None if label is None else label.quality_value for label in own_labels)
            leads_to_right = tuple(None if label is None else label.step_is_right for label in own_labels)
            used.update(ancestor.node_id for ancestor in lineage)
            paths.append(ValuePath(node.node_id, tuple(n.step for n in lineage), targets, leads_to_right, node.final))
    return paths


def step_pairs(tree: Tree, labels: Mapping[int, StepLabel], criteria: PairFilter) -> list[StepPair]:
    """Return the best of labelled siblings paired with each worse one, widest gap first, equal
    gaps in depth-first order.
    """
    pairs = []
    for parent in tree.depth_first():
        siblings = [tree[child] for child in parent.children if child in labels]
        if not siblings:
            continue
        best = max(siblings, key=lambda node: labels[node.node_id].quality_value)
        high = labels[best.node_id].quality_value
        for other in siblings:
            low = labels[other.node_id].quality_value
            if low < high and high - low >= criteria.min_gap:
                pairs.append(StepPair(tree.steps_to(parent), best, other, high, low))
    pairs.sort(key=lambda pair: pair.rejected_value - pair.chosen_value)
    return pairs[: criteria.top_k]


def solution_pairs(tree: Tree, criteria: PairFilter) -> list[StepPair]:
    """Return the finished solution that scores best with the one that scores worst, if they differ
    enough; solutions with observations are left out, for whole solutions are learned.

    A solution's score is the value that a judge gave its last step; where no judge was asked, the
    policy's own likelihood, as the geometric mean over its tokens.
    """
    written = [node for node in tree.final_nodes() if not any(one.observed for one in tree.lineage(node))]
    scores = {node.node_id: _own_score(tree, node) for node in written}
    best, worst = (choose(scores, key=lambda one: scores[one], default=ROOT) for choose in (max, min))
    if best == worst or scores[best] - scores[worst] <= criteria.min_gap:
        return []
    return [StepPair((), tree[best], tree[worst], scores[best], scores[worst])]


def _own_score(tree: Tree, node: Node) -> float:
    if node.model_value is not None:
        return node.model_value
    num_tokens = sum(ancestor.num_tokens for ancestor in tree.lineage(node))
    return math.exp(tree.log_prob_of(node) / max(num_tokens, 1))


def _has_labelled_child(node: Node, labels: Mapping[int, StepLabel]) -> bool:
    return any(child in labels for child in node.children)
