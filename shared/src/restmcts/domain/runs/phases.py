"""What a run is made of: phases that search, train or evaluate, and name what they need and what
they bring.

A phase may begin as soon as every phase it names in `needs()` is done. Checkpoints are named within
their run ("policy-1"); where a promotion decides, its name represents the checkpoint that it left
promoted. Phases of an iteration that is divided into rounds say which `round` they belong to.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter

from restmcts.domain.labels.filtering import PairFilter, TraceFilter
from restmcts.domain.labels.rollouts import LabelSource
from restmcts.domain.learning.learner import LearnerSettings
from restmcts.domain.learning.sft import SupervisedLearner
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.promotion import ValueMetric
from restmcts.domain.runs.splits import Round
from restmcts.domain.runs.training_settings import PolicyObjective, TrainingSettings, ValueObjective
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import SearchSettings
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.domain.truth.truth_settings import TruthSettings

Purpose = Literal["bootstrap", "collect", "probe", "held-out", "evaluate"]


@dataclass(frozen=True, slots=True)
class SearchPhase:
    """Search every problem of a set once, then verify and label the trees.

    Attributes:
        name: unique in the run.
        iteration: of self-training; 0 before the first.
        purpose: "bootstrap" and "collect" trees are labelled for training, those of "held-out" for
            evaluating value models, those of "probe" for evaluating the source of truth; those of
            "evaluate" are only evaluated.
        problem_set: name of the problem set.
        policy: checkpoint name.
        value: checkpoint name, or None where the search asks no value model.
        merge_solutions: add each problem's given solution to its labelled tree.
        labels: where the labels of the trees' steps come from: "values" inferred from the tree
            (ReST-MCTS*), or rollouts.
        follows: earlier phases over the same problems whose trees decide what is searched; empty:
            every problem. With a `hint`: the problems that none of them solved, asked again in
            those words (`{question}`, `{answer}`; STaR, arXiv:2203.14465). Without: the problems
            with a wrong solution in the first of them, which begins with the part of it where a
            binary search for its first wrong step looks next (OmegaPRM, arXiv:2406.06592); what is
            found already is not searched. Where it `allocates`: the problems that the first of
            them, which sampled all, and the others, which searched earlier, leave neither settled
            nor hopeless. Where it `restarts`: the problems of whose trees some solutions are right
            and some wrong, each beginning with steps after which both happened.
        allocates: divide what the first phase that it follows left of the budget of all problems
            among those that are searched (restmcts.domain.runs.allocation).
        restarts: begin with steps after which outcomes vary (restmcts.domain.learning.restarts).
        samples_of: a phase over the same problems whose samples the value model scores, instead of
            a search of its own; `search` is then not used, and nothing is generated.
        generation: how the policy generates; no solution may be longer than the budget of its
            whole tree, which a single one would overshoot.
        truth: where the verdicts on finished solutions come from.
        tools: whether steps may call tools.
        round: whose problems of the set are searched; None: all of them.
        staleness: trainings of the policy between the one that writes the trees and the one that
            learns from them.
    """

    name: str
    iteration: int
    purpose: Purpose
    problem_set: str
    policy: str
    value: str | None
    search: SearchSettings
    budget: Budget = field(default_factory=Budget)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    merge_solutions: bool = False
    labels: LabelSource = "values"
    follows: tuple[str, ...] = ()
    hint: str | None = None
    allocates: bool = False
    restarts: bool = False
    samples_of: str | None = None
    truth: TruthSettings = field(default_factory=TruthSettings)
    tools: ToolSettings = field(default_factory=ToolSettings)
    round: Round | None = None
    staleness: int = 0
    kind: Literal["search"] = "search"

    def __post_init__(self) -> None:
        most = self.budget.tokens
        if most is not None and self.generation.max_solution_tokens > max(most, 1):
            generation = replace(self.generation, max_solution_tokens=max(most, 1))
            object.__setattr__(self, "generation", generation)

    def needs(self) -> tuple[str, ...]:
        """Return the names of the checkpoints and phases that must be done before this one
        begins.
        """
        return (self.policy, *(name for name in (self.value, self.samples_of) if name is not None), *self.follows)


@dataclass(frozen=True, slots=True)
class TrainPolicyPhase:
    """Fine-tune a policy on right traces, on given solutions, or on pairs of sibling steps.

    Attributes:
        name: of the phase and of the checkpoint that it makes.
        parent: checkpoint name.
        sources: search phases whose trees give the traces.
        solutions_of: a problem set whose given solutions are trained on, beside the traces if there
            are sources (seed data, controls); None: none.
        traces: which right traces are kept, problem by problem.
        objective: "sft" learns what `learner` makes of the trees, and given solutions; "dpo"
            prefers one of two whole solutions.
        learner: which steps of the trees teach the policy with which weight ("sft").
        pairs: which pairs are kept, problem by problem ("dpo").
        calls_tools: whether steps of given solutions call tools, whose answers are not learned.
        round: whose given solutions are trained on; None: all of them.
    """

    name: str
    iteration: int
    parent: str
    training: TrainingSettings
    sources: tuple[str, ...] = ()
    solutions_of: str | None = None
    traces: TraceFilter = field(default_factory=TraceFilter)
    objective: PolicyObjective = "sft"
    learner: LearnerSettings = field(default_factory=SupervisedLearner)
    pairs: PairFilter = field(default_factory=PairFilter)
    calls_tools: bool = False
    round: Round | None = None
    kind: Literal["train-policy"] = "train-policy"

    @property
    def needs_solved(self) -> bool:
        """Whether trees without a right solution teach it nothing; what a judge prefers can be
        learned from any.
        """
        return self.objective != "dpo" or self.pairs.between != "solutions"

    def needs(self) -> tuple[str, ...]:
        """Return the phases and checkpoints that must be done before this one begins."""
        return (self.parent, *self.sources)


@dataclass(frozen=True, slots=True)
class TrainValuePhase:
    """Fit a value model to the inferred values of trees.

    Attributes:
        name: of the phase and of the checkpoint that it makes.
        parent: checkpoint name of a value model to go on from; None: begin with a fresh head on
            `trunk`.
        trunk: checkpoint name of the policy whose weights begin the first value model.
        sources: search phases whose labelled trees are the data.
        solutions_of: a problem set whose given solutions, and copies with a corrupted step, are
            data as well; None: none.
        objective: what the model learns of their labels.
        calls_tools: whether steps of given solutions call tools, whose answers are not learned.
        round: after which it is trained; None: after a whole iteration.
    """

    name: str
    iteration: int
    parent: str | None
    trunk: str
    training: TrainingSettings
    sources: tuple[str, ...] = ()
    solutions_of: str | None = None
    objective: ValueObjective = "mse"
    calls_tools: bool = False
    round: Round | None = None
    kind: Literal["train-value"] = "train-value"

    def needs(self) -> tuple[str, ...]:
        """Return the phases and checkpoints that must be done before this one begins."""
        return (self.parent or self.trunk, *self.sources)


@dataclass(frozen=True, slots=True)
class PromotionPhase:
    """Promote a new checkpoint if it is not worse than the promoted one of its kind; what names the
    phase gets the promoted one.

    Attributes:
        name: of the phase; as a checkpoint's name it means the one that is promoted when it is
            asked for.
        model: the checkpoint's kind.
        candidate: checkpoint name.
        evidence: for a policy the "evaluate" phase that evaluated it on held-out problems; for a
            value model the "held-out" phase on whose trees it is evaluated.
        previous: the promotion before this one; None: there is nothing to compare with, and the
            candidate is promoted.
        margin: as in `PromotionSettings`.
        value_metric: as there; of value models.
        value_gain: likewise.
        bench_set: problem set of labelled solutions on which value models are evaluated besides;
            None: none.
        round: on whose held-out problems the two are compared; None: on all of them.
        incumbent_evidence: with a round, of a policy: the phase that evaluated the previously
            promoted one on these problems.
    """

    name: str
    iteration: int
    model: Literal["policy", "value"]
    candidate: str
    evidence: str
    previous: str | None = None
    margin: float = 1.0
    value_metric: ValueMetric = "both"
    value_gain: float | None = None
    bench_set: str | None = None
    round: Round | None = None
    incumbent_evidence: str | None = None
    kind: Literal["gate"] = "gate"

    def needs(self) -> tuple[str, ...]:
        """Return the phases and checkpoints that must be done before this one begins."""
        before = (name for name in (self.previous, self.incumbent_evidence) if name is not None)
        return (self.candidate, self.evidence, *before)


TrainingPhase = Annotated[TrainPolicyPhase | TrainValuePhase, Discriminator("kind")]
Phase = Annotated[SearchPhase | TrainPolicyPhase | TrainValuePhase | PromotionPhase, Discriminator("kind")]

# Read and write phases as JSON.
PHASE: TypeAdapter[Phase] = TypeAdapter(Phase)
PROMOTION_PHASE: TypeAdapter[PromotionPhase] = TypeAdapter(PromotionPhase)
SEARCH_PHASE: TypeAdapter[SearchPhase] = TypeAdapter(SearchPhase)
TRAINING_PHASE: TypeAdapter[TrainPolicyPhase | TrainValuePhase] = TypeAdapter(TrainingPhase)
