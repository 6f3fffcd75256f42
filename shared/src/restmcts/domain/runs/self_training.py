"""What a person says of a self-training run, whatever its method."""

from dataclasses import dataclass, field
from typing import Literal

from restmcts.domain.labels.filtering import TraceFilter
from restmcts.domain.learning.learner import LearnerSettings
from restmcts.domain.learning.sft import SupervisedLearner
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.promotion import PromotionSettings
from restmcts.domain.runs.training_settings import TrainingSettings, ValueObjective
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import SearchSettings
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.errors import InputError

FirstLabels = Literal["values", "hard-rollouts", "soft-rollouts", "first-error", "corrupted"]


@dataclass(frozen=True, slots=True)
class SelfTraining:
    """A self-training run.

    The checkpoint "base" is given. Problem sets by name: those of `train_sets`, and where named
    `seed_set`, `bootstrap_set`, `held_out_set`, `test_set`.

    Attributes:
        num_iterations: N; at least 1.
        train_sets: D_G of each iteration, N names (they may be equal).
        method: a name of restmcts.domain.runs.methods.METHODS.
        search: how trees are collected.
        budget: of each tree.
        generation: how the policy generates while collecting.
        seed_set: set whose given solutions train the first policy (π_0 <- SFT(base, D_S0)); None:
            π_0 is the base.
        seed_training: how; needed with `seed_set`.
        bootstrap_set: set on whose problems π_0's samples give the data of V_0.
        num_bootstrap_samples: solutions of π_0 a problem.
        first_labels: where the labels of V_0's data come from: "values" of such samples' trees
            (ReST-MCTS*); "hard-rollouts" or "soft-rollouts" from their steps (MATH-SHEPHERD);
            "first-error", a binary search for the first wrong step by rollouts (OmegaPRM);
            "corrupted", given solutions and copies with one wrong step. None: the method's own.
        hint: in which words a problem and its answer are given to a policy that is to explain the
            answer (STaR).
        merge_solutions: also add given solutions to the bootstrap trees.
        given_value: a value model is given as checkpoint "value-0"; no bootstrap.
        policy_training: of every iteration.
        preference_training: where the policy learns from pairs; None: as `policy_training`, at a
            tenth of its learning rate.
        value_training: of V_0 and every iteration.
        value_objective: what V_0 and every iteration's value model learns of the labels.
        traces: which right traces train the policy.
        learner: what else of the trees does, and how.
        seeds_again: policies learn the seed solutions again in every iteration, beside the traces.
        held_out_set: problems on which new checkpoints are evaluated before the run goes on with
            them; None: it goes on with each.
        gate: how they are evaluated.
        test_set: problems on which the policy of every iteration is evaluated, greedily; None:
            none.
        control: also train π_0 as many further steps on the seed data alone, and evaluate it.
        truth: where the verdicts on training trees come from.
        probe_set: problems with true answers on which that source is evaluated in every iteration;
            None: it is not checked.
        num_rounds: equal parts of an iteration's problems; after each of them the models are
            trained and promoted.
        max_staleness: trainings of the policy that may lie between the one that writes a tree and
            the one that learns from it: so many rounds are searched before the models of the
            round before them are trained.
    """

    num_iterations: int
    train_sets: tuple[str, ...]
    bootstrap_set: str
    method: str = "rest-mcts"
    search: SearchSettings = field(default_factory=lambda: MctsStarSettings(mode="collect"))
    budget: Budget = field(default_factory=Budget)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    seed_set: str | None = None
    seed_training: TrainingSettings | None = None
    num_bootstrap_samples: int = 4
    first_labels: FirstLabels | None = None
    hint: str = "{question}\n(The answer is {answer}.)"
    merge_solutions: bool = True
    given_value: bool = False
    policy_training: TrainingSettings = field(default_factory=TrainingSettings)
    preference_training: TrainingSettings | None = None
    value_training: TrainingSettings = field(default_factory=TrainingSettings)
    value_objective: ValueObjective = "mse"
    traces: TraceFilter = field(default_factory=TraceFilter)
    learner: LearnerSettings = field(default_factory=SupervisedLearner)
    seeds_again: bool = False
    held_out_set: str | None = None
    gate: PromotionSettings = field(default_factory=PromotionSettings)
    test_set: str | None = None
    control: bool = False
    truth: TruthSettings = field(default_factory=TruthSettings)
    probe_set: str | None = None
    num_rounds: int = 1
    max_staleness: int = 0

    def __post_init__(self) -> None:
        if self.num_iterations < 1:
            raise InputError(f"{self.num_iterations} iterations: give at least 1")
        if len(self.train_sets) != self.num_iterations:
            raise InputError(f"{len(self.train_sets)} problem sets for {self.num_iterations} iterations")
        if self.control and self.seed_set is None:
            raise InputError("a control trains on seed solutions: name the set that has them")
        if self.seeds_again and self.seed_set is None:
            raise InputError("seeds_again: no seed solutions are named; give seed_training, or leave it out")
        if self.num_rounds > 1 and not self.truth.knows_answers:
            raise InputError(
                "rounds: accepted answers are checked over all problems of an iteration before anything learns from "
                "them; leave rounds out, or give --truth answers"
            )
