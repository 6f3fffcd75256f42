"""Policy gradient with advantages from the tree: every step, right and wrong, once."""

import math
from dataclasses import dataclass

from restmcts.domain.learning.learner import LEARNERS, EstimatingLearner, LearnableTree, LearningPath
from restmcts.domain.learning.losses import ClippedRatioLoss, Loss
from restmcts.domain.ranges import NotNegative, Share
from restmcts.domain.tree import ROOT, Node


@LEARNERS.register("tree-pg")
@dataclass(frozen=True, slots=True)
class TreeGradientLearner(EstimatingLearner):
    """All steps with a decided leaf at or below, each weighted by its advantage in the tree.

        A(n) = [(V(n) - V(root)) + (V(n) - V(parent))] / √(leaves below n) / (steps of the tree)

    (TreeRL, arXiv:2506.11902, global and local advantage; departure: each tree weighs 1). Trees
    whose leaves all agree teach nothing.

    Attributes:
        clip_low: how far a token's ratio to the old policy may fall for its advantage to count.
        clip_high: how far it may rise.
    """

    clip_low: Share = 0.2
    clip_high: NotNegative = 0.28

    @property
    def loss(self) -> Loss:
        return ClippedRatioLoss(self.clip_low, self.clip_high)

    def weighted(self, found: LearnableTree) -> list[LearningPath]:
        root = found.estimates[ROOT]
        if root.num_right in (0, root.num_leaves):
            return []
        nodes = found.estimated_nodes()
        weights = {node.node_id: self._advantage(found, node) / len(nodes) for node in nodes}
        ends = [node for node in nodes if not any(child in found.estimates for child in node.children)]
        return found.paths_once(ends, weights)

    def _advantage(self, found: LearnableTree, node: Node) -> float:
        own = found.estimates[node.node_id]
        gains = (own.value - found.estimates[ROOT].value) + (own.value - found.parent(node).value)
        return gains / math.sqrt(own.num_leaves)
