"""Step labels from the rollouts below a step, and where to look next for the first wrong step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from restmcts.domain.labels.inferred import StepLabel, infer_labels
from restmcts.domain.problems import Verdict
from restmcts.domain.tree import ROOT, Tree

LabelSource = Literal["values", "hard-rollouts", "soft-rollouts"]


def rollout_labels(
    tree: Tree, verdicts: Mapping[int, Verdict], *, soft: bool, scores: Mapping[int, float] | None = None
) -> dict[int, StepLabel]:
    """Return the labels of the steps that rollouts started from, and of those before them, by
    node id; the root's included.

    MATH-SHEPHERD's estimates (arXiv:2312.08935, Section 3.3) are in `quality_value`: the share of
    samples through a step that reach a right answer (soft), or 1 if any does, else 0 (hard). Unlike
    inferred values they exist for unsolved trees too. Departure: every sample that passes through a
    step counts, not only those that started at it. `weighted_reward` is 0.

    A sample that has a score counts as that much of a right one: soft values are mean scores, hard
    ones the best.

    Where a search completed only the last of given steps, and no completion is right, nothing is
    said of the steps before it: another continuation of them might be.
    """
    counts = _samples_below(tree, verdicts, scores or {})
    labels = {}
    for node in tree.depth_first():
        found = counts[node.node_id]
        if node.from_rollout or not found.num_samples:
            continue
        value = found.total_score / found.num_samples if soft else found.best_score
        labels[node.node_id] = StepLabel(found.distance, found.num_right > 0, 0.0, value)
    return {
        node_id: label for node_id, label in labels.items() if label.step_is_right or _is_known_wrong(tree, node_id)
    }


def label_steps(
    tree: Tree,
    verdicts: Mapping[int, Verdict],
    source: LabelSource,
    scores: Mapping[int, float] | None = None,
    annotated: Mapping[int, bool] | None = None,
) -> dict[int, StepLabel]:
    """Return a finished tree's labels from the source that its phase names, by node id; none of
    observations, so that no value model learns them.

    Args:
        scores: in [0, 1], of leaves by node id; of those left out right ones have 1, wrong ones 0.
        annotated: whether people say that steps are right, by node id. It replaces what rollouts
            say of a step (1 or 0), or what the tree says of it (Eq. 2's r_sk).
    """
    if source == "values":
        labels = infer_labels(tree, verdicts, scores, annotated)
    else:
        labels = rollout_labels(tree, verdicts, soft=source == "soft-rollouts", scores=scores)
        for node_id in labels.keys() & (annotated or {}).keys():
            right = (annotated or {})[node_id]
            labels[node_id] = replace(labels[node_id], step_is_right=right, quality_value=float(right))
    return {node_id: label for node_id, label in labels.items() if not tree[node_id].observed}


def _is_known_wrong(tree: Tree, node_id: int) -> bool:
    """Return whether samples were drawn at the node, or it ends a solution: what is merely on
    the way to such a node is unknown.
    """
    node = tree[node_id]
    return node_id == ROOT or node.final or any(tree[child].from_rollout for child in node.children)


@dataclass(frozen=True, slots=True)
class _Samples:
    """The decided samples at or below a node.

    Attributes:
        total_score: of all samples; a right one has 1 unless it has another.
        distance: steps to the nearest right one, to the deepest end where none is right.
    """

    num_right: int
    num_samples: int
    total_score: float
    best_score: float
    distance: int


def _samples_below(tree: Tree, verdicts: Mapping[int, Verdict], scores: Mapping[int, float]) -> dict[int, _Samples]:
    counts: dict[int, _Samples] = {}
    for node in reversed(tree.nodes):
        verdict = verdicts.get(node.node_id, Verdict.WRONG)
        own = 0 if verdict == Verdict.UNDECIDED else node.multiplicity
        right = own if verdict == Verdict.RIGHT else 0
        score = scores.get(node.node_id, 1.0 if right else 0.0) if own else 0.0
        below = [counts[child] for child in node.children]
        right_distances = [0] if right else [one.distance + 1 for one in below if one.num_right]
        deepest = max((one.distance + 1 for one in below), default=0)
        counts[node.node_id] = _Samples(
            num_right=right + sum(one.num_right for one in below),
            num_samples=own + sum(one.num_samples for one in below),
            total_score=own * score + sum(one.total_score for one in below),
            best_score=max([score, *(one.best_score for one in below)]),
            distance=min(right_distances) if right_distances else deepest,
        )
    return counts


def next_prefix(num_steps: int, known: Mapping[int, bool]) -> int | None:
    """Return how many steps of a wrong solution to complete next in the search for its first wrong
    step; None once it is found.

    Binary search (OmegaPRM, arXiv:2406.06592, Section 3.2): a prefix from which a right answer was
    reached has no wrong step.

    Args:
        num_steps: of the solution, whose last step is wrong at the latest.
        known: whether a right answer was reached, by number of steps completed so far.
    """
    low = max((length for length, right in known.items() if right), default=0)
    high = min((length for length, right in known.items() if not right), default=num_steps)
    return (low + high) // 2 if high - low > 1 else None


def wrong_solution(tree: Tree, verdicts: Mapping[int, Verdict]) -> Sequence[str]:
    """Return the steps of the first wrong finished solution, in depth-first order; empty if
    there is none.
    """
    leaf = next((node for node in tree.final_nodes() if verdicts.get(node.node_id) == Verdict.WRONG), None)
    return tree.steps_to(leaf) if leaf is not None else ()
