"""Supervised fine-tuning on right solutions, as the paper trains its policy."""

from dataclasses import dataclass

from restmcts.domain.learning.learner import LEARNERS, LearnableTree, LearnerSettings, LearningPath
from restmcts.domain.learning.losses import Loss, SupervisedLoss


@LEARNERS.register("sft")
@dataclass(frozen=True, slots=True)
class SupervisedLearner(LearnerSettings):
    """Right solutions, every step alike (arXiv:2406.03816, Algorithm 1)."""

    @property
    def loss(self) -> Loss:
        return SupervisedLoss()

    def paths(self, found: LearnableTree) -> list[LearningPath]:
        return found.right_paths()
