"""Labels from rollouts, the search for the first wrong step, and values from corrupted
solutions.
"""

import random

import pytest
from restmcts.domain.labels.corruption import corrupted, corrupted_values
from restmcts.domain.labels.rollouts import next_prefix, rollout_labels
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.step_rollouts import StepRollouts, StepRolloutsSettings
from restmcts.domain.tree import Node, Tree
from restmcts.testing.scripted import run_search
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels, answer_step

RIGHT, WRONG, UNDECIDED = Verdict.RIGHT, Verdict.WRONG, Verdict.UNDECIDED


def add(tree: Tree, parent: Node, text: str, *, rollout: bool = False, count: int = 0) -> Node:
    node, _ = tree.add_child(parent, ProposedStep(text, 1, -1.0), final=count > 0, from_rollout=rollout)
    node.multiplicity = count
    return node


def test_a_step_is_worth_the_share_of_its_samples_that_end_right() -> None:
    tree = Tree()
    first = add(tree, tree.root, "a\n")
    second = add(tree, first, "b\n", count=1)
    ends = [add(tree, first, f"r{number}\n", rollout=True, count=count) for number, count in ((0, 2), (1, 1), (2, 4))]
    verdicts = {second.node_id: WRONG, ends[0].node_id: RIGHT, ends[1].node_id: WRONG, ends[2].node_id: UNDECIDED}
    soft, hard = (rollout_labels(tree, verdicts, soft=one) for one in (True, False))
    assert soft[first.node_id].quality_value == pytest.approx(2 / 4)
    assert (hard[first.node_id].quality_value, hard[first.node_id].step_is_right) == (1.0, True)
    assert (hard[second.node_id].quality_value, hard[second.node_id].step_is_right) == (0.0, False)
    assert hard[first.node_id].reasoning_distance == 1
    assert set(soft) == {0, first.node_id, second.node_id}


def test_of_given_steps_only_the_last_is_known_to_be_wrong() -> None:
    tree = Tree()
    first = add(tree, tree.root, "a\n")
    second = add(tree, first, "b\n")
    end = add(tree, second, "c\n", rollout=True, count=3)
    wrong = rollout_labels(tree, {end.node_id: WRONG}, soft=False)
    assert {node_id for node_id in wrong if node_id} == {second.node_id}
    right = rollout_labels(tree, {end.node_id: RIGHT}, soft=False)
    assert {node_id for node_id in right if node_id} == {first.node_id, second.node_id}


@pytest.mark.parametrize("first_wrong", range(1, 14))
def test_the_first_wrong_step_is_found_in_log_many_looks(first_wrong: int) -> None:
    known: dict[int, bool] = {}
    while (length := next_prefix(13, known)) is not None:
        assert length not in known
        known[length] = length < first_wrong
    assert len(known) <= 4
    assert max((length for length, right in known.items() if right), default=0) == first_wrong - 1


@pytest.mark.parametrize("seed", range(10))
def test_rollouts_complete_every_unfinished_partial_solution(seed: int) -> None:
    settings = StepRolloutsSettings(num_solutions=2, num_rollouts=3)
    search = StepRollouts(settings, Budget(), seed, lambda text: text.startswith("The answer"))
    run_search(search, RandomModels(seed, answer_rate=0.4).answer)
    expanded = [node for node in search.tree.nodes[1:] if not node.from_rollout and not node.final]
    assert search.spent.iterations == 2 + 3 * len(expanded)
    assert sum(node.multiplicity for node in search.tree.nodes) == search.spent.iterations


def test_rollouts_of_given_steps_begin_at_their_end() -> None:
    given = ("one\n", "two\n")
    search = StepRollouts(
        StepRolloutsSettings(num_rollouts=5), Budget(), 1, lambda text: text.startswith("The answer"), given
    )
    (request,) = search.begin()
    assert (request.steps, search.spent.iterations) == (given, 0)
    run_search(StepRollouts(StepRolloutsSettings(), Budget(), 1, bool, given), RandomModels().answer)


def test_given_solutions_have_values_and_wrong_steps_lower_ones() -> None:
    solution = ("2 + 3 = 5\n", "so it goes on\n", "5 * 2 = 10\n", answer_step(RIGHT_ANSWER))
    whole, *negatives = corrupted_values(solution, seed=3)
    assert whole.targets == (0.25, 0.5, 0.75, 1.0)
    # At a wrong first step w = -1 / (4 + 1), cut at 0; at the third v = 0.5 - 0.5 / 3.
    assert [negative.targets[-1] for negative in negatives] == pytest.approx([0.0, 0.5 - 0.5 / 3, 0.75 - 0.25 / 2])
    for negative in negatives:
        place = len(negative.steps) - 1
        assert negative.steps[:place] == solution[:place]
        assert negative.steps[place] != solution[place]
        assert negative.leads_to_right == (*(None,) * place, False)
    assert list(corrupted_values(solution, seed=3)) == [whole, *negatives]
    assert list(corrupted_values((), seed=3)) == []


def test_a_corrupted_number_is_another_number() -> None:
    generator = random.Random(0)
    for _ in range(200):
        assert corrupted("7 * 2 = 14\n", generator) not in (None, "7 * 2 = 14\n")
    assert corrupted("no number\n", generator) is None
