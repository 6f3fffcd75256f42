"""What a model's values buy on searched trees at equal tokens: how often the solution that they
choose is right, beside random choice, the policy's own likelihood and both together, as a
best-first search adds them.

Nothing is generated: solutions are drawn from those that a tree has, and a best-first search is
replayed on its steps. Accuracies are over problems, a problem's trees counting alike; differences
are paired. Knows no models and no storage.
"""

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from statistics import fmean

from restmcts.domain.problems import Verdict
from restmcts.domain.requests import derive_seed
from restmcts.domain.scoring import Aggregation, aggregate
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.tree import ROOT, Node, Tree

TOKEN_SHARES = (0.25, 0.5)
"""Of a tree's tokens: what a replayed best-first search may spend."""

NUM_REPEATS = 16
"""Replays of a best-first search in random order."""

LOG_PROB_WEIGHT = BestFirstSettings().log_prob_weight
"""Of a solution's log-probability beside V, as a best-first search has it."""


@dataclass(frozen=True, slots=True)
class ScoredTree:
    """A searched tree.

    Attributes:
        problem: its id, the same for all trees of the problem.
        verdicts: of its end leaves, by node id; what is undecided counts as wrong.
        values: of its nodes, by id; a solution that lacks one makes the tree unusable.
    """

    problem: int
    tree: Tree
    verdicts: Mapping[int, Verdict]
    values: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to spend tokens, and how often the chosen solution is right.

    Attributes:
        way: for people.
        tokens: that it generates, mean over problems.
        model: accuracy under the model's values.
        likelihood: under the policy's likelihood a token; None where no tree has one.
        combined: under V + 0.1 log p; likewise.
        at_random: of a solution, or in an order, that chance chooses.
        any_right: share in which a right solution is there to be chosen.
        gain: of the model over chance.
        gain_over_likelihood: likewise; None where there is none.
        combined_over_likelihood: gain of V + 0.1 log p; likewise.
    """

    way: str
    tokens: float
    model: Estimate
    likelihood: Estimate | None
    combined: Estimate | None
    at_random: Estimate
    any_right: Estimate
    gain: Estimate
    gain_over_likelihood: Estimate | None
    combined_over_likelihood: Estimate | None


@dataclass(frozen=True, slots=True)
class _Solution:
    """A finished solution; `num` samples ended in it."""

    node_id: int
    num: int
    is_right: bool


Score = Callable[[ScoredTree, Node], float]
Outcome = tuple[float, float, float, float, float, float]
"""Tokens, then how often right: model, likelihood, combined, at random, any."""


def value_choices(trees: Sequence[ScoredTree], aggregation: Aggregation) -> tuple[Choice, ...]:
    """Return what the values buy, by the number of solutions and by the tokens of a best-first
    search; none where no tree has two solutions.

    Args:
        aggregation: of a solution's values to its score.
    """
    usable = [tree for tree in trees if len(_solutions(tree)) > 1 and _is_scored(tree)]
    if not usable:
        return ()
    has_likelihood = any(has_log_probs(one.tree) for one in usable)
    most = max(sum(one.num for one in _solutions(tree)) for tree in usable)
    sizes = [2**power for power in range(1, most.bit_length()) if 2**power <= most]
    ways: list[tuple[str, Callable[[ScoredTree], Outcome]]] = [
        (f"best of {size}", partial(_best_of, size=size, aggregation=aggregation)) for size in sizes
    ]
    ways += [
        (f"best-first, {100 * part:.0f} % of the tokens", partial(_best_first, part=part, aggregation=aggregation))
        for part in TOKEN_SHARES
    ]
    return tuple(_choice(way, usable, outcome, has_likelihood=has_likelihood) for way, outcome in ways)


def has_log_probs(tree: Tree) -> bool:
    """Return whether the policy gave log-probabilities of a tree's steps."""
    return any(node.log_prob for node in tree.nodes)


def _solutions(one: ScoredTree) -> list[_Solution]:
    return [
        _Solution(node.node_id, max(node.multiplicity, 1), one.verdicts[node.node_id] == Verdict.RIGHT)
        for node in one.tree.final_nodes()
        if node.node_id in one.verdicts
    ]


def _is_scored(one: ScoredTree) -> bool:
    ends = (one.tree[solution.node_id] for solution in _solutions(one))
    return all(node.node_id in one.values for end in ends for node in one.tree.lineage(end)[1:])


def _choice(
    way: str, trees: Sequence[ScoredTree], outcome: Callable[[ScoredTree], Outcome], *, has_likelihood: bool
) -> Choice:
    by_problem: dict[int, list[Outcome]] = defaultdict(list)
    for tree in trees:
        by_problem[tree.problem].append(outcome(tree))
    means = [tuple(map(fmean, zip(*outcomes, strict=True))) for outcomes in by_problem.values()]
    tokens, *rest = zip(*means, strict=True)
    model, likelihood, combined, at_random, any_right = (Figure.of(each) for each in rest)
    return Choice(
        way,
        fmean(tokens),
        model.estimate,
        likelihood.estimate if has_likelihood else None,
        combined.estimate if has_likelihood else None,
        at_random.estimate,
        any_right.estimate,
        model.minus(at_random),
        model.minus(likelihood) if has_likelihood else None,
        combined.minus(likelihood) if has_likelihood else None,
    )


