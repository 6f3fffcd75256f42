"""MCTS* (arXiv:2406.03816, Algorithm 2): selection by UCB, expansion by the policy, a greedy
rollout, values backed up as means.

The defaults follow the paper's released code. The options that depart from it are named in
`MctsStarSettings`. How a value model comes to its values, and whether an answer is true, is not
known here.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.prompts import Critique, read_critique
from restmcts.domain.ranges import AtLeastOne, AtLeastZero, NotNegative, UnitInterval
from restmcts.domain.requests import Request, Response, Sample, StepsProposed
from restmcts.domain.search.protocol import Budget, Coroutine, Search, StopReason, best_final, proposed, scored
from restmcts.domain.search.settings import SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.search.voting import best_by_vote
from restmcts.domain.tree import ROOT, Node
from restmcts.domain.values import expected_weighted_reward, quality_value

DETACHED = -1
MAX_FREE_ITERATIONS = 100
MAX_DRY_EXPANSIONS = 4


@SEARCHES.register("mcts-star")
@dataclass(frozen=True, slots=True)
class MctsStarSettings(SearchSettings):
    """Parameters of MCTS*, defaults as released (branch 3, roll_branch 1, roll_forward_steps 3, ε
    0.7, α 0.5, stop threshold 0.9).

    Attributes:
        mode: "solve" ends at the first selected leaf at or above the threshold; "collect" spends
            the whole budget.
        branch: samples of one expansion (b).
        roll_branch: samples of one rollout step.
        roll_forward_steps: steps of a rollout (R).
        selection: "ucb" adds ε * sqrt(2 * ln n_parent / n_c) to a child's value; "puct" adds ε *
            P_c * sqrt(n_parent) / (1 + n_c), where P_c is the child's share of its siblings'
            probability under the policy (arXiv:1712.01815).
        exploration_constant: weight of exploration in the selection (ε).
        alpha: weight of the rollout's best value against the child's own, in [0, 1] (the released
            code's reading).
        stop_threshold: value at which a leaf counts as solved.
        unvisited_bonus: bonus on the value of a child that was never visited.
        value: "model" takes V_θ as the node's value (released code); "cumulative" takes the paper's
            v_k, with r_sk = 1 - V_θ and m_k estimated as the steps left to `expected_depth`.
        expected_depth: steps of a typical solution, for "cumulative".
        leaves_in_flight: simulations under way at once, kept apart by virtual loss; 1 is exactly
            sequential.
        max_depth: a partial solution of that many steps is not continued.
        keep_rollouts: keep the steps of rollouts as nodes for labels and for the answer (selection
            does not see them).
        stop_on_any_gated: end as soon as any finished solution, rollouts included, is at or above
            the threshold; an unfinished leaf that is goes on instead of being the answer.
        widening: c; a node of n visits is expanded up to 1 + floor(c * sqrt(n)) times, until some
            expansions in a row bring nothing new. 0: once.
        skip_finished: never select below a node whose every continuation is finished.
        value_mix: weight of the partial solution's log-probability, added to every value.
        self_critic: what the policy is asked of a partial solution before it is expanded
            (restmcts.domain.prompts.Critic); what it calls solved is final.
        choose: the answer where no leaf reached the threshold: "node" of highest value, final or
            not (released code); "leaf" of highest value among finished ones; "vote": the answer
            with the greatest sum of leaf values.
    """

    mode: Literal["solve", "collect"] = "solve"
    branch: AtLeastOne = 3
    roll_branch: AtLeastOne = 1
    roll_forward_steps: AtLeastZero = 3
    selection: Literal["ucb", "puct"] = "ucb"
    exploration_constant: NotNegative = 0.7
    alpha: UnitInterval = 0.5
    stop_threshold: float = 0.9
    unvisited_bonus: float = 1.0
    value: Literal["model", "cumulative"] = "model"
    expected_depth: AtLeastOne = 8
    leaves_in_flight: AtLeastOne = 1
    max_depth: int | None = None
    keep_rollouts: bool = False
    stop_on_any_gated: bool = False
    widening: NotNegative = 0.0
    skip_finished: bool = False
    value_mix: NotNegative = 0.0
    self_critic: Literal["none", "simple", "common"] = "none"
    choose: Literal["node", "leaf", "vote"] = "node"

    def build(self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()) -> Search:
        return MctsStar(self, budget, seed, ends)

    @property
    def verified_threshold(self) -> float:
        return self.stop_threshold


class MctsStar(Search):
    """One tree of MCTS*.

    Invariants: every completed simulation adds exactly one visit to the root; with one leaf in
    flight the tree is the released search's tree (golden cases in tests/golden). A tree in which
    nothing can be expanded any more goes on collecting visits only while a limit of iterations will
    end it; without one, a long row of visits that cost nothing is followed by one that does.
    """

    def __init__(
        self, settings: MctsStarSettings, budget: Budget, seed: int, states_answer: Callable[[str], bool]
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self.settings = settings
        self.max_coroutines = settings.leaves_in_flight
        self.needs_log_probs = settings.value_mix > 0
        self.finished_at_iteration: int | None = None
        self._num_started = 0
        self._num_free = 0
        self._num_expansions: dict[int, int] = {}
        self._num_dry: dict[int, int] = {}
        self._closed: set[int] = set()
        self._gated: Node | None = None

    def next_coroutine(self) -> Coroutine | None:
        limit = self.budget.iterations
        while not self.out_of_budget and (limit is None or self._num_started < limit):
            path = self._select()
            leaf = path[-1]
            if self._is_solved(leaf):
                self.finished_at_iteration = self._num_started + 1
                self.stop(StopReason.THRESHOLD, leaf)
                return None
            if self.tree.root.node_id in self._closed and (limit is None or self.settings.skip_finished):
                self.stop(StopReason.EXHAUSTED)
                return None
            if leaf.pending_visits:
                return None
            self._num_started += 1
            if self._is_expandable(leaf):
                self._num_free = 0
                return self._simulate(path)
            self._num_free += 1
            self._back_propagate(path)
        return None

    def choose(self) -> Node | None:
        if self.settings.choose == "vote":
            return best_by_vote(self.tree, lambda node: node.search_value)
        if self.settings.choose == "leaf":
            leaf = best_final(self.tree, lambda node: node.search_value)
            if leaf is not None:
                return leaf
        best = self.tree.root
        for node in self.tree.depth_first():
            if node.search_value >= best.search_value:
                best = node
        return best

    def _select(self) -> list[Node]:
        path = [self.tree.root]
        while path[-1].expanded and not self._may_widen(path[-1]):
            children = self.tree.children_of(path[-1])
            if self._skips_finished:
                children = [child for child in children if child.node_id not in self._closed]
            if self.max_coroutines > 1:
                children = [child for child in children if not self._is_busy(child)]
            if not children:
                break
            path.append(self._best_child(path[-1], children))
        return path

    @property
    def _skips_finished(self) -> bool:
        """Whether closed nodes are passed over: also when only they would be visited, with
        nothing that ends it.
        """
        return self.settings.skip_finished or (self.budget.iterations is None and self._num_free >= MAX_FREE_ITERATIONS)

    def _is_busy(self, node: Node) -> bool:
        """Return whether a node, or everything below it, waits for the answers of other
        simulations.
        """
        if node.model_value is None:
            return True
        return node.pending_visits > 0 and (not node.expanded or all(map(self._is_busy, self.tree.children_of(node))))

    def _best_child(self, parent: Node, children: Sequence[Node]) -> Node:
        return max(children, key=lambda child: self._upper_bound(parent, child))

    def _upper_bound(self, parent: Node, child: Node) -> float:
        """Return the child's UCB or PUCT; a visit under way counts as one that brought 0
        (virtual loss).
        """
        if self.settings.selection == "puct":
            return self._with_prior(parent, child)
        num_visits = child.visits + child.pending_visits
        if num_visits == 0:
            return child.search_value + self.settings.unvisited_bonus
        parent_visits = parent.visits + parent.pending_visits
        bonus = math.sqrt(2.0 * math.log(parent_visits) / num_visits)
        return self._lowered_value(child) + self.settings.exploration_constant * bonus

    def _with_prior(self, parent: Node, child: Node) -> float:
        siblings = self.tree.children_of(parent)
        most = max(node.log_prob for node in siblings)
        prior = math.exp(child.log_prob - most) / sum(math.exp(node.log_prob - most) for node in siblings)
        parent_visits = parent.visits + parent.pending_visits
        bonus = prior * math.sqrt(parent_visits) / (1 + child.visits + child.pending_visits)
        return self._lowered_value(child) + self.settings.exploration_constant * bonus

    def _lowered_value(self, child: Node) -> float:
        known = max(child.visits, 1)
        return (
            child.search_value * known / (known + child.pending_visits) if child.pending_visits else child.search_value
        )

    def _is_expandable(self, node: Node) -> bool:
        if node.final or (self.settings.max_depth is not None and node.depth >= self.settings.max_depth):
            return False
        if node.expanded:
            return self.settings.widening > 0 and self._num_dry.get(node.node_id, 0) < MAX_DRY_EXPANSIONS
        return self.settings.mode == "solve" or node.search_value < self.settings.stop_threshold

    def _is_solved(self, leaf: Node) -> bool:
        may_end = self.settings.mode == "solve" and (leaf.final or not self.settings.stop_on_any_gated)
        return may_end and leaf.search_value >= self.settings.stop_threshold and not leaf.expanded

    def _may_widen(self, node: Node) -> bool:
        allowed = 1 + math.floor(self.settings.widening * math.sqrt(node.visits))
        is_dry = self._num_dry.get(node.node_id, 0) >= MAX_DRY_EXPANSIONS
        return not node.pending_visits and not is_dry and self._num_expansions.get(node.node_id, 0) < allowed

    def _simulate(self, path: list[Node]) -> Coroutine:
        leaf = path[-1]
        for node in path:
            node.pending_visits += 1
        critique = yield from self._criticise(leaf)
        leaf.final = leaf.final or critique.solved
        children: list[Node] = []
        if not leaf.final:
            request = replace(self.propose(leaf, self.settings.branch, 1), analysis=critique.analysis)
            children = self._expand(leaf, proposed((yield [request])[0]))
        if children:
            steps = self.tree.steps_to(leaf)
            response = scored((yield [self.score(steps, [(child.step,) for child in children])])[0])
            lineage = self.tree.lineage(leaf)
            for child, values in zip(children, response.values, strict=True):
                self._value_branch(lineage, [child], values)
            best = self._best_child(leaf, children)
            if not best.final:
                yield from self._roll_out(best)
            best.visits += 1
            self.tree.touch(best)
        for node in path:
            node.pending_visits -= 1
        self._back_propagate(path)
        if self._gated is not None:
            self.stop(StopReason.THRESHOLD, self._gated)

    def _criticise(self, leaf: Node) -> Generator[Sequence[Request], Sequence[Response], Critique]:
        """Ask the policy what it thinks of a partial solution; of none it can say nothing."""
        critic = self.settings.self_critic
        if critic == "none" or leaf.node_id == ROOT:
            return Critique(False)
        request = replace(self.propose(leaf, 1, 1, greedy=True), critic=critic)
        samples = proposed((yield [request])[0]).samples
        reply = samples[0].steps[0].text if samples and samples[0].steps else ""
        self.tree.touch(leaf)
        return read_critique(critic, reply)

    def _expand(self, leaf: Node, answer: StepsProposed) -> list[Node]:
        leaf.expanded = True
        self.tree.touch(leaf)
        self._num_expansions[leaf.node_id] = self._num_expansions.get(leaf.node_id, 0) + 1
        children = []
        for sample in answer.samples:
            for step, final in self.continuation(sample)[:1]:
                child, is_new = self.tree.add_child(leaf, step, final=final)
                if is_new:
                    children.append(child)
        self._num_dry[leaf.node_id] = 0 if children else self._num_dry.get(leaf.node_id, 0) + 1
        return children

    def _value_branch(self, lineage: Sequence[Node], branch: Sequence[Node], values: Sequence[float]) -> None:
        """Set the values of a chain of nodes that continues a path from the root."""
        for index, (node, model_value) in enumerate(zip(branch, values, strict=True)):
            node.model_value = model_value
            node.search_value = self._search_value([*lineage, *branch[: index + 1]])
            if node.node_id != DETACHED:
                self.tree.touch(node)
                if self.settings.stop_on_any_gated and node.final and node.search_value >= self.settings.stop_threshold:
                    self._gated = self._gated or node

    def _search_value(self, lineage: Sequence[Node]) -> float:
        """Return the value that the search gives to the last node of a path from the root
        before any backup.
        """
        if self.settings.value == "model":
            value = lineage[-1].model_value or 0.0
        else:
            value = 0.0
            for node in lineage[1:]:
                distance = max(self.settings.expected_depth - node.depth, 0)
                value = quality_value(value, expected_weighted_reward(value, distance, node.model_value or 0.0))
        if self.settings.value_mix:
            value += self.settings.value_mix * sum(node.log_prob for node in lineage)
        return value

    def _roll_out(self, child: Node) -> Coroutine:
        """Walk greedily below a child and mix the best value met into the child's own."""
        lineage = self.tree.lineage(child)
        best_value: float | None = None
        num_left = self.settings.roll_forward_steps
        if self.settings.max_depth is not None:
            num_left = min(num_left, self.settings.max_depth - child.depth)
        while num_left > 0 and not lineage[-1].final and not self.out_of_budget:
            num_steps = num_left if self.settings.roll_branch == 1 else 1
            steps = tuple(node.step for node in lineage[1:])
            answer = proposed((yield [self.propose_after(steps, self.settings.roll_branch, num_steps)])[0])
            branches = [branch for sample in answer.samples if (branch := self._rollout_branch(lineage[-1], sample))]
            if not branches:
                break
            texts = [tuple(node.step for node in branch) for branch in branches]
            response = scored((yield [self.score(steps, texts)])[0])
            for branch, values in zip(branches, response.values, strict=True):
                self._value_branch(lineage, branch, values)
            branch = max(branches, key=lambda branch: branch[-1].search_value)
            best_value = max(best_value or 0.0, *(node.search_value for node in branch))
            lineage = lineage + branch
            num_left -= len(branch)
            if num_steps > len(branch):
                break
        child.search_value = (1.0 - self.settings.alpha) * child.search_value + self.settings.alpha * (
            best_value or 0.0
        )
        self.tree.touch(child)

    def _rollout_branch(self, parent: Node, sample: Sample) -> list[Node]:
        if self.settings.keep_rollouts:
            return self.add_sample(parent, sample, from_rollout=True)
        return [
            Node(DETACHED, None, step.text, parent.depth + place, step.log_prob, step.num_tokens, final=final)
            for place, (step, final) in enumerate(self.continuation(sample), start=1)
        ]

    def _back_propagate(self, path: Sequence[Node]) -> None:
        for node in reversed(path):
            node.visits += 1
            children = self.tree.children_of(node)
            num_visits = sum(child.visits for child in children)
            if num_visits:
                node.search_value = sum(child.search_value * child.visits for child in children) / num_visits
            self.tree.touch(node)
        self.spent.iterations += 1
        self._close(path)

    def _close(self, path: Sequence[Node]) -> None:
        """Close what can bring nothing new: unexpandable leaves (but for solved ones in solve
        mode), then nodes above only such.
        """
        solving = self.settings.mode == "solve"
        for child in self.tree.children_of(path[-1]):
            solved = solving and child.search_value >= self.settings.stop_threshold
            if not self._is_expandable(child) and not child.expanded and not solved:
                self._closed.add(child.node_id)
        for node in reversed(path):
            children = self.tree.children_of(node)
            if self._is_expandable(node) or not all(child.node_id in self._closed for child in children):
                break
            self._closed.add(node.node_id)
