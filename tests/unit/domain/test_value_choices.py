"""What values buy at equal tokens: choices by hand, all draws counted, and selectors that are
known beforehand.
"""

import random
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import pytest
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.stats.value_choices import Choice, ScoredTree, value_choices
from restmcts.domain.tree import Tree

Sample = tuple[bool, float, float]
"""Whether it is right, its value, its log-probability."""


def samples(problem: int, *found: Sample, tokens: int = 10) -> ScoredTree:
    """Return a tree of finished solutions of one step each."""
    tree, verdicts, values = Tree(), {}, {}
    for number, (right, value, log_prob) in enumerate(found):
        node, _ = tree.add_child(tree.root, ProposedStep(f"{number}\n", tokens, log_prob), final=True)
        node.multiplicity = 1
        verdicts[node.node_id] = Verdict.RIGHT if right else Verdict.WRONG
        values[node.node_id] = value
    return ScoredTree(problem, tree, verdicts, values)


def named(choices: Sequence[Choice], way: str) -> Choice:
    return next(choice for choice in choices if choice.way == way)


def test_a_choice_by_hand() -> None:
    # Of three samples two are right. The value likes the wrong one best, likelihood a right one.
    tree = samples(1, (True, 0.5, -10.0), (True, 0.2, -40.0), (False, 0.9, -20.0))
    found = named(value_choices([tree], "last"), "best of 2")
    # Pairs: the two right ones, and either with the wrong one.
    assert found.model.value == pytest.approx(1 / 3)
    assert found.likelihood is not None and found.likelihood.value == pytest.approx(2 / 3)
    assert found.at_random.value == pytest.approx(2 / 3) and found.any_right.value == 1.0
    assert found.tokens == 20.0 and found.gain.value == pytest.approx(-1 / 3)


def test_value_and_likelihood_together_choose_as_best_first_does() -> None:
    # V + 0.1 log p: 0.3, 0.1, 0.0. The value likes a wrong one best, likelihood the other.
    tree = samples(1, (True, 0.5, -2.0), (False, 0.9, -8.0), (False, 0.1, -1.0))
    found = named(value_choices([tree], "last"), "best of 2")
    assert found.likelihood is not None and found.combined is not None
    assert found.combined.value == pytest.approx(2 / 3)
    assert found.model.value == found.likelihood.value == pytest.approx(1 / 3)
    assert found.combined_over_likelihood is not None
    assert found.combined_over_likelihood.value == pytest.approx(1 / 3)


def test_a_replayed_search_follows_both() -> None:
    one, _ = deep(bad=0.6, good=0.5, worse=0.1)
    for node, log_prob in ((1, -9.0), (4, -1.0), (7, -0.1)):
        one.tree[node].log_prob = log_prob
    half = named(value_choices([one], "last"), "best-first, 50 % of the tokens")
    assert half.likelihood is not None and half.combined is not None
    assert (half.model.value, half.likelihood.value, half.combined.value) == (0.0, 0.0, 1.0)


def test_all_draws_are_counted() -> None:
    generator = random.Random(0)
    found = [(generator.random() < 0.4, generator.choice([0.1, 0.5, 0.9]), generator.uniform(-9, -1)) for _ in range(7)]
    choices = value_choices([samples(1, *found)], "last")
    for size in (2, 4):
        won = []
        for drawn in combinations(found, size):
            best = max(value for _, value, _ in drawn)
            won.append(fmean(right for right, value, _ in drawn if value == best))
        assert named(choices, f"best of {size}").model.value == pytest.approx(fmean(won))


def test_a_sample_that_was_drawn_twice_counts_twice() -> None:
    once = samples(1, (True, 0.9, -1.0), (False, 0.5, -1.0), (False, 0.4, -1.0))
    twice = samples(1, (True, 0.9, -1.0), (False, 0.5, -1.0))
    twice.tree[2].multiplicity = 2
    found = named(value_choices([twice], "last"), "best of 2")
    assert found.model.value == named(value_choices([once], "last"), "best of 2").model.value == pytest.approx(2 / 3)


