"""What of a labelled tree becomes training data: right traces for the policy, step values for the value model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from restmcts.domain.labels import StepLabel
from restmcts.domain.problems import Verdict
from restmcts.domain.tree import ROOT, Node, Tree
from restmcts.errors import InputError


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which right traces of a problem are kept.

    Attributes:
        top_k: at most that many a problem; None: all.
        min_value: least model value of the trace's last step.
        rank: which come first: "shortest" by steps, or "value" by the model's value of the last step.
    """

    top_k: int | None = None
    min_value: float = 0.0
    rank: Literal["shortest", "value"] = "value"

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}: it must be at least 1")


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole right solution; `node_id` is its leaf, `value` the model's value there (0 where it was not scored)."""

    node_id: int
    steps: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class ValueSample:
    """(p_k, v_k) for one labelled node, with the label it comes from."""

    node_id: int
    steps: tuple[str, ...]
    label: StepLabel


@dataclass(frozen=True, slots=True)
class ValuePath:
    """A path from the root with v_k as the target of its steps, None where the target stands in an earlier path already.

    The paths of a tree hold each labelled node's target exactly once.
    """

    node_id: int
    steps: tuple[str, ...]
    targets: tuple[float | None, ...]


def right_traces(tree: Tree, verdicts: Mapping[int, Verdict]) -> list[Trace]:
    """Return the tree's right solutions, one per text, in depth-first order."""
    traces: dict[tuple[str, ...], Trace] = {}
    for node in tree.depth_first():
        if node.final and verdicts.get(node.node_id) == Verdict.RIGHT:
            steps = tree.steps_to(node)
            traces.setdefault(steps, Trace(node.node_id, steps, node.model_value or 0.0))
    return list(traces.values())


def select_traces(traces: Sequence[Trace], criteria: TraceFilter) -> list[Trace]:
    """Return the traces of one problem that the criteria keep, best first; equal ones in the given order."""
    kept = [trace for trace in traces if trace.value >= criteria.min_value]
    kept.sort(key=lambda trace: len(trace.steps) if criteria.rank == "shortest" else -trace.value)
    return kept[: criteria.top_k]


def value_samples(tree: Tree, labels: Mapping[int, StepLabel]) -> list[ValueSample]:
    """Return (p_k, v_k) of every labelled node but the root, in depth-first order, a node before its children."""
    return [
        ValueSample(node.node_id, tree.steps_to(node), labels[node.node_id])
        for node in tree.depth_first()
        if node.node_id in labels and node.node_id != ROOT
    ]


def value_paths(tree: Tree, labels: Mapping[int, StepLabel]) -> list[ValuePath]:
    """Return the labelled nodes as maximal paths, so that one pass over a path serves all its steps."""
    told: set[int] = set()
    paths = []
    for node in tree.depth_first():
        if node.node_id in labels and node.node_id != ROOT and not _has_labelled_child(node, labels):
            lineage = tree.lineage(node)[1:]
            targets = tuple(None if n.node_id in told else labels[n.node_id].quality_value for n in lineage)
            told.update(ancestor.node_id for ancestor in lineage)
            paths.append(ValuePath(node.node_id, tuple(ancestor.step for ancestor in lineage), targets))
    return paths


def _has_labelled_child(node: Node, labels: Mapping[int, StepLabel]) -> bool:
    return any(child in labels for child in node.children)
