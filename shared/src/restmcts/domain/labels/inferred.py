"""Process rewards inferred from a finished tree and the verdicts on its leaves (arXiv:2406.03816,
Section 3.3).

A node's own verdict is never guessed: below a leaf that could not be decided nothing is called
wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restmcts.domain.problems import Verdict
from restmcts.domain.tree import ROOT, Node, Tree
from restmcts.domain.values import quality_value, weighted_reward


@dataclass(frozen=True, slots=True)
class StepLabel:
    """What the tree says of one step.

    Attributes:
        reasoning_distance: m_k, steps to the nearest right leaf below; for a wrong step, that of
            the nearest ancestor with one.
        step_is_right: r_sk = 0 (hard estimation: some path through the step reaches a right
            answer).
        weighted_reward: w_sk (Eq. 2); 0 for the root.
        quality_value: v_k (Eq. 1), in [0, 1].
    """

    reasoning_distance: int
    step_is_right: bool
    weighted_reward: float
    quality_value: float


def end_leaves(tree: Tree, stop_threshold: float | None = None) -> list[Node]:
    """Return the leaves to be verified, in depth-first order: unexpanded nodes that are final,
    or have a value at or above the threshold and nothing below.
    """
    return [node for node in tree.depth_first() if node.final or _is_solved_leaf(node, stop_threshold)]


def infer_labels(
    tree: Tree,
    verdicts: Mapping[int, Verdict],
    scores: Mapping[int, float] | None = None,
    annotated: Mapping[int, bool] | None = None,
) -> dict[int, StepLabel]:
    """Return the labels of all nodes that lead to a verified leaf, the root's included, by node id;
    empty for an unsolved tree of whose leaves none has a score above 0.

    Departure: where leaves have scores, values and rewards are those of the paper times the best
    score: of the right leaves, where votes say how likely they are right; of the others (the share
    of tests that a program passes) where none is right. Such a tree is labelled as if its best
    leaves were right, and none of its steps counts as right.

    Observations are no steps of the policy: they are not counted, and have the label of their call.

    Pruned: nodes above no verified leaf, and nodes that are not known to be right while an
    undecided leaf lies below them.

    Args:
        verdicts: of the end leaves, by node id.
        scores: in [0, 1], of leaves by node id; of those left out right ones have 1, wrong ones 0.
        annotated: whether people say that steps are right, by node id: their r_sk in place of the
            inferred one. A step that only people call right has the distance of its parent.
    """
    annotated = annotated or {}
    best, goals = _goals(verdicts, scores or {})
    distances = _distances(tree, goals)
    if ROOT not in distances:
        return {}
    verified = _ancestors(tree, [node_id for node_id, verdict in verdicts.items() if verdict != Verdict.UNDECIDED])
    undecided = _ancestors(tree, [node_id for node_id, verdict in verdicts.items() if verdict == Verdict.UNDECIDED])
    labels = {ROOT: StepLabel(distances[ROOT], True, 0.0, 0.0)}
    for node in tree.depth_first():
        known_wrong = node.node_id in verified and node.node_id not in undecided
        if node.parent_id in labels and (node.node_id in distances or known_wrong or node.node_id in annotated):
            parent, distance = labels[node.parent_id], distances.get(node.node_id)
            is_right = annotated.get(node.node_id, distance is not None)
            labels[node.node_id] = parent if node.observed else _label_below(parent, distance, is_right)
    if best == 1.0:
        return labels
    is_solved = Verdict.RIGHT in verdicts.values()
    return {node_id: _scaled(label, best, is_solved) for node_id, label in labels.items()}


def _goals(verdicts: Mapping[int, Verdict], scores: Mapping[int, float]) -> tuple[float, list[int]]:
    """Return the best score of a tree, and its right leaves, or where it has none the leaves of
    that score; none where it is 0.
    """
    right = [node_id for node_id, verdict in verdicts.items() if verdict == Verdict.RIGHT]
    if right:
        return max(scores.get(node_id, 1.0) for node_id in right), right
    wrong = {node_id: scores.get(node_id, 0.0) for node_id, verdict in verdicts.items() if verdict == Verdict.WRONG}
    best = max(wrong.values(), default=0.0)
    return best, [node_id for node_id, score in wrong.items() if score == best > 0]


def _scaled(label: StepLabel, factor: float, is_solved: bool) -> StepLabel:
    is_right = is_solved and label.step_is_right
    return StepLabel(label.reasoning_distance, is_right, factor * label.weighted_reward, factor * label.quality_value)


def _is_solved_leaf(node: Node, stop_threshold: float | None) -> bool:
    is_leaf = not node.expanded and not node.children and not node.from_rollout and node.node_id != ROOT
    return is_leaf and stop_threshold is not None and node.search_value >= stop_threshold


def _label_below(parent: StepLabel, own_distance: int | None, step_is_right: bool) -> StepLabel:
    distance = own_distance if step_is_right and own_distance is not None else parent.reasoning_distance
    weighted = weighted_reward(parent.quality_value, distance, step_is_right)
    return StepLabel(distance, step_is_right, weighted, quality_value(parent.quality_value, weighted))


def _distances(tree: Tree, goals: Sequence[int]) -> dict[int, int]:
    """Return m of every node with one of the leaves at or below it."""
    distances: dict[int, int] = {}
    for leaf_id in goals:
        distance = 0
        for node in reversed(tree.lineage(tree[leaf_id])):
            distances[node.node_id] = min(distance, distances.get(node.node_id, distance))
            distance += not node.observed
    return distances


def _ancestors(tree: Tree, leaf_ids: list[int]) -> set[int]:
    return {node.node_id for leaf_id in leaf_ids for node in tree.lineage(tree[leaf_id])}
