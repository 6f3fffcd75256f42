"""Preferences between sibling steps of which one is likely worth more."""

from dataclasses import dataclass

from restmcts.domain.learning.estimates import probability_above
from restmcts.domain.learning.learner import LEARNERS, EstimatingLearner, LearnableTree, LearningPath
from restmcts.domain.learning.losses import Loss, PreferenceLoss
from restmcts.domain.ranges import AtLeastOne, NotNegative, Positive, UnitInterval
from restmcts.domain.tree import Node


@LEARNERS.register("sibling-dpo")
@dataclass(frozen=True, slots=True)
class SiblingPreferenceLearner(EstimatingLearner):
    """Pairs of siblings with P(V⁺ > V⁻) of at least `min_probability` under the Beta posteriors of
    their leaves; each is weighted by its gap in value, and a supervised term keeps the chosen step
    likely (step-level DPO, arXiv:2406.18629, with tested pairs in place of merely unequal ones).

    Attributes:
        min_probability: least probability that the chosen step is worth more.
        max_pairs: pairs of a tree at most, widest gap first; null: all.
        beta: how dear it is to leave the policy that the training began with.
        supervised: weight of the likelihood of the chosen step.
    """

    min_probability: UnitInterval = 0.8
    max_pairs: AtLeastOne | None = None
    beta: Positive = 0.1
    supervised: NotNegative = 0.2

    @property
    def loss(self) -> Loss:
        return PreferenceLoss(self.beta, self.supervised)

    def weighted(self, found: LearnableTree) -> list[LearningPath]:
        pairs = [pair for parent in found.tree.depth_first() for pair in self._pairs_below(found, parent)]
        pairs.sort(key=lambda pair: -pair[0])
        return [
            found.path(node, {node.node_id: weight})
            for gap, chosen, rejected in pairs[: self.max_pairs]
            for node, weight in ((chosen, gap), (rejected, -gap))
        ]

    def _pairs_below(self, found: LearnableTree, parent: Node) -> list[tuple[float, Node, Node]]:
        """Return (gap, chosen, rejected) of the best child and each that is likely worse."""
        siblings = [found.tree[child] for child in parent.children if child in found.estimates]
        if len(siblings) < 2:
            return []
        best = max(siblings, key=lambda node: found.estimates[node.node_id].value)
        own = found.estimates[best.node_id]
        pairs = []
        for other in siblings:
            gap = own.value - found.estimates[other.node_id].value
            if gap > 0.0 and probability_above(own, found.estimates[other.node_id]) >= self.min_probability:
                pairs.append((gap, best, other))
        return pairs
