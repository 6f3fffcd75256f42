"""From which step of a labelled tree sampling goes on."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restmcts.domain.learning.learner import LearnableTree
from restmcts.domain.learning.restarts import DEPTH_WEIGHT, restart_steps
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.step_rollouts import StepRolloutsSettings
from restmcts.domain.tree import Node, Tree
from restmcts.testing.scripted import run_search
from restmcts.testing.trees import RandomModels, random_tree

RIGHT, WRONG = Verdict.RIGHT, Verdict.WRONG


def states_answer(step: str) -> bool:
    return step.startswith("The answer")


def mixed_tree() -> LearnableTree:
    """Return a tree: of "a" 3 of 4 are right, of "a b" 1 of 2, of "lost" none."""
    tree = Tree()

    def add(parent: Node, text: str, *, final: bool = False) -> Node:
        return tree.add_child(parent, ProposedStep(text, 1, -0.5), final=final)[0]

    a, lost = add(tree.root, "a\n"), add(tree.root, "lost\n")
    b = add(a, "b\n")
    right = [add(a, "1", final=True), add(a, "2", final=True), add(b, "3", final=True)]
    wrong = [add(b, "4", final=True), add(lost, "5", final=True)]
    verdicts = {**{node.node_id: RIGHT for node in right}, **{node.node_id: WRONG for node in wrong}}
    return LearnableTree.of(tree, verdicts, (), samples_branches=True)


def test_steps_are_drawn_by_the_variance_of_what_comes_after_them_and_by_their_depth() -> None:
    found = mixed_tree()
    drawn = Counter(restart_steps(found, seed) for seed in range(4000))
    assert drawn.keys() == {("a\n",), ("a\n", "b\n")}
    value = {steps: found.estimates[node].value for steps, node in ((("a\n",), 1), (("a\n", "b\n"), 3))}
    weight = {steps: one * (1 - one) * DEPTH_WEIGHT ** len(steps) for steps, one in value.items()}
    for steps, count in drawn.items():
        assert count / 4000 == pytest.approx(weight[steps] / sum(weight.values()), abs=0.03)


@pytest.mark.parametrize("verdict", [RIGHT, WRONG, Verdict.UNDECIDED])
def test_where_outcomes_do_not_vary_there_is_no_restart(verdict: Verdict) -> None:
    found = mixed_tree()
    alike = dict.fromkeys(found.verdicts, verdict)
    assert restart_steps(LearnableTree.of(found.tree, alike, (), samples_branches=True), 0) == ()


@given(tree_seed=st.integers(0, 2**32), seed=st.integers(0, 2**32), size=st.integers(0, 40), sampled=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_restart_is_the_beginning_of_a_right_and_of_a_wrong_solution(
    tree_seed: int, seed: int, size: int, *, sampled: bool
) -> None:
    tree, verdicts = random_tree(tree_seed, size)
    found = LearnableTree.of(tree, verdicts, (), samples_branches=sampled)
    steps = restart_steps(found, seed)
    assert steps == restart_steps(found, seed)
    ends = {
        verdicts.get(node.node_id)
        for node in tree.final_nodes()
        if len(tree.steps_to(node)) > len(steps) and tree.steps_to(node)[: len(steps)] == steps
    }
    assert not steps or {RIGHT, WRONG} <= ends


def test_completions_that_are_asked_for_one_by_one_stop_with_the_budget() -> None:
    given = ("first\n", "second\n")
    asked = StepRolloutsSettings(num_rollouts=1000, rollouts_at_once=1)
    search = asked.build(Budget(tokens=60), 1, states_answer, given)
    run_search(search, RandomModels().answer)
    whole = StepRolloutsSettings(num_rollouts=1).build(Budget(), 1, states_answer, given)
    run_search(whole, RandomModels().answer)
    assert whole.spent.tokens < 60 <= search.spent.tokens < 120
    assert 1 < search.spent.iterations < 60
    assert all(search.tree.steps_to(node)[:2] == given for node in search.tree.final_nodes())


@pytest.mark.parametrize("at_once", [None, 1, 2, 5])
def test_as_many_completions_are_asked_for_whatever_one_request_wants(at_once: int | None) -> None:
    search = StepRolloutsSettings(num_rollouts=5, rollouts_at_once=at_once).build(
        Budget(), 3, states_answer, ("first\n",)
    )
    run_search(search, RandomModels().answer)
    assert search.spent.iterations == 5
    assert sum(node.multiplicity for node in search.tree.nodes) == 5
