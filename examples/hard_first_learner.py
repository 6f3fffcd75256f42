"""A learner of one's own: right solutions of hard problems teach more than those of easy ones.

    restmcts selftrain problems.jsonl --policy MODEL --workdir out \
        --plugin hard_first_learner.py --learner hard-first -l power=2
"""

from dataclasses import dataclass, replace

from restmcts.domain.learning.learner import LEARNERS, LearnableTree, LearnerSettings, LearningPath
from restmcts.domain.learning.losses import LikelihoodLoss, Loss
from restmcts.domain.ranges import NotNegative
from restmcts.domain.tree import ROOT


@LEARNERS.register("hard-first")
@dataclass(frozen=True, slots=True)
class HardFirstLearner(LearnerSettings):
    """Right solutions, every step with the weight (1 - share of right leaves)^power + floor.

    Attributes:
        power: how much more the solutions of hard problems weigh; 0: all weigh the same.
        floor: weight that is added to all.
    """

    power: NotNegative = 1.0
    floor: NotNegative = 0.1

    @property
    def loss(self) -> Loss:
        return LikelihoodLoss()

    def paths(self, found: LearnableTree) -> list[LearningPath]:
        rows = found.right_paths()
        if not rows:
            return []
        weight = (1.0 - found.estimates[ROOT].mean) ** self.power + self.floor
        return [replace(row, weights=(weight,) * len(row.steps)) for row in rows]
