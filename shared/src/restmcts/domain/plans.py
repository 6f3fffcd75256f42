"""What a self-training run does, as a list of phases (arXiv:2406.03816, Algorithm 1)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from restmcts.domain.algorithms import SearchSettings, needs_values
from restmcts.domain.filtering import TraceFilter
from restmcts.domain.mcts_star import MctsStarSettings
from restmcts.domain.phases import Phase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.sampling import CotSettings, SelfConsistencySettings
from restmcts.domain.search import Budget
from restmcts.domain.training_settings import TrainingSettings
from restmcts.errors import InputError

BASE = "base"


@dataclass(frozen=True, slots=True)
class SelfTraining:
    """A self-training run.

    The checkpoint "base" is given. Problem sets by name: those of `train_sets`, and where named `seed_set`, `bootstrap_set`,
    `test_set`.

    Attributes:
        num_iterations: N; at least 1.
        train_sets: D_G of each iteration, N names (they may be equal).
        search: how trees are collected.
        budget: of each tree.
        generation: how the policy generates while collecting.
        seed_set: set whose given solutions train the first policy (π_0 <- SFT(base, D_S0)); None: π_0 is the base.
        seed_training: how; needed with `seed_set`.
        bootstrap_set: set on whose problems π_0's samples give the data of V_0.
        num_bootstrap_samples: solutions of π_0 a problem.
        merge_solutions: also add given solutions to the bootstrap trees.
        given_value: a value model is given as checkpoint "value-0"; no bootstrap.
        policy_training: of every iteration.
        value_training: of V_0 and every iteration.
        traces: which right traces train the policy.
        test_set: held-out problems on which every policy is graded, greedily; None: none.
        control: also train π_0 as many further steps on the seed data alone, and grade it.
    """

    num_iterations: int
    train_sets: tuple[str, ...]
    bootstrap_set: str
    search: SearchSettings = field(default_factory=lambda: MctsStarSettings(mode="collect"))
    budget: Budget = field(default_factory=Budget)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    seed_set: str | None = None
    seed_training: TrainingSettings | None = None
    num_bootstrap_samples: int = 4
    merge_solutions: bool = True
    given_value: bool = False
    policy_training: TrainingSettings = field(default_factory=TrainingSettings)
    value_training: TrainingSettings = field(default_factory=TrainingSettings)
    traces: TraceFilter = field(default_factory=TraceFilter)
    test_set: str | None = None
    control: bool = False

    def __post_init__(self) -> None:
        if self.num_iterations < 1:
            raise InputError(f"{self.num_iterations} iterations: give at least 1")
        if len(self.train_sets) != self.num_iterations:
            raise InputError(f"{len(self.train_sets)} problem sets for {self.num_iterations} iterations")
        if self.control and self.seed_set is None:
            raise InputError("a control trains on seed solutions: name the set that has them")


def self_training_plan(run: SelfTraining) -> list[Phase]:
    """Return the phases of a run, in an order in which each finds what it needs."""
    phases: list[Phase] = []
    policy = BASE
    if run.seed_set is not None:
        policy = "policy-0"
        phases.append(TrainPolicyPhase(policy, 0, BASE, run.seed_training or run.policy_training, solutions_of=run.seed_set))
    phases += _grading(run, 0, policy)
    value = "value-0"
    sources: tuple[str, ...] = ()
    if not run.given_value and needs_values(run.search):
        phases.append(_bootstrap(run, policy))
        sources = ("bootstrap",)
        phases.append(TrainValuePhase(value, 0, None, policy, run.value_training, sources))
    first_policy = control = policy
    for iteration, problem_set in enumerate(run.train_sets, start=1):
        collect = f"collect-{iteration}"
        wants_value = needs_values(run.search)
        phases.append(
            SearchPhase(
                name=collect,
                iteration=iteration,
                purpose="collect",
                problem_set=problem_set,
                policy=policy,
                value=value if wants_value else None,
                search=run.search,
                budget=run.budget,
                generation=run.generation,
            )
        )
        sources = (*sources, collect)
        if wants_value:
            phases.append(_value_training(run, iteration, value, first_policy, sources))
            value = f"value-{iteration}"
        phases.append(TrainPolicyPhase(f"policy-{iteration}", iteration, policy, run.policy_training, (collect,), None, run.traces))
        policy = f"policy-{iteration}"
        phases += _grading(run, iteration, policy)
        if run.control:
            phases.append(
                TrainPolicyPhase(f"control-{iteration}", iteration, control, run.policy_training, solutions_of=run.seed_set)
            )
            control = f"control-{iteration}"
            phases += _grading(run, iteration, control)
    return phases


def _bootstrap(run: SelfTraining, policy: str) -> SearchPhase:
    return SearchPhase(
        name="bootstrap",
        iteration=0,
        purpose="bootstrap",
        problem_set=run.bootstrap_set,
        policy=policy,
        value=None,
        search=SelfConsistencySettings(num_samples=run.num_bootstrap_samples),
        generation=run.generation,
        merge_solutions=run.merge_solutions,
    )


def _value_training(run: SelfTraining, iteration: int, parent: str, trunk: str, sources: tuple[str, ...]) -> TrainValuePhase:
    training = replace(run.value_training, seed=run.value_training.seed + iteration)
    return TrainValuePhase(f"value-{iteration}", iteration, parent, trunk, training, sources)


def _grading(run: SelfTraining, iteration: int, policy: str) -> Iterator[SearchPhase]:
    if run.test_set is not None:
        yield SearchPhase(
            name=f"grade-{policy}",
            iteration=iteration,
            purpose="evaluate",
            problem_set=run.test_set,
            policy=policy,
            value=None,
            search=CotSettings(),
            generation=run.generation,
        )
