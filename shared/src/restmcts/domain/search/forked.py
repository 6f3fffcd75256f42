"""Forked sampling: solutions are sampled, and then sampled again from before the steps at which the
policy was least sure.

After EPTree (TreeRL, arXiv:2506.11902), with whole steps in place of tokens: a fork begins before
the step in which the entropy of a token was greatest, among all steps not yet forked. No value
model is asked. What a fork shares with a solution is given to the policy, not generated again.
Leaves are samples of the policy from where they begin, so that shares of right ones below a node
are estimates of its value without a correction.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.ranges import AtLeastOne
from restmcts.domain.requests import Alternative, ProposedStep
from restmcts.domain.search.best_first import entropy
from restmcts.domain.search.protocol import ROOT, Budget, Coroutine, Search, proposed
from restmcts.domain.search.settings import SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.search.voting import best_by_vote
from restmcts.domain.tree import Node


@SEARCHES.register("forked")
@dataclass(frozen=True, slots=True)
class ForkedSettings(SearchSettings):
    """Parameters of forked sampling; the answer is that of most samples.

    Attributes:
        num_roots: solutions sampled from the problem alone, before any fork.
        max_samples: solutions in all, where the budget allows as many.
        num_alternatives: most probable other tokens of a position that its entropy is computed
            from; all others count as one.
    """

    num_roots: AtLeastOne = 1
    max_samples: AtLeastOne = 64
    num_alternatives: AtLeastOne = 4

    def build(self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()) -> Search:
        return Forked(self, budget, seed, ends)

    @property
    def needs_values(self) -> bool:
        return False


class Forked(Search):
    """One sampled solution is one iteration.

    Invariants: a step is forked at most once; where no step is left to fork, the next solution is
    sampled from the problem alone.
    """

    needs_log_probs = True

    def __init__(
        self, settings: ForkedSettings, budget: Budget, seed: int, states_answer: Callable[[str], bool]
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self.settings = settings
        self._forks: list[tuple[float, int]] = []
        self._num_started = 0

    def next_coroutine(self) -> Coroutine | None:
        limit = min(self.settings.max_samples, self.budget.iterations or self.settings.max_samples)
        if self.out_of_budget or self._num_started >= limit:
            return None
        self._num_started += 1
        return self._sample(self._next_parent())

    def choose(self) -> Node | None:
        return best_by_vote(self.tree, lambda node: node.multiplicity)

    def _next_parent(self) -> Node:
        """Return the node from which the next solution is sampled."""
        if self._num_started <= self.settings.num_roots or not self._forks:
            return self.tree.root
        parent_id = self.tree[heapq.heappop(self._forks)[1]].parent_id
        return self.tree[ROOT if parent_id is None else parent_id]

    def _sample(self, parent: Node) -> Coroutine:
        request = replace(self.propose(parent, 1, None), num_alternatives=self.settings.num_alternatives)
        answer = proposed((yield [request])[0])
        num_known = len(self.tree)
        for sample in answer.samples[:1]:
            path = self.add_sample(parent, sample)
            for node, step in zip(path, sample.steps, strict=False):
                if node.node_id >= num_known:
                    heapq.heappush(self._forks, (-_unsureness(step), node.node_id))
            self._count_visit(parent, path)
        self.spent.iterations += 1

    def _count_visit(self, parent: Node, path: Sequence[Node]) -> None:
        for node in (parent, *path[:-1]):
            node.expanded = True
        if path:
            path[-1].multiplicity += 1
        for node in (*self.tree.lineage(parent), *path):
            node.visits += 1
            self.tree.touch(node)


def _unsureness(step: ProposedStep) -> float:
    """Return the greatest entropy of a token of a step, in nats; of a policy that returns no
    alternatives, how improbable the step was, in nats a token.
    """
    if not step.alternatives:
        return -step.log_prob / max(step.num_tokens, 1)
    by_position: dict[int, list[Alternative]] = defaultdict(list)
    for other in step.alternatives:
        by_position[other.position].append(other)
    return max(map(entropy, by_position.values()))
