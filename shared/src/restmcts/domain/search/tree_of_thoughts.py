"""Searches that go layer by layer or depth first under the value model: step beam, and tree of
thoughts (BFS and DFS).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.ranges import AtLeastOne
from restmcts.domain.requests import Request, Response
from restmcts.domain.search.protocol import Budget, Coroutine, Search, StopReason, best_final, proposed, scored
from restmcts.domain.search.settings import SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.tree import Node


@SEARCHES.register("step-beam")
@dataclass(frozen=True, slots=True)
class StepBeamSettings(SearchSettings):
    """Step-level beam search: of all continuations, finished ones included, the best `beam_width`
    live on.

    Attributes:
        beam_width: partial solutions kept.
        branch: samples for each of them and step.
        max_depth: steps of a solution at most.
        stop_threshold: stop at a finished solution of at least this value; None: until all that
            live on are finished.
    """

    beam_width: AtLeastOne = 4
    branch: AtLeastOne = 4
    max_depth: AtLeastOne = 32
    stop_threshold: float | None = None

    def build(self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()) -> Search:
        return LayeredSearch(self, budget, seed, ends)

    @property
    def has_width(self) -> bool:
        return True

    def at_budget(self, budget_tokens: int, solution_tokens: int) -> Self:
        """Keep as many partial solutions as can be carried to their end."""
        affordable = max(budget_tokens // solution_tokens, 1)
        branch = min(self.branch, affordable)
        return replace(self, branch=branch, beam_width=max(affordable // branch, 1))


@SEARCHES.register("tot-bfs")
@dataclass(frozen=True, slots=True)
class TotBfsSettings(SearchSettings):
    """Tree of thoughts, breadth first: finished solutions are set aside, the best `width`
    unfinished ones are expanded.

    Attributes:
        width: states kept a layer.
        branch: samples for each of them.
        max_depth: layers at most.
        stop_threshold: stop at a finished solution of at least this value; None: go through all
            layers.
    """

    width: AtLeastOne = 4
    branch: AtLeastOne = 4
    max_depth: AtLeastOne = 32
    stop_threshold: float | None = None

    def build(self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()) -> Search:
        return LayeredSearch(self, budget, seed, ends)

    @property
    def has_width(self) -> bool:
        return True

    def at_budget(self, budget_tokens: int, solution_tokens: int) -> Self:
        """Keep as many partial solutions as can be carried to their end."""
        affordable = max(budget_tokens // solution_tokens, 1)
        branch = min(self.branch, affordable)
        return replace(self, branch=branch, width=max(affordable // branch, 1))


@SEARCHES.register("tot-dfs")
@dataclass(frozen=True, slots=True)
class TotDfsSettings(SearchSettings):
    """Tree of thoughts, depth first: children in order of value, those below `prune_below` not at
    all.

    Attributes:
        branch: samples of one expansion.
        prune_below: least value of a state that is entered.
        max_depth: steps of a solution at most.
        stop_threshold: stop at a finished solution of at least this value; None: search until
            nothing is left.
    """

    branch: AtLeastOne = 3
    prune_below: float = 0.0
    max_depth: AtLeastOne = 32
    stop_threshold: float | None = 0.9

    def build(
        self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()
    ) -> "DepthFirstSearch":
        return DepthFirstSearch(self, budget, seed, ends)

    @property
    def has_width(self) -> bool:
        return True

    def at_budget(self, budget_tokens: int, solution_tokens: int) -> Self:
        """Branch no more than there are solutions to be carried to their end."""
        return replace(self, branch=min(self.branch, max(budget_tokens // solution_tokens, 1)))


class ExpandingSearch(Search):
    """What the searches here share: expanding nodes and choosing the finished solution of
    highest value.
    """

    max_depth: int
    branch: int

    def choose(self) -> Node | None:
        return best_final(self.tree, lambda node: node.search_value)

    def expand(self, nodes: Sequence[Node]) -> Coroutine:
        """Ask for the children of the nodes and their values, all nodes at once; empty
        expansions leave nodes without children.
        """
        answers = yield [self.propose(node, self.branch, 1) for node in nodes]
        requests: list[Request] = []
        children_of: list[list[Node]] = []
        for node, answer in zip(nodes, answers, strict=True):
            children = self._add_children(node, answer)
            if children:
                children_of.append(children)
                requests.append(self.score(self.tree.steps_to(node), [(child.step,) for child in children]))
        if not requests:
            return
        for children, response in zip(children_of, (yield requests), strict=True):
            for child, (value,) in zip(children, scored(response).values, strict=True):
                child.model_value = child.search_value = value
                self.tree.touch(child)

    def _add_children(self, node: Node, answer: Response) -> list[Node]:
        node.expanded = True
        node.visits += 1
        self.tree.touch(node)
        children = []
        for sample in proposed(answer).samples:
            for step, final in self.continuation(sample)[:1]:
                child, is_new = self.tree.add_child(node, step, final=final)
                if is_new:
                    children.append(child)
        return children

    def is_open(self, node: Node) -> bool:
        return not node.final and node.depth < self.max_depth

    def best_of(self, nodes: Sequence[Node], num_kept: int) -> list[Node]:
        """Return the nodes of highest value, best first; among equals those created first."""
        return sorted(nodes, key=lambda node: -node.search_value)[:num_kept]


class LayeredSearch(ExpandingSearch):
    """Step beam and ToT-BFS: one layer is one iteration."""

    def __init__(
        self,
        settings: StepBeamSettings | TotBfsSettings,
        budget: Budget,
        seed: int,
        states_answer: Callable[[str], bool],
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self.branch = settings.branch
        self.max_depth = settings.max_depth
        self._settings = settings
        self._layer = [self.tree.root]

    def next_coroutine(self) -> Coroutine | None:
        if self.out_of_budget or not any(map(self.is_open, self._layer)):
            return None
        return self._advance()

    def _advance(self) -> Coroutine:
        parents = [node for node in self._layer if self.is_open(node)]
        yield from self.expand(parents)
        children = [child for parent in parents for child in self.tree.children_of(parent)]
        self.spent.iterations += 1
        if isinstance(self._settings, StepBeamSettings):
            waiting = [node for node in self._layer if node.final]
            self._layer = self.best_of([*waiting, *children], self._settings.beam_width)
        else:
            self._layer = self.best_of([child for child in children if self.is_open(child)], self._settings.width)
        stop_threshold = self._settings.stop_threshold
        solved = [
            child
            for child in children
            if child.final and stop_threshold is not None and child.search_value >= stop_threshold
        ]
        if solved:
            self.stop(StopReason.THRESHOLD, self.best_of(solved, 1)[0])


class DepthFirstSearch(ExpandingSearch):
    """ToT-DFS: one expansion is one iteration."""

    def __init__(
        self, settings: TotDfsSettings, budget: Budget, seed: int, states_answer: Callable[[str], bool]
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self.branch = settings.branch
        self.max_depth = settings.max_depth
        self._settings = settings
        self._stack = [self.tree.root]

    def next_coroutine(self) -> Coroutine | None:
        if self.out_of_budget or not self._stack:
            return None
        return self._visit(self._stack.pop())

    def _visit(self, node: Node) -> Coroutine:
        yield from self.expand([node])
        self.spent.iterations += 1
        children = self.best_of(self.tree.children_of(node), self.branch)
        stop_threshold = self._settings.stop_threshold
        for child in children:
            if child.final and stop_threshold is not None and child.search_value >= stop_threshold:
                self.stop(StopReason.THRESHOLD, child)
                return
        entered = [
            child for child in children if self.is_open(child) and child.search_value >= self._settings.prune_below
        ]
        self._stack.extend(reversed(entered))
