"""Advantage-weighted steps: likelihood, more of the steps that brought a solution nearer."""

import math
from dataclasses import dataclass

from restmcts.domain.learning.estimates import progress
from restmcts.domain.learning.learner import LEARNERS, EstimatingLearner, LearnableTree, LearningPath
from restmcts.domain.learning.losses import LikelihoodLoss, Loss
from restmcts.domain.ranges import AtLeastOne, Positive
from restmcts.domain.tree import Node


@LEARNERS.register("awr")
@dataclass(frozen=True, slots=True)
class AdvantageWeightedLearner(EstimatingLearner):
    """The steps of right solutions, each once, with weight exp(A/temperature).

    A is the step's progress under a best-of-k prover, A_k = Q_k - Q_k(parent), and its quotient is
    cut to ±`max_log_weight` (advantage-weighted regression, arXiv:1910.00177; progress as in PAV,
    arXiv:2410.08146). A great temperature weights all steps alike.

    Attributes:
        temperature: advantage that weights a step e times.
        num_tries: k of the prover.
        max_log_weight: greatest size of a weight's natural logarithm.
    """

    temperature: Positive = 0.3
    num_tries: AtLeastOne = 4
    max_log_weight: Positive = 3.0

    @property
    def loss(self) -> Loss:
        return LikelihoodLoss()

    def weighted(self, found: LearnableTree) -> list[LearningPath]:
        ends = [found.tree[trace.node_id] for trace in found.traces]
        weights = {node.node_id: self._weight(found, node) for end in ends for node in found.tree.lineage(end)[1:]}
        return found.paths_once(ends, weights)

    def _weight(self, found: LearnableTree, node: Node) -> float:
        log_weight = progress(found.estimates, node, self.num_tries) / self.temperature
        return math.exp(min(max(log_weight, -self.max_log_weight), self.max_log_weight))
