"""How searches spent their tokens, against trees small enough to count by hand."""

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import ProposedStep, Response
from restmcts.domain.search.mcts_star import MctsStar, MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.stats.estimates import share
from restmcts.domain.stats.outcomes import Outcome
from restmcts.domain.stats.search_quality import (
    calibration,
    first_right,
    repeated_share,
    search_quality,
    tokens_at_nodes,
    wasted_share,
)
from restmcts.domain.tree import Tree
from restmcts.testing.trees import RandomModels, answer_step


def _tree() -> Tree:
    """Return a tree with one solution of two steps, and one step that leads nowhere; four
    tokens a step.
    """
    tree = Tree()
    first, _ = tree.add_child(tree.root, ProposedStep("a\n", 4, -1.0), final=False)
    tree.add_child(first, ProposedStep(answer_step("7"), 4, -1.0), final=True)
    dead, _ = tree.add_child(tree.root, ProposedStep("b\n", 4, -1.0), final=False)
    dead.expanded = True
    return tree


def test_what_led_to_no_solution_is_wasted_and_what_stands_nowhere_was_repeated() -> None:
    tree = _tree()
    assert wasted_share(tree) == pytest.approx(1 / 3), "the root and `a` led to a solution, `b` did not"
    assert repeated_share(tree, 16) == pytest.approx(0.25)
    assert wasted_share(Tree()) == repeated_share(Tree(), 0) == 0.0


def test_tokens_at_nodes_are_those_spent_when_each_was_there() -> None:
    models, settings = RandomModels(seed=2), MctsStarSettings(keep_rollouts=True, mode="collect")
    search = MctsStar(settings, Budget(iterations=6), 1, states_answer)
    responses: list[tuple[Response, float]] = []
    counts: list[tuple[int, int]] = []
    waiting = search.begin()
    while waiting:
        response = models.answer(waiting.pop(0))
        responses.append((response, 0.0))
        waiting += search.receive(response)
        counts.append((len(search.tree), search.spent.tokens))
    tokens = tokens_at_nodes(MctsStar(settings, Budget(iterations=6), 1, states_answer), responses)
    assert len(tokens) == len(search.tree) and tokens == sorted(tokens)
    assert all(
        tokens[node_id] == next(spent for size, spent in counts if size > node_id) for node_id in range(1, len(tokens))
    )
    assert first_right(tokens, {3, 5}) == tokens[3] and first_right(tokens, set()) is None


def test_values_are_held_against_the_truth() -> None:
    bins = calibration([(0.95, True), (1.0, True), (0.91, False), (0.02, False)])
    assert [(round(one.mean_value, 2), round(one.share_right.value, 2), one.share_right.n) for one in bins] == [
        (0.02, 0.0, 1),
        (0.95, 0.67, 3),
    ]


def test_a_cell_tells_when_problems_were_solved() -> None:
    def outcome(problem: int, right: bool, value: float, tokens: int | None) -> Outcome:
        verdict = "right" if right else "wrong"
        more = {"value": value, "wasted": 0.5, "repeated": 0.1, "tokens_to_right": tokens, "depth": 4}
        return Outcome("a", 50, "", "", 0, problem, verdict, right, 40, 1, 0, 2, 3, 4, 0.5, **more)  # type: ignore[arg-type]

    outcomes = [outcome(0, True, 0.9, 20), outcome(1, False, 0.3, 45), outcome(2, False, 0.4, None)]
    quality = search_quality(("a", 50, ""), outcomes, (30, 50))
    assert quality.auc is not None and quality.wasted is not None and quality.mean_depth is not None
    assert (quality.auc.value, quality.wasted.value, quality.mean_depth.value) == (1.0, 0.5, 4)
    solved = {limit: (found.value, found.n) for limit, found in quality.solved_within.items()}
    assert solved == {30: (pytest.approx(1 / 3), 3), 50: (pytest.approx(2 / 3), 3)}
    assert quality.solved_within[30] == share(1, 3)