def log_likelihood(tree: Tree, node: Node) -> float:
    """Return the policy's log-likelihood a token of a partial solution."""
    num_tokens = sum(ancestor.num_tokens for ancestor in tree.lineage(node))
    return tree.log_prob_of(node) / max(num_tokens, 1)


def with_log_prob(tree: Tree, node: Node, value: float) -> float:
    """Return V + 0.1 log p of a partial solution."""
    return value + LOG_PROB_WEIGHT * tree.log_prob_of(node)


def _by_likelihood(one: ScoredTree, node: Node) -> float:
    return log_likelihood(one.tree, node)


def _combined(value: Score) -> Score:
    return lambda one, node: with_log_prob(one.tree, node, value(one, node))


def _by_value(one: ScoredTree, node: Node) -> float:
    return one.values.get(node.node_id, 0.0)


def _by_solution_value(aggregation: Aggregation) -> Score:
    def score(one: ScoredTree, node: Node) -> float:
        return aggregate([one.values[each.node_id] for each in one.tree.lineage(node)[1:]], aggregation)

    return score


def _best_of(one: ScoredTree, size: int, aggregation: Aggregation) -> Outcome:
    """Return what choosing among `size` of the tree's samples comes to, exactly: the mean over all
    ways to draw them. A tree with fewer gives all it has.
    """
    solutions = _solutions(one)
    num = sum(solution.num for solution in solutions)
    size = min(size, num)
    num_right = sum(solution.num for solution in solutions if solution.is_right)
    lengths = [
        solution.num * sum(node.num_tokens for node in one.tree.lineage(one.tree[solution.node_id]))
        for solution in solutions
    ]
    return (
        size * sum(lengths) / num,
        _best_of_drawn(one, solutions, size, _by_solution_value(aggregation)),
        _best_of_drawn(one, solutions, size, _by_likelihood),
        _best_of_drawn(one, solutions, size, _combined(_by_solution_value(aggregation))),
        num_right / num,
        1.0 - math.comb(num - num_right, size) / math.comb(num, size),
    )


def _best_of_drawn(one: ScoredTree, solutions: Sequence[_Solution], size: int, score: Score) -> float:
    """Return the chance that the best of the drawn samples is right; equal ones share it."""
    pairs = [(score(one, one.tree[solution.node_id]), solution) for solution in solutions]
    num = sum(solution.num for solution in solutions)
    below = 0
    chance = 0.0
    for _, group in groupby(sorted(pairs, key=itemgetter(0)), key=itemgetter(0)):
        members = [solution for _, solution in group]
        here = sum(solution.num for solution in members)
        is_best = math.comb(below + here, size) - math.comb(below, size)
        chance += is_best / math.comb(num, size) * sum(one.num for one in members if one.is_right) / here
        below += here
    return chance


def _best_first(one: ScoredTree, part: float, aggregation: Aggregation) -> Outcome:
    """Return what a best-first search that may generate a part of the tree's tokens comes to."""
    budget = part * sum(node.num_tokens for node in one.tree.nodes)
    right = {solution.node_id for solution in _solutions(one) if solution.is_right}
    shuffles = [_shuffled(one, number) for number in range(NUM_REPEATS)]
    of_solution = _by_solution_value(aggregation)
    model = _replayed(one, budget, _by_value, of_solution)
    likelihood = _replayed(one, budget, _by_likelihood, _by_likelihood)
    combined = _replayed(one, budget, _combined(_by_value), _combined(of_solution))
    at_random = fmean(_replayed(one, budget, shuffle, shuffle) in right for shuffle in shuffles)
    chosen = (float(solution in right) for solution in (model, likelihood, combined))
    return (budget, *chosen, at_random, float(bool(right)))  # type: ignore[return-value]


def _shuffled(one: ScoredTree, number: int) -> Score:
    generator = random.Random(derive_seed("value-choices", one.problem, number))
    order = [generator.random() for _ in one.tree.nodes]
    return lambda _, node: order[node.node_id]


def _replayed(one: ScoredTree, budget: float, priority: Score, score: Score) -> int | None:
    """Return the finished solution of the best score that is met within the budget: the most
    promising step is gone on from, and all that was tried after it comes with it, for its tokens.
    """
    known = {solution.node_id for solution in _solutions(one)}
    waiting = [(0.0, ROOT)]
    spent = 0.0
    found: list[tuple[float, int]] = []
    while waiting:
        _, node_id = heapq.heappop(waiting)
        children = [one.tree[child] for child in one.tree[node_id].children]
        spent += sum(child.num_tokens for child in children)
        if spent > budget:
            break
        for child in children:
            if child.node_id in known:
                found.append((score(one, child), -child.node_id))
            if child.children:
                heapq.heappush(waiting, (-priority(one, child), child.node_id))
    return -max(found)[1] if found else None