def test_values_that_know_choose_what_is_there_and_constant_ones_choose_at_random() -> None:
    generator = random.Random(1)
    rights = [[generator.random() < 0.3 for _ in range(8)] for _ in range(40)]
    for value, name in ((lambda right: float(right), "any_right"), (lambda right: 0.5, "at_random")):
        trees = [samples(n, *((right, value(right), -1.0) for right in each)) for n, each in enumerate(rights)]
        for choice in value_choices(trees, "last"):
            if choice.way.startswith("best of"):
                assert choice.model.value == pytest.approx(getattr(choice, name).value), choice.way
                assert choice.model.n == 40


def deep(**first: float) -> tuple[ScoredTree, dict[int, float]]:
    """Return a tree in which each first step, of the given value, leads on to two solutions of that
    value, right after "good"; and its values by node. A first step has two tokens, an end three.
    """
    tree, verdicts, values = Tree(), {}, {}
    for name, value in first.items():
        step, _ = tree.add_child(tree.root, ProposedStep(f"{name}\n", 2, -1.0), final=False)
        values[step.node_id] = value
        for end in ("x\n", "y\n"):
            node, _ = tree.add_child(step, ProposedStep(end, 3, -1.0), final=True)
            verdicts[node.node_id] = Verdict.RIGHT if name == "good" else Verdict.WRONG
            values[node.node_id] = value
    return ScoredTree(1, tree, verdicts, values), values


@pytest.mark.parametrize(("good", "expected"), [(0.9, 1.0), (0.4, 0.0)])
def test_a_best_first_search_spends_its_tokens_where_values_are_high(good: float, expected: float) -> None:
    """Of 24 tokens a quarter pays for the three first steps, half for what follows one of them."""
    one, _ = deep(bad=0.5, good=good, worse=0.1)
    choices = value_choices([one], "last")
    quarter, half = (named(choices, f"best-first, {part} % of the tokens") for part in (25, 50))
    assert (quarter.tokens, half.tokens) == (6.0, 12.0)
    assert quarter.model.value == quarter.at_random.value == 0.0
    assert half.model.value == expected and half.any_right.value == 1.0
    assert 0.0 < half.at_random.value < 1.0


def test_scores_of_solutions_are_made_as_the_format_says() -> None:
    one, values = deep(bad=0.1, good=0.9)
    last, least = (named(value_choices([one], how), "best of 4") for how in ("last", "min"))
    assert last.model.value == least.model.value == 1.0
    # The wrong solutions end well.
    values[2] = values[3] = 1.0
    assert named(value_choices([one], "last"), "best of 4").model.value == 0.0
    assert named(value_choices([one], "min"), "best of 4").model.value == 1.0


def test_trees_of_one_problem_are_one_observation() -> None:
    trees = [samples(1, (True, 0.9, -1.0), (False, 0.1, -1.0)), samples(1, (True, 0.1, -1.0), (False, 0.9, -1.0))]
    found = named(value_choices(trees, "last"), "best of 2")
    assert (found.model.value, found.model.n) == (0.5, 1)


def test_where_nothing_is_chosen_nothing_is_said() -> None:
    assert value_choices([], "last") == ()
    assert value_choices([samples(1, (True, 0.9, -1.0))], "last") == ()
    unscored = samples(1, (True, 0.9, -1.0), (False, 0.1, -1.0))
    assert value_choices([ScoredTree(1, unscored.tree, unscored.verdicts, {1: 0.9})], "last") == ()


def test_a_policy_without_probabilities_has_no_likelihood() -> None:
    found = value_choices([samples(1, (True, 0.9, 0.0), (False, 0.1, 0.0))], "last")
    assert all(choice.likelihood is None and choice.gain_over_likelihood is None for choice in found)
    assert all(choice.combined is None and choice.combined_over_likelihood is None for choice in found)
