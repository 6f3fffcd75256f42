"""Chain of thought, self-consistency and best-of-N: whole solutions sampled from the policy, one of
them chosen.

Samples with a common beginning share their nodes; a node's visits count the samples that pass it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.ranges import AtLeastOne, AtLeastZero
from restmcts.domain.requests import Sample
from restmcts.domain.scoring import Aggregation, aggregate
from restmcts.domain.search.protocol import Budget, Coroutine, Search, StopReason, best_final, proposed, scored
from restmcts.domain.search.settings import SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.search.voting import best_by_vote
from restmcts.domain.tree import Node


@SEARCHES.register("cot")
@dataclass(frozen=True, slots=True)
class CotSettings(SearchSettings):
    """One solution: the most probable one, or a sample.

    Attributes:
        greedy: take the most probable token each time instead of sampling.
        stop_threshold: sample again while no finished solution has a value at or above it, and
            answer with the solution of highest value; None: one solution, no value asked.
        num_retries: samples after the first at most, under a stop threshold.
    """

    greedy: bool = True
    stop_threshold: float | None = None
    num_retries: AtLeastZero = 63

    def build(
        self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()
    ) -> "SolutionSampling":
        return SolutionSampling(self, budget, seed, ends)

    @property
    def needs_values(self) -> bool:
        return self.stop_threshold is not None

    @property
    def is_budgeted(self) -> bool:
        return self.stop_threshold is not None


@SEARCHES.register("self-consistency")
@dataclass(frozen=True, slots=True)
class SelfConsistencySettings(SearchSettings):
    """The majority answer of `num_samples` solutions (SC).

    Attributes:
        num_samples: solutions that vote.
        samples_at_once: solutions that are asked for together; None: all.
        stop_threshold: stop at the first finished solution with a value at or above it; None: ask
            no value.
    """

    num_samples: AtLeastOne = 16
    samples_at_once: AtLeastOne | None = None
    stop_threshold: float | None = None

    def build(
        self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()
    ) -> "SolutionSampling":
        return SolutionSampling(self, budget, seed, ends)

    @property
    def needs_values(self) -> bool:
        return self.stop_threshold is not None

    @property
    def reads_pool(self) -> bool:
        return True


@SEARCHES.register("best-of-n")
@dataclass(frozen=True, slots=True)
class BestOfNSettings(SearchSettings):
    """The solution of highest score among N, as the value model sees it (PRM+BoN; ORM+BoN is
    aggregation "last" under an ORM).

    Attributes:
        num_samples: solutions that are sampled (N).
        samples_at_once: solutions that are asked for together; 1 is sequential. None: all.
        aggregation: a solution's score from the values of its steps; "own": as the value model's
            authors do it.
        stop_threshold: stop at the first finished solution with a score at or above it; None:
            never.
        choose: "best": the solution of highest score, or "vote": the answer with the greatest sum
            of scores (SC+ORM, SC+value).
        score: whether the value model is asked; without it every solution scores 0.
    """

    num_samples: AtLeastOne = 16
    samples_at_once: AtLeastOne | None = None
    aggregation: Aggregation | Literal["own"] = "last"
    stop_threshold: float | None = None
    choose: Literal["best", "vote"] = "best"
    score: bool = True

    def build(
        self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()
    ) -> "SolutionSampling":
        return SolutionSampling(self, budget, seed, ends)

    @property
    def needs_values(self) -> bool:
        return self.score

    @property
    def reads_pool(self) -> bool:
        return True


class SolutionSampling(Search):
    """Samples whole solutions, a batch after the other, until N are there, one reaches the
    threshold or the budget is spent.
    """

    def __init__(
        self,
        settings: CotSettings | SelfConsistencySettings | BestOfNSettings,
        budget: Budget,
        seed: int,
        states_answer: Callable[[str], bool],
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self._num_started = 0
        self._greedy = isinstance(settings, CotSettings) and settings.greedy
        self._votes = isinstance(settings, SelfConsistencySettings)
        self._bon = _as_best_of_n(settings)
        self._scores: dict[int, float] = {}

    def next_coroutine(self) -> Coroutine | None:
        num_left = self._bon.num_samples - self._num_started
        if self.budget.iterations is not None:
            num_left = min(num_left, self.budget.iterations - self._num_started)
        if num_left <= 0 or self.out_of_budget:
            return None
        num_now = min(num_left, self._bon.samples_at_once or num_left)
        greedy = self._greedy and self._num_started == 0
        self._num_started += num_now
        return self._sample(num_now, greedy)

    def choose(self) -> Node | None:
        if self._votes:
            return best_by_vote(self.tree, lambda node: node.multiplicity)
        if self._bon.choose == "vote":
            return best_by_vote(self.tree, lambda node: node.multiplicity * self._scores.get(node.node_id, 0.0))
        return best_final(self.tree, lambda node: self._scores.get(node.node_id, 0.0))

    def _sample(self, num_samples: int, greedy: bool) -> Coroutine:
        answer = proposed((yield [self.propose(self.tree.root, num_samples, None, greedy=greedy)])[0])
        num_known = len(self.tree)
        paths = [path for sample in answer.samples if (path := self._add_path(sample))]
        fresh = [path for path in paths if path[-1].node_id >= num_known]
        fresh = list({path[-1].node_id: path for path in fresh}.values())
        if fresh and self._bon.score:
            branches = [tuple(node.step for node in path) for path in fresh]
            how = self._bon.aggregation
            response = scored((yield [self.score((), branches, whole=how == "own")])[0])
            scores = (
                response.solution_scores if how == "own" else [aggregate(values, how) for values in response.values]
            )
            for path, values, score in zip(fresh, response.values, scores, strict=True):
                self._set_values(path, values, score)
        self.spent.iterations += num_samples
        self._stop_at_gate(fresh)

    def _add_path(self, sample: Sample) -> list[Node]:
        path = self.add_sample(self.tree.root, sample)
        for node in (self.tree.root, *path):
            node.visits += 1
            node.expanded = node is not (path[-1] if path else None) or node.expanded
            self.tree.touch(node)
        if path:
            path[-1].multiplicity += 1
        return path

    def _set_values(self, path: Sequence[Node], values: Sequence[float], score: float) -> None:
        for node, value in zip(path, values, strict=True):
            node.model_value = node.search_value = value
            self.tree.touch(node)
        self._scores[path[-1].node_id] = score

    def _stop_at_gate(self, paths: Sequence[Sequence[Node]]) -> None:
        if self._bon.stop_threshold is None:
            return
        for path in paths:
            if path[-1].final and self._scores.get(path[-1].node_id, 0.0) >= self._bon.stop_threshold:
                self.stop(StopReason.THRESHOLD, path[-1])
                return


def _as_best_of_n(settings: CotSettings | SelfConsistencySettings | BestOfNSettings) -> BestOfNSettings:
    """Return how the solutions are sampled, scored and stopped."""
    match settings:
        case BestOfNSettings():
            return settings
        case CotSettings(stop_threshold=None):
            return BestOfNSettings(num_samples=1, score=False)
        case CotSettings():
            return BestOfNSettings(
                num_samples=1 + settings.num_retries, samples_at_once=1, stop_threshold=settings.stop_threshold
            )
        case SelfConsistencySettings():
            return BestOfNSettings(
                num_samples=settings.num_samples,
                samples_at_once=settings.samples_at_once,
                stop_threshold=settings.stop_threshold,
                score=settings.stop_threshold is not None,
            )
