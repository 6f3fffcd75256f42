"""Best-first branching: of all tokens that no solution has taken yet, the most promising is taken and completed greedily.

Nothing is generated twice: what is known of a solution up to a branch is given to the policy, not asked of it. The policy must tell
alternatives to its tokens; one that does not leaves the search with a single solution. What a token costs inside a step (a
backend may have to generate the step's beginning again) is the backend's affair.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from restmcts.domain.requests import Alternative, Sample, StepsProposed
from restmcts.domain.search import Budget, Search, StopReason, Strand, best_final, proposed, scored
from restmcts.domain.tree import ROOT, Node
from restmcts.errors import InputError


@dataclass(frozen=True, slots=True)
class BestFirstSettings:
    """Parameters of best-first branching.

    Attributes:
        num_alternatives: most probable untaken tokens kept at every position.
        min_log_prob: least log-probability of a token that is branched to.
        value_weight: of V at the last step end before a branch, in its priority; the rest of it is log-probability.
        log_prob_weight: of a solution's log-probability in its score; the rest of it is V at its end.
        gate: stop at the first finished solution with a score at or above it; None: go on while the budget lasts.
        branches_in_flight: solutions completed at once.
    """

    algorithm: Literal["best-first"] = "best-first"
    num_alternatives: int = 4
    min_log_prob: float = -7.0
    value_weight: float = 5.0
    log_prob_weight: float = 0.1
    gate: float | None = 0.6
    branches_in_flight: int = 1

    def __post_init__(self) -> None:
        for name in ("num_alternatives", "branches_in_flight"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 1")


@dataclass(frozen=True, slots=True)
class _Branch:
    """A token to begin with: the step `begun` below a node, and the log-probability of `begun` given that node."""

    parent: Node
    begun: str
    log_prob: float


class BestFirst(Search):
    """One completed solution is one iteration.

    Invariants: a branch is taken at most once; a step's text stands at most once below a node, so what leads to a text that is
    known already costs its tokens and changes nothing.
    """

    def __init__(self, settings: BestFirstSettings, budget: Budget, seed: int, states_answer: Callable[[str], bool]) -> None:
        super().__init__(budget, seed, states_answer)
        self.settings = settings
        self.max_strands = settings.branches_in_flight
        self._waiting: list[tuple[float, int, _Branch]] = [(0.0, 0, _Branch(self.tree.root, "", 0.0))]
        self._num_pushed = 1

    def next_strand(self) -> Strand | None:
        if self.out_of_budget or not self._waiting:
            return None
        return self._complete(heapq.heappop(self._waiting)[2])

    def choose(self) -> Node | None:
        return best_final(self.tree, self._score)

    def _score(self, node: Node) -> float:
        return (node.model_value or 0.0) + self.settings.log_prob_weight * self.tree.log_prob_of(node)

    def _complete(self, branch: _Branch) -> Strand:
        request = self.propose(branch.parent, 1, None, greedy=True)
        request = replace(request, begun=branch.begun, num_alternatives=self.settings.num_alternatives)
        answer = proposed((yield [request])[0])
        num_known = len(self.tree)
        steps = self._steps(answer, branch)
        path = self.add_sample(branch.parent, steps) if steps is not None else []
        fresh = [node for node in path if node.node_id >= num_known]
        if fresh:
            above = self.tree.steps_to(fresh[0])[:-1]
            response = scored((yield [self.score(above, [tuple(node.step for node in fresh)])])[0])
            for node, value in zip(fresh, response.values[0], strict=True):
                node.model_value = node.value = value
                self.tree.touch(node)
        for node in (self.tree.root, *path):
            node.visits += 1
            self.tree.touch(node)
        self.spent.iterations += 1
        self._push_alternatives(branch, path, answer)
        self._stop_at_gate(path)

    def _steps(self, answer: StepsProposed, branch: _Branch) -> Sample | None:
        """Return the sample with the branch's own log-probability in its first step; None if nothing came."""
        sample = answer.samples[0] if answer.samples else None
        if sample is None or not sample.steps:
            return None
        first = replace(sample.steps[0], log_prob=branch.log_prob + sample.steps[0].log_prob)
        return replace(sample, steps=(first, *sample.steps[1:]))

    def _push_alternatives(self, branch: _Branch, path: Sequence[Node], answer: StepsProposed) -> None:
        parent, given = branch.parent, branch.log_prob
        for node, step in zip(path, answer.samples[0].steps if answer.samples else (), strict=False):
            for alternative in step.alternatives:
                if alternative.log_prob > self.settings.min_log_prob:
                    self._push(parent, alternative, given)
            parent.expanded = True
            self.tree.touch(parent)
            parent, given = node, 0.0

    def _push(self, parent: Node, alternative: Alternative, given: float) -> None:
        log_prob = given + alternative.log_prob_before + alternative.log_prob
        value = parent.model_value if parent.node_id != ROOT else None
        priority = self.tree.log_prob_of(parent) + log_prob + self.settings.value_weight * (value or 0.0)
        heapq.heappush(self._waiting, (-priority, self._num_pushed, _Branch(parent, alternative.begun, log_prob)))
        self._num_pushed += 1

    def _stop_at_gate(self, path: Sequence[Node]) -> None:
        gate = self.settings.gate
        if gate is not None and path and path[-1].final and self._score(path[-1]) >= gate:
            self.stop(StopReason.GATE, path[-1])
