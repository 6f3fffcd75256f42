"""Labels and estimates where a verdict has a score: the share of tests that a program passes."""

import pytest
from restmcts.domain.labels.inferred import infer_labels
from restmcts.domain.labels.rollouts import rollout_labels
from restmcts.domain.learning.estimates import estimate_steps
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.tree import Node, Tree


def tree_of_three() -> tuple[Tree, list[Node], list[Node]]:
    """Return a tree with two first steps, the leaves a1 and a2 below the first and b1 below the
    second, each sampled once.
    """
    tree, firsts, leaves = Tree(), [], []
    for name, count in (("a", 2), ("b", 1)):
        first, _ = tree.add_child(tree.root, ProposedStep(f"{name}\n", 1, -1.0), final=False)
        firsts.append(first)
        for number in range(count):
            leaf, _ = tree.add_child(first, ProposedStep(f"{name}{number}\n", 1, -1.0), final=True)
            leaf.multiplicity = 1
            leaves.append(leaf)
    return tree, firsts, leaves


def ids(nodes: list[Node]) -> list[int]:
    return [node.node_id for node in nodes]


WRONG, RIGHT, UNDECIDED = Verdict.WRONG, Verdict.RIGHT, Verdict.UNDECIDED


def test_an_unsolved_tree_has_the_values_of_its_best_leaf_and_no_right_step() -> None:
    tree, firsts, leaves = tree_of_three()
    solved = infer_labels(tree, dict(zip(ids(leaves), (RIGHT, WRONG, WRONG), strict=True)))
    scores = dict(zip(ids(leaves), (0.6, 0.2, 0.0), strict=True))
    found = infer_labels(tree, dict.fromkeys(ids(leaves), WRONG), scores)
    assert found.keys() == solved.keys()
    assert found[leaves[0].node_id].quality_value == pytest.approx(0.6)
    assert found[firsts[0].node_id].quality_value > found[firsts[1].node_id].quality_value
    for node_id, label in found.items():
        assert label.quality_value == pytest.approx(0.6 * solved[node_id].quality_value)
        assert not label.step_is_right


def test_scores_change_nothing_in_a_solved_tree_and_nothing_comes_of_none() -> None:
    tree, _, leaves = tree_of_three()
    verdicts = dict(zip(ids(leaves), (RIGHT, WRONG, WRONG), strict=True))
    assert infer_labels(tree, verdicts, {leaves[1].node_id: 0.9}) == infer_labels(tree, verdicts)
    assert infer_labels(tree, dict.fromkeys(ids(leaves), WRONG), dict.fromkeys(ids(leaves), 0.0)) == {}
    assert infer_labels(tree, dict.fromkeys(ids(leaves), UNDECIDED)) == {}


def test_rollouts_have_the_mean_score_or_the_best() -> None:
    tree, _, leaves = tree_of_three()
    verdicts = dict(zip(ids(leaves), (RIGHT, WRONG, UNDECIDED), strict=True))
    scores = {leaves[1].node_id: 0.5}
    soft, hard = (rollout_labels(tree, verdicts, soft=one, scores=scores)[0].quality_value for one in (True, False))
    assert (soft, hard) == (0.75, 1.0)
    verdicts[leaves[0].node_id] = WRONG
    soft, hard = (rollout_labels(tree, verdicts, soft=one, scores=scores)[0].quality_value for one in (True, False))
    assert (soft, hard) == (0.25, 0.5)


def test_estimates_are_means_of_scores() -> None:
    tree, firsts, leaves = tree_of_three()
    verdicts = dict(zip(ids(leaves), (RIGHT, WRONG, WRONG), strict=True))
    found = estimate_steps(tree, verdicts, scores={leaves[1].node_id: 0.5})
    assert found[firsts[0].node_id].mean == 0.75
    assert found[firsts[0].node_id].num_right == 1
    assert found[0].mean == pytest.approx(0.5)
