"""What a self-training run does, as a list of phases (arXiv:2406.03816, Algorithm 1): what all
methods share.

What a method does of its own is in restmcts.domain.runs.methods.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from restmcts.domain.labels.filtering import TraceFilter
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.methods import METHODS, FirstLabels, Models
from restmcts.domain.runs.phases import GatePhase, Phase, Purpose, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.promotion import GateSettings
from restmcts.domain.runs.training_settings import TrainingSettings, ValueObjective
from restmcts.domain.search.algorithms import SearchSettings
from restmcts.domain.search.best_of_n import CotSettings, SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError

BASE = "base"
HELD_OUT_TREES = "held-out-trees"


@dataclass(frozen=True, slots=True)
class SelfTraining:
    """A self-training run.

    The checkpoint "base" is given. Problem sets by name: those of `train_sets`, and where named
    `seed_set`, `bootstrap_set`, `held_out_set`, `test_set`.

    Attributes:
        num_iterations: N; at least 1.
        train_sets: D_G of each iteration, N names (they may be equal).
        method: a name of `METHODS`.
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
        held_out_set: problems on which new checkpoints are judged before the run goes on with them;
            None: it goes on with each.
        gate: how they are judged.
        test_set: problems on which the policy of every iteration is graded, greedily; None: none.
        control: also train π_0 as many further steps on the seed data alone, and grade it.
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
    held_out_set: str | None = None
    gate: GateSettings = field(default_factory=GateSettings)
    test_set: str | None = None
    control: bool = False

    def __post_init__(self) -> None:
        if self.num_iterations < 1:
            raise InputError(f"{self.num_iterations} iterations: give at least 1")
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r}: there are {', '.join(METHODS)}")
        if len(self.train_sets) != self.num_iterations:
            raise InputError(f"{len(self.train_sets)} problem sets for {self.num_iterations} iterations")
        if self.control and self.seed_set is None:
            raise InputError("a control trains on seed solutions: name the set that has them")


def self_training_plan(run: SelfTraining) -> list[Phase]:
    """Return the phases of a run, in an order in which each finds what it needs."""
    method = METHODS[run.method]
    phases, first = _seed_training(run)
    has_value = method.uses_value(run)
    if has_value and not run.given_value:
        phases += method.first_value(run, first)
    policy = _gated_policy(run, phases, 0, first, None)
    value = _gated_value(run, phases, 0, "value-0", None, first) if has_value else None
    phases += _grading(run, 0, first, policy)
    for iteration in range(1, run.num_iterations + 1):
        made = method.iterate(run, iteration, Models(first, policy, value))
        phases += made
        policy = _gated_policy(run, phases, iteration, f"policy-{iteration}", policy)
        if any(phase.name == f"value-{iteration}" for phase in made):
            value = _gated_value(run, phases, iteration, f"value-{iteration}", value, first)
        phases += _grading(run, iteration, f"policy-{iteration}", policy)
    return phases + (_control(run, first) if run.control else [])


def control_plan(run: SelfTraining) -> list[Phase]:
    """Return the phases of a run without its method: the first policy, and the control if the
    run has one.
    """
    phases, first = _seed_training(run)
    phases += _grading(run, 0, first, first)
    return phases + (_control(run, first) if run.control else [])


def _seed_training(run: SelfTraining) -> tuple[list[Phase], str]:
    """Return the phases that make the first policy, and its name."""
    if run.seed_set is None:
        return [], BASE
    training = run.seed_training or run.policy_training
    return [TrainPolicyPhase("policy-0", 0, BASE, training, solutions_of=run.seed_set)], "policy-0"


def _control(run: SelfTraining, policy: str) -> list[Phase]:
    """Return the phases that train the first policy as often and as long as the method does, on
    the seed data alone.
    """
    phases: list[Phase] = []
    for iteration in range(1, run.num_iterations + 1):
        training = TrainPolicyPhase(
            f"control-{iteration}", iteration, policy, run.policy_training, solutions_of=run.seed_set
        )
        policy = training.name
        phases += [training, *_grading(run, iteration, policy, policy)]
    return phases


def _gated_policy(run: SelfTraining, phases: list[Phase], iteration: int, candidate: str, previous: str | None) -> str:
    """Add the gate of a new policy, if the run has gates; return the name by which the promoted
    policy goes after it.
    """
    if run.held_out_set is None:
        return candidate
    evidence = _evaluation(run, iteration, f"held-out-{candidate}", "evaluate", run.held_out_set, candidate)
    gate = GatePhase(f"gate-{candidate}", iteration, "policy", candidate, evidence.name, previous, run.gate.margin)
    phases += [evidence, gate]
    return gate.name


def _gated_value(
    run: SelfTraining, phases: list[Phase], iteration: int, candidate: str, previous: str | None, first_policy: str
) -> str:
    if run.held_out_set is None:
        return candidate
    if previous is None:
        phases.append(_evaluation(run, 0, HELD_OUT_TREES, "held-out", run.held_out_set, first_policy))
    gate = GatePhase(f"gate-{candidate}", iteration, "value", candidate, HELD_OUT_TREES, previous, run.gate.margin)
    phases.append(gate)
    return gate.name


def _grading(run: SelfTraining, iteration: int, name: str, policy: str) -> Iterator[SearchPhase]:
    if run.test_set is not None:
        yield _evaluation(run, iteration, f"grade-{name}", "evaluate", run.test_set, policy)


def _evaluation(
    run: SelfTraining, iteration: int, name: str, purpose: Purpose, problem_set: str, policy: str
) -> SearchPhase:
    """Return a phase without a value model: greedy solutions, or as many samples as a gate
    judges value models on.
    """
    search = CotSettings() if purpose == "evaluate" else SelfConsistencySettings(num_samples=run.gate.num_samples)
    return SearchPhase(name, iteration, purpose, problem_set, policy, None, search, generation=run.generation)
