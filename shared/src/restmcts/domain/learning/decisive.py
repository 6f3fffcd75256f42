"""Right solutions, and a little probability taken from the step that lost a solvable problem."""

from dataclasses import dataclass

from restmcts.domain.learning.learner import LEARNERS, EstimatingLearner, LearnableTree, LearningPath
from restmcts.domain.learning.losses import LikelihoodLoss, Loss
from restmcts.domain.ranges import AtLeastOne, NotNegative, Positive
from restmcts.domain.tree import Node


@LEARNERS.register("decisive")
@dataclass(frozen=True, slots=True)
class DecisiveLearner(EstimatingLearner):
    """Right solutions with weight 1, and each decisive step with weight -strength·V(parent).

    A step is decisive if a right leaf lies below its parent and every leaf below itself is wrong:
    there the problem was lost. What comes behind it is wrong already and teaches nothing. (Negative
    sample reinforcement, arXiv:2506.01347, punishes all steps of a wrong solution.)

    Attributes:
        strength: weight of a decisive step after a step from which every solution is right.
        min_leaves: finished leaves that must be at or below a decisive step.
        max_ratio: most that a decisive token may have gained for its push to grow with it.
        max_fall: fall of a decisive token's log-probability after which it is left alone.
    """

    strength: NotNegative = 0.3
    min_leaves: AtLeastOne = 1
    max_ratio: Positive = 3.0
    max_fall: Positive = 2.0

    @property
    def loss(self) -> Loss:
        return LikelihoodLoss(self.max_ratio, self.max_fall)

    def weighted(self, found: LearnableTree) -> list[LearningPath]:
        decisive = [node for node in found.estimated_nodes() if self._is_decisive(found, node)]
        return [
            *found.right_paths(),
            *(found.path(node, {node.node_id: self._weight(found, node)}) for node in decisive),
        ]

    def _is_decisive(self, found: LearnableTree, node: Node) -> bool:
        own = found.estimates[node.node_id]
        return own.is_lost and own.num_leaves >= self.min_leaves and found.parent(node).num_right > 0

    def _weight(self, found: LearnableTree, node: Node) -> float:
        return -self.strength * found.parent(node).value
