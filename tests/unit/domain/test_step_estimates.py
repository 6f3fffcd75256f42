"""Estimates of steps: against the formulas computed leaf by leaf, and what follows from them."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restmcts.domain.learning.estimates import (
    StepEstimate,
    VerifiedStep,
    decisive_steps,
    estimate_steps,
    probability_above,
    progress,
    prover_value,
)
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.tree import Node, Tree
from restmcts.testing.trees import random_tree

RIGHT, WRONG, UNDECIDED = Verdict.RIGHT, Verdict.WRONG, Verdict.UNDECIDED
seeds = st.integers(0, 2**32)
sizes = st.integers(1, 40)
weights = st.floats(0.0, 1.0)
quick = settings(max_examples=60, deadline=None)


def weighted_tree(seed: int, num_nodes: int) -> tuple[Tree, dict[int, Verdict]]:
    """Return a tree whose log-probabilities and multiplicities differ."""
    tree, verdicts = random_tree(seed, num_nodes)
    for node in tree.nodes[1:]:
        node.log_prob = -0.1 - (node.node_id * 7 % 5) / 2
        node.multiplicity = node.node_id % 3 if node.final else 0
    return tree, verdicts


def leaf_weights(tree: Tree, verdicts: Mapping[int, Verdict], node: Node, tau: float) -> list[tuple[float, int, bool]]:
    """Return (weight of one of its samples, number of samples, is right) of each decided leaf."""
    found = []
    for leaf in tree.depth_first(node.node_id):
        if leaf.final and verdicts.get(leaf.node_id) in (RIGHT, WRONG):
            log_prob = tree.log_prob_of(leaf) - tree.log_prob_of(node)
            samples = max(leaf.multiplicity, 1)
            found.append((math.exp(tau * log_prob), samples, verdicts[leaf.node_id] == RIGHT))
    return found


@quick
@given(seeds, sizes, weights, st.floats(0.0, 4.0))
def test_estimates_are_the_formulas_computed_leaf_by_leaf(seed: int, size: int, tau: float, kappa: float) -> None:
    tree, verdicts = weighted_tree(seed, size)
    estimates = estimate_steps(tree, verdicts, probability_weight=tau, shrinkage=kappa)
    for node in tree.nodes:
        leaves = leaf_weights(tree, verdicts, node, tau)
        assert (node.node_id in estimates) == bool(leaves)
        if not leaves:
            continue
        found = estimates[node.node_id]
        total = sum(one * count ** (1 - tau) for one, count, _ in leaves)
        mean = sum(one * count ** (1 - tau) for one, count, right in leaves if right) / total
        effective = total**2 / sum(one**2 * count ** (1 - tau) for one, count, _ in leaves)
        assert found.mean == pytest.approx(mean, abs=1e-9)
        assert found.effective_leaves == pytest.approx(effective)
        assert found.num_leaves == sum(count for _, count, _ in leaves)
        assert found.num_right == sum(count for _, count, right in leaves if right)
        parent = estimates[node.parent_id].value if node.parent_id is not None else mean
        trust = 0.0 if node.final else kappa
        assert found.value == pytest.approx((effective * mean + trust * parent) / (effective + trust), abs=1e-9)


@quick
@given(seeds, sizes, weights)
def test_estimates_stay_in_their_ranges(seed: int, size: int, tau: float) -> None:
    tree, verdicts = weighted_tree(seed, size)
    for found in estimate_steps(tree, verdicts, probability_weight=tau).values():
        assert 0.0 <= found.mean <= 1.0
        assert 0.0 <= found.value <= 1.0
        assert 1.0 - 1e-9 <= found.effective_leaves <= found.num_leaves + 1e-9
        assert 0 <= found.num_right <= found.num_leaves


@quick
@given(seeds, sizes, weights)
def test_undecided_leaves_count_nowhere(seed: int, size: int, tau: float) -> None:
    tree, verdicts = weighted_tree(seed, size)
    decided = {node_id: verdict for node_id, verdict in verdicts.items() if verdict != UNDECIDED}
    with_undecided = estimate_steps(tree, verdicts, probability_weight=tau)
    assert with_undecided == estimate_steps(tree, decided, probability_weight=tau)
    for node_id in set(verdicts) - set(decided):
        for above in tree.lineage(tree[node_id]):
            found = with_undecided.get(above.node_id)
            assert found is None or not found.is_lost


@quick
@given(seeds, sizes)
def test_without_shrinkage_the_value_is_the_mean_and_with_much_it_is_the_roots(seed: int, size: int) -> None:
    tree, verdicts = weighted_tree(seed, size)
    for node_id, found in estimate_steps(tree, verdicts, shrinkage=0.0).items():
        assert found.value == pytest.approx(found.mean), node_id
    heavy = estimate_steps(tree, verdicts, shrinkage=1e9)
    for node_id, found in heavy.items():
        assert found.value == pytest.approx(found.mean if tree[node_id].final else heavy[0].value, abs=1e-6)


def test_a_right_leaf_of_vanishing_probability_is_not_forgotten() -> None:
    tree = Tree()
    step, _ = tree.add_child(tree.root, ProposedStep("a\n", 1, -1.0), final=False)
    likely, _ = tree.add_child(step, ProposedStep("b\n", 1, -1.0), final=True)
    unlikely, _ = tree.add_child(step, ProposedStep("c\n", 900, -2000.0), final=True)
    verdicts = {likely.node_id: WRONG, unlikely.node_id: RIGHT}
    found = estimate_steps(tree, verdicts, probability_weight=1.0)[step.node_id]
    assert (found.mean, found.num_right, found.is_lost) == (0.0, 1, False)
    assert estimate_steps(tree, verdicts)[step.node_id].mean == 0.5


def test_weighting_corrects_what_choosing_branches_distorts() -> None:
    """A step that is right nine times in ten, of whose leaves a search kept one of each kind."""
    tree = Tree()
    right, _ = tree.add_child(tree.root, ProposedStep("a\n", 1, math.log(0.9)), final=True)
    wrong, _ = tree.add_child(tree.root, ProposedStep("b\n", 1, math.log(0.1)), final=True)
    verdicts = {right.node_id: RIGHT, wrong.node_id: WRONG}
    assert estimate_steps(tree, verdicts)[0].mean == 0.5
    assert estimate_steps(tree, verdicts, probability_weight=1.0)[0].mean == pytest.approx(0.9)


@quick
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(1, 16))
def test_a_prover_values_no_step_below_the_policy_and_keeps_the_order(first: float, second: float, tries: int) -> None:
    assert first - 1e-12 <= prover_value(first, tries) <= 1.0
    assert (prover_value(first, tries) <= prover_value(second, tries)) or first > second
    assert prover_value(first, 1) == pytest.approx(first)


def test_progress_is_the_gain_over_the_parent() -> None:
    tree = Tree()
    step, _ = tree.add_child(tree.root, ProposedStep("a\n", 1, -1.0), final=False)
    for text, count in (("b\n", 1), ("c\n", 1)):
        leaf, _ = tree.add_child(step, ProposedStep(text, 1, -1.0), final=True)
        leaf.multiplicity = count
    lost, _ = tree.add_child(tree.root, ProposedStep("d\n", 1, -1.0), final=True)
    lost.multiplicity = 2
    verdicts = {2: RIGHT, 3: WRONG, lost.node_id: WRONG}
    estimates = estimate_steps(tree, verdicts, shrinkage=0.0)
    assert progress(estimates, tree.root, 4) == 0.0
    assert progress(estimates, step, 4) == pytest.approx((1 - 0.5**4) - (1 - 0.75**4))
    assert progress(estimates, lost, 4) == pytest.approx(-(1 - 0.75**4))


def estimate(num_right: int, num_wrong: int) -> StepEstimate:
    number = num_right + num_wrong
    mean = num_right / number
    return StepEstimate(mean, mean, number, num_right, float(number), False)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        # P(X > Y) of X ~ Beta(2, 1), Y ~ Beta(1, 2) is the integral of 2x (2x - x^2) = 5/6.
        (estimate(1, 0), estimate(0, 1), 5 / 6),
        # Beta(3, 1) and Beta(1, 3): the integral of 3x^2 (1 - (1 - x)^3) = 19/20.
        (estimate(2, 0), estimate(0, 2), 19 / 20),
        (estimate(3, 1), estimate(3, 1), 0.5),
    ],
)
def test_which_step_is_likely_worth_more(first: StepEstimate, second: StepEstimate, wanted: float) -> None:
    assert probability_above(first, second) == pytest.approx(wanted, abs=1e-4)
    assert probability_above(second, first) == pytest.approx(1 - wanted, abs=1e-4)


@quick
@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 500), st.integers(1, 500))
def test_one_of_two_orders_is_true(right: int, wrong: int, other_right: int, other_wrong: int) -> None:
    first, second = estimate(right, wrong), estimate(other_right, other_wrong)
    both = probability_above(first, second) + probability_above(second, first)
    assert both == pytest.approx(1.0)
    more = replace(first, mean=min(first.mean + 0.1, 1.0))
    assert probability_above(more, second) >= probability_above(first, second) - 1e-9


@quick
@given(seeds, sizes)
def test_a_decisive_step_is_lost_after_a_step_that_was_not(seed: int, num_nodes: int) -> None:
    tree, verdicts = random_tree(seed, num_nodes)
    estimates = estimate_steps(tree, verdicts)
    lost = {
        node.node_id
        for node in tree.nodes
        if node.parent_id is not None
        and node.node_id in estimates
        and estimates[node.node_id].is_lost
        and estimates[node.parent_id].num_right
    }
    steps = [VerifiedStep(one.node_id, one.parent_id, one.final, verdicts.get(one.node_id)) for one in tree.nodes]
    assert decisive_steps(steps) == lost


def test_random_trees_have_decisive_steps() -> None:
    found = 0
    for seed in range(20):
        tree, verdicts = random_tree(seed, 40)
        found += len(
            decisive_steps([VerifiedStep(n.node_id, n.parent_id, n.final, verdicts.get(n.node_id)) for n in tree.nodes])
        )
    assert found > 20
