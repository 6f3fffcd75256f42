"""Labels where people say that steps are right or wrong, and a share over steps of problems."""

import pytest
from restmcts.domain.labels.inferred import infer_labels
from restmcts.domain.labels.rollouts import label_steps
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.stats.estimates import pooled_share, share
from restmcts.domain.tree import Tree


def two_paths() -> Tree:
    """Nodes 1, 2, 3 are a path to a right end; 4 is a wrong end after the question."""
    tree = Tree()
    for texts in (("a", "b", "end"), ("x",)):
        tree.add_path(tree.root, [ProposedStep(text, 1, 0.0) for text in texts], lambda step: step.text in ("end", "x"))
    return tree


VERDICTS = {3: Verdict.RIGHT, 4: Verdict.WRONG}


def test_a_step_that_people_call_wrong_lowers_its_value_and_those_after_it() -> None:
    tree = two_paths()
    inferred, said = infer_labels(tree, VERDICTS), infer_labels(tree, VERDICTS, annotated={2: False})
    assert said[1] == inferred[1] and said[4] == inferred[4]
    # m of the parent is 2: v_1 = 1/3, w_2 = -(1 - 1/3) / (2 + 1), v_2 = 1/9, v_3 = 1
    assert inferred[2].quality_value == pytest.approx(2 / 3)
    assert (said[2].step_is_right, said[2].reasoning_distance) == (False, 2)
    assert said[2].quality_value == pytest.approx(1 / 9)
    assert said[3].step_is_right and said[3].weighted_reward == pytest.approx(1 - 1 / 9)


def test_a_step_that_people_call_right_has_the_distance_of_its_parent() -> None:
    said = infer_labels(two_paths(), VERDICTS, annotated={4: True})
    # m of the question is 3: w_1 = (1 - 0) / (3 + 1)
    assert (said[4].step_is_right, said[4].reasoning_distance) == (True, 3)
    assert said[4].quality_value == pytest.approx(1 / 4)
    unsolved = infer_labels(two_paths(), {3: Verdict.WRONG, 4: Verdict.WRONG}, annotated={1: True})
    assert unsolved == {}, "without a right end there is no distance"


def test_labels_of_rollouts_become_one_or_zero() -> None:
    tree = two_paths()
    for node_id in (3, 4):
        tree[node_id].multiplicity = 1
    plain = label_steps(tree, VERDICTS, "soft-rollouts")
    said = label_steps(tree, VERDICTS, "soft-rollouts", annotated={3: False, 4: True})
    assert (plain[3].quality_value, plain[4].quality_value) == (1.0, 0.0)
    assert (said[3].quality_value, said[4].quality_value) == (0.0, 1.0)
    assert said[4].step_is_right and not said[3].step_is_right
    assert {node_id: said[node_id] for node_id in (0, 1, 2) if node_id in said} == {
        node_id: plain[node_id] for node_id in (0, 1, 2) if node_id in plain
    }


def test_a_pooled_share_is_over_problems() -> None:
    alone = pooled_share([(1, 1), (0, 1), (1, 1), (1, 1)])
    assert alone == share(3, 4)
    clustered = pooled_share([(10, 10), (0, 10), (10, 10), (10, 10)])
    assert clustered.value == pytest.approx(0.75)
    assert clustered.standard_error == pytest.approx(alone.standard_error), "ten steps of one problem say it once"
    assert clustered.n == 4
    with pytest.raises(ValueError, match="at least one step"):
        pooled_share([])
