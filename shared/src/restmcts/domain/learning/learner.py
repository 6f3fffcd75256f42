"""What every learner says of itself: its settings as data, which steps of a labelled tree teach a
policy with which weight, and by which loss.

A learner of one's own is a class of settings below `LearnerSettings`, registered in `LEARNERS`. It
needs no torch: the losses are there (restmcts.domain.learning.losses).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from restmcts.domain.labels.filtering import Trace
from restmcts.domain.learning.estimates import StepEstimate, estimate_steps
from restmcts.domain.learning.losses import Loss
from restmcts.domain.open_settings import OpenSettings, SettingsTable
from restmcts.domain.problems import Verdict
from restmcts.domain.ranges import NotNegative, UnitInterval
from restmcts.domain.tree import ROOT, Node, Tree
from restmcts.registry import Registry

NAME = "name"


@dataclass(frozen=True, slots=True)
class LearningPath:
    """A row of training data: a path of a tree from the root, and per step what it teaches.

    Attributes:
        node_id: of the last step.
        steps: their texts.
        weights: what the learner's loss makes of a step: a weight, an advantage, or the side and
            size of a pair; None where a step teaches nothing here.
        values: estimated value after each step, in [0, 1]; None where it is not known.
        leaf_counts: decided finished leaves at or below each step.
        log_probs: log-probability of each step under the policy that wrote it; None where none did.
        finished: whether the path ends a solution.
        model_value: V_θ of the last step; None where it was not asked.
    """

    node_id: int
    steps: tuple[str, ...]
    weights: tuple[float | None, ...]
    values: tuple[float | None, ...]
    leaf_counts: tuple[int, ...]
    log_probs: tuple[float | None, ...]
    finished: bool
    model_value: float | None = None


@dataclass(frozen=True, slots=True)
class LearnableTree:
    """A labelled tree as a learner sees it.

    Attributes:
        verdicts: on finished leaves, by node id.
        scores: of leaves, in [0, 1], by node id; of those left out right ones have 1, wrong ones 0.
        traces: the right solutions that the run keeps of it, best first.
        samples_branches: whether the search that made it sampled its branches.
        estimates: of its nodes, by node id; of a learner that has settings for them, under these.
    """

    tree: Tree
    verdicts: Mapping[int, Verdict]
    traces: Sequence[Trace]
    samples_branches: bool
    estimates: Mapping[int, StepEstimate]
    scores: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        tree: Tree,
        verdicts: Mapping[int, Verdict],
        traces: Sequence[Trace],
        *,
        samples_branches: bool,
        scores: Mapping[int, float] | None = None,
    ) -> "LearnableTree":
        """Return a tree with the estimates that a learner without settings for them sees."""
        weight = 0.0 if samples_branches else 1.0
        estimates = estimate_steps(tree, verdicts, probability_weight=weight, scores=scores)
        return cls(tree, verdicts, traces, samples_branches, estimates, scores or {})

    def estimated(self, probability_weight: float | None, shrinkage: float) -> "LearnableTree":
        """Return the tree with other estimates; without a weight, that of its search's kind."""
        weight = probability_weight if probability_weight is not None else 0.0 if self.samples_branches else 1.0
        estimates = estimate_steps(
            self.tree, self.verdicts, probability_weight=weight, shrinkage=shrinkage, scores=self.scores
        )
        return replace(self, estimates=estimates)

    def parent(self, node: Node) -> StepEstimate:
        """Return the estimate of a node's parent; the root's own of the root."""
        return self.estimates[node.parent_id if node.parent_id is not None else ROOT]

    def estimated_nodes(self) -> list[Node]:
        """Return the policy's own steps that have an estimate, in depth-first order."""
        nodes = (node for node in self.tree.depth_first() if node.node_id != ROOT and not node.observed)
        return [node for node in nodes if node.node_id in self.estimates]

    def path(self, node: Node, weights: Mapping[int, float]) -> LearningPath:
        """Return the path to a node, with the weights of its steps by node id; an observation has
        none, whatever is given.
        """
        lineage = self.tree.lineage(node)[1:]
        known = [self.estimates.get(one.node_id) for one in lineage]
        return LearningPath(
            node_id=node.node_id,
            steps=tuple(one.step for one in lineage),
            weights=tuple(None if one.observed else weights.get(one.node_id) for one in lineage),
            values=tuple(None if found is None else found.value for found in known),
            leaf_counts=tuple(0 if found is None else found.num_leaves for found in known),
            log_probs=tuple(None if one.observed else one.log_prob for one in lineage),
            finished=node.final,
            model_value=node.model_value,
        )

    def right_paths(self) -> list[LearningPath]:
        """Return the paths of the kept right solutions, every step with weight 1."""
        ends = [self.tree[trace.node_id] for trace in self.traces]
        return [self.path(end, {node.node_id: 1.0 for node in self.tree.lineage(end)}) for end in ends]

    def paths_once(self, ends: Sequence[Node], weights: Mapping[int, float]) -> list[LearningPath]:
        """Return the paths to some nodes, in which each weight is once: in the first path that
        has its step. Paths that bring no weight are left out.
        """
        left = dict(weights)
        paths = []
        for end in ends:
            path = self.path(end, left)
            for node in self.tree.lineage(end):
                left.pop(node.node_id, None)
            if any(weight is not None for weight in path.weights):
                paths.append(path)
        return paths


class LearnerSettings(OpenSettings):
    """Base of all learners; every class below it is a frozen dataclass.

    As JSON, settings are an object of their fields, beside the field `name` with the name under
    which their class is registered.
    """

    __slots__ = ()

    @classmethod
    def table(cls) -> SettingsTable:
        """Return the table of learners."""
        return SettingsTable(LEARNERS, NAME, LearnerSettings, "settings of a learner")

    @property
    def name(self) -> str:
        """The name under which this class is registered."""
        return LEARNERS.name_of(type(self))

    @property
    @abstractmethod
    def loss(self) -> Loss:
        """What is made of the rows."""

    @abstractmethod
    def paths(self, found: LearnableTree) -> list[LearningPath]:
        """Return the rows that a tree gives, in an order that the tree decides; empty if it teaches
        nothing.
        """


@dataclass(frozen=True, slots=True)
class EstimatingLearner(LearnerSettings):
    """A learner that weights steps by what they are worth.

    Attributes:
        probability_weight: how much the log-probability of a leaf weights it, from 0 (leaves count
            as often as they were sampled) to 1; null: 1 for trees whose search chose its branches
            (best-first), 0 for sampled ones.
        shrinkage: leaves' worth of trust in the value of the step before.
    """

    probability_weight: UnitInterval | None = None
    shrinkage: NotNegative = 1.0

    def paths(self, found: LearnableTree) -> list[LearningPath]:
        tree = found.estimated(self.probability_weight, self.shrinkage)
        return self.weighted(tree) if tree.estimates else []

    @abstractmethod
    def weighted(self, found: LearnableTree) -> list[LearningPath]:
        """Return the rows of a tree with at least one decided leaf."""


LEARNERS: Registry[type[LearnerSettings]] = Registry("learners", "learner")

# Reads and writes settings as JSON; the field `name` says which.
LEARNER_SETTINGS: TypeAdapter[LearnerSettings] = TypeAdapter(LearnerSettings)
