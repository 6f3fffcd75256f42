"""Best-first branching: of all tokens that no solution contains yet, the most promising is taken
and completed greedily.

In free text the likeliest untried token often begins a paraphrase: there, branch at most once a
step, and merge what says the same.

Nothing is generated twice: what is known of a solution up to a branch is given to the policy, not
asked of it. The policy must return alternatives to its tokens; one that does not leaves the search
with a single solution. What a token costs inside a step (a backend may have to generate the step's
beginning again) is the backend's affair.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.ranges import AtLeastOne
from restmcts.domain.requests import Alternative, ProposeSteps, StepsProposed
from restmcts.domain.search.paraphrases import normalised_step
from restmcts.domain.search.protocol import Budget, Coroutine, Search, StopReason, best_final, proposed, scored
from restmcts.domain.search.settings import SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.tree import ROOT, Node


@SEARCHES.register("best-first")
@dataclass(frozen=True, slots=True)
class BestFirstSettings(SearchSettings):
    """Parameters of best-first branching.

    Attributes:
        branch_at: positions of a step at which others of its tokens are tried: all ("tokens"), the
            one with the greatest probability of the tokens that may be tried ("untried-mass"), the
            one where they and the rest have the greatest entropy ("entropy"; TreeRL's EPTree,
            arXiv:2506.11902, branches there), or the first ("step-start").
        num_alternatives: most probable untaken tokens kept at every position.
        min_log_prob: least log-probability of a token that is branched to.
        value_weight: weight of V at the last step end before a branch, in its priority; the rest
            of it is log-probability.
        log_prob_weight: weight of a solution's log-probability in its score; the rest of it is V
            at its end.
        merge: a new step is one that its parent has already if their texts are equal ("exact"), or
            if they are once case, spacing, punctuation and opening connectives are gone
            ("normalised"; the new step is then asked for alone, and the rest of the solution only
            if it says something new).
        stop_threshold: stop at the first finished solution with a score at or above it; None: use
            the whole budget.
        score: whether the value model is asked; without it V is 0 everywhere, and the policy's own
            probabilities lead.
        branches_in_flight: solutions completed at once.
    """

    branch_at: Literal["tokens", "untried-mass", "entropy", "step-start"] = "tokens"
    num_alternatives: AtLeastOne = 4
    min_log_prob: float = -7.0
    value_weight: float = 5.0
    log_prob_weight: float = 0.1
    merge: Literal["exact", "normalised"] = "exact"
    stop_threshold: float | None = 0.6
    score: bool = True
    branches_in_flight: AtLeastOne = 1

    @property
    def samples_branches(self) -> bool:
        return False

    def build(self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()) -> Search:
        return BestFirst(self, budget, seed, ends)

    @property
    def needs_values(self) -> bool:
        return self.score


@dataclass(frozen=True, slots=True)
class _Branch:
    """A token to begin with: the step `begun` below a node, and the log-probability of `begun`
    given that node.
    """

    parent: Node
    begun: str
    log_prob: float


@dataclass(frozen=True, slots=True)
class _Written:
    """A step of a solution: its node, what it began with, and the tokens that it did not take."""

    node: Node
    given: _Branch
    alternatives: tuple[Alternative, ...]


class BestFirst(Search):
    """One completed solution is one iteration; so is a paraphrase that was not completed.

    Invariants: a branch is taken at most once; a step's text is at most once below a node, so
    what leads to a text that is known already costs its tokens and changes nothing.
    """

    needs_log_probs = True

    def __init__(
        self, settings: BestFirstSettings, budget: Budget, seed: int, states_answer: Callable[[str], bool]
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self.settings = settings
        self.max_coroutines = settings.branches_in_flight
        self._waiting: list[tuple[float, int, _Branch]] = [(0.0, 0, _Branch(self.tree.root, "", 0.0))]
        self._num_pushed = 1
        self._num_started = 0

    def next_coroutine(self) -> Coroutine | None:
        limit = self.budget.iterations
        if self.out_of_budget or not self._waiting or (limit is not None and self._num_started >= limit):
            return None
        self._num_started += 1
        return self._complete(heapq.heappop(self._waiting)[2])

    def choose(self) -> Node | None:
        return best_final(self.tree, self._score)

    def _score(self, node: Node) -> float:
        return (node.model_value or 0.0) + self.settings.log_prob_weight * self.tree.log_prob_of(node)

    def _complete(self, branch: _Branch) -> Coroutine:
        num_known = len(self.tree)
        only_step = bool(branch.begun) and self.settings.merge == "normalised"
        answer = proposed((yield [self._ask(branch, 1 if only_step else None)])[0])
        said = self._said_before(branch.parent, answer) if only_step else None
        written = [] if said is not None else self._add(branch, answer)
        if only_step and written and not written[-1].node.final and not self.out_of_budget:
            rest = _Branch(written[-1].node, "", 0.0)
            written += self._add(rest, proposed((yield [self._ask(rest, None)])[0]))
        path = [step.node for step in written]
        fresh = [node for node in path if node.node_id >= num_known]
        if fresh and self.settings.score:
            above = self.tree.steps_to(fresh[0])[:-1]
            response = scored((yield [self.score(above, [tuple(node.step for node in fresh)])])[0])
            for node, value in zip(fresh, response.values[0], strict=True):
                node.model_value = node.search_value = value
        self._count_visit(path if said is None else [said])
        for step in written:
            self._push_alternatives(step)
        self._stop_at_gate(path)

    def _ask(self, branch: _Branch, max_steps: int | None) -> ProposeSteps:
        request = self.propose(branch.parent, 1, max_steps, greedy=True)
        settings = self.settings
        return replace(
            request, begun=branch.begun, num_alternatives=settings.num_alternatives, min_log_prob=settings.min_log_prob
        )

    def _said_before(self, parent: Node, answer: StepsProposed) -> Node | None:
        """Return the parent's child that says the same as the answer's first step, or None."""
        if not answer.samples or not answer.samples[0].steps:
            return None
        words = normalised_step(answer.samples[0].steps[0].text)
        return next((child for child in self.tree.children_of(parent) if normalised_step(child.step) == words), None)

    def _add(self, branch: _Branch, answer: StepsProposed) -> list[_Written]:
        """Add a solution below the branch's node; return its steps, none if nothing came."""
        if not answer.samples or not answer.samples[0].steps:
            return []
        sample = answer.samples[0]
        first = replace(sample.steps[0], log_prob=branch.log_prob + sample.steps[0].log_prob)
        path = self.add_sample(branch.parent, replace(sample, steps=(first, *sample.steps[1:])))
        begun = [branch, *(_Branch(node, "", 0.0) for node in path)]
        return [
            _Written(node, given, step.alternatives)
            for node, given, step in zip(path, begun, sample.steps, strict=False)
        ]

    def _count_visit(self, path: Sequence[Node]) -> None:
        for node in (self.tree.root, *path):
            node.visits += 1
            self.tree.touch(node)
        self.spent.iterations += 1

    def _push_alternatives(self, step: _Written) -> None:
        parent = step.given.parent
        parent.expanded = True
        self.tree.touch(parent)
        for alternative in self._worth_trying(step):
            log_prob = step.given.log_prob + alternative.log_prob_before + alternative.log_prob
            value = parent.model_value if parent.node_id != ROOT else None
            priority = self.tree.log_prob_of(parent) + log_prob + self.settings.value_weight * (value or 0.0)
            heapq.heappush(self._waiting, (-priority, self._num_pushed, _Branch(parent, alternative.begun, log_prob)))
            self._num_pushed += 1

    def _worth_trying(self, step: _Written) -> list[Alternative]:
        allowed = [untried for untried in step.alternatives if untried.log_prob > self.settings.min_log_prob]
        how = self.settings.branch_at
        if how == "tokens" or not allowed:
            return allowed
        if how == "step-start":
            return [] if step.given.begun else [untried for untried in allowed if untried.position == 0]
        by_position: dict[int, list[Alternative]] = defaultdict(list)
        for untried in allowed:
            by_position[untried.position].append(untried)
        measure = _untried_mass if how == "untried-mass" else entropy
        return max(by_position.values(), key=measure)

    def _stop_at_gate(self, path: Sequence[Node]) -> None:
        stop_threshold = self.settings.stop_threshold
        if stop_threshold is not None and path and path[-1].final and self._score(path[-1]) >= stop_threshold:
            self.stop(StopReason.THRESHOLD, path[-1])


def _untried_mass(position: Sequence[Alternative]) -> float:
    return math.fsum(math.exp(untried.log_prob) for untried in position)


def entropy(position: Sequence[Alternative]) -> float:
    """Return the entropy in nats of the untried tokens of a position and of all others as one."""
    rest = max(1.0 - _untried_mass(position), 0.0)
    masses = [math.exp(untried.log_prob) for untried in position] + [rest]
    return -math.fsum(mass * math.log(mass) for mass in masses if mass > 0.0)
