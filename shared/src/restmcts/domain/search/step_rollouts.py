"""Rollouts from the steps of sampled solutions: how often a right answer is reached from there
(MATH-SHEPHERD, arXiv:2312.08935).

The search only samples; what the rollouts say is read from the tree once its leaves are verified
(restmcts.domain.labels.rollouts).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.ranges import AtLeastOne
from restmcts.domain.requests import ProposedStep, Request, Response
from restmcts.domain.search.protocol import Budget, Coroutine, Search, proposed
from restmcts.domain.search.settings import SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.tree import Node

Sampling = Generator[Sequence[Request], Sequence[Response], list[list[Node]]]


@SEARCHES.register("step-rollouts")
@dataclass(frozen=True, slots=True)
class StepRolloutsSettings(SearchSettings):
    """Solutions, and completions of their partial solutions.

    Attributes:
        num_solutions: solutions that are sampled from the question; a tree that begins with given
            steps has these instead.
        num_rollouts: completions of each partial solution that is not finished; of given steps, of
            all of them together.
        rollouts_at_once: completions that one request asks for; null: all. The budget is checked
            between requests.
    """

    num_solutions: AtLeastOne = 1
    num_rollouts: AtLeastOne = 4
    rollouts_at_once: AtLeastOne | None = None

    def build(self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()) -> Search:
        return StepRollouts(self, budget, seed, ends, tuple(begins_with))

    @property
    def needs_values(self) -> bool:
        return False


class StepRollouts(Search):
    """Samples solutions, then completes each of their unfinished partial solutions until that is
    done or the budget is spent.

    Nodes that only completions met are marked `from_rollout`. A node's multiplicity counts the
    samples that ended in it.
    """

    def __init__(
        self,
        settings: StepRolloutsSettings,
        budget: Budget,
        seed: int,
        states_answer: Callable[[str], bool],
        begins_with: tuple[str, ...] = (),
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self._settings = settings
        self._to_complete: list[Node] = []
        self._num_completions = 0
        self._sampled = bool(begins_with)
        if begins_with:
            given = [ProposedStep(text, 0, 0.0) for text in begins_with]
            self._to_complete = self.tree.add_path(self.tree.root, given, self.is_final)[-1:]

    def next_coroutine(self) -> Coroutine | None:
        if self.out_of_budget:
            return None
        if not self._sampled:
            self._sampled = True
            return self._solutions()
        return self._next_completions() if self._to_complete else None

    def choose(self) -> Node | None:
        return next((node for node in self.tree.final_nodes() if not node.from_rollout), None)

    def _solutions(self) -> Coroutine:
        for path in (yield from self._sample(self.tree.root, self._settings.num_solutions, from_rollout=False)):
            self._to_complete += [node for node in path if not node.final and node not in self._to_complete]

    def _next_completions(self) -> Coroutine:
        node, left = self._to_complete[0], self._settings.num_rollouts - self._num_completions
        count = min(left, self._settings.rollouts_at_once or left)
        self._num_completions += count
        if count == left:
            self._to_complete.pop(0)
            self._num_completions = 0
        return self._completions(node, count)

    def _completions(self, node: Node, count: int) -> Coroutine:
        yield from self._sample(node, count, from_rollout=True)

    def _sample(self, node: Node, num_samples: int, *, from_rollout: bool) -> Sampling:
        """Add samples below a node; return the path of each."""
        answer = proposed((yield [self.propose(node, num_samples, None)])[0])
        paths = [self.add_sample(node, sample, from_rollout=from_rollout) for sample in answer.samples]
        for path in paths:
            end = path[-1] if path else node
            end.multiplicity += 1
            self.tree.touch(end)
        self.spent.iterations += num_samples
        return paths
