"""What only shows in MCTS* where several simulations are under way, or where finished solutions
are passed over.
"""

from dataclasses import replace

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.search.mcts_star import MctsStar, MctsStarSettings
from restmcts.domain.search.protocol import Budget, StopReason
from restmcts.testing.scripted import ScriptedModels, run_search
from restmcts.testing.trees import RIGHT_ANSWER, answer_step

# By value alone, so that what else decides shows; a step is one letter.
GREEDY = MctsStarSettings(
    mode="collect",
    stop_threshold=2.0,
    branch=2,
    roll_forward_steps=0,
    alpha=0.0,
    exploration_constant=0.0,
    unvisited_bonus=0.0,
    leaves_in_flight=2,
)
STEPS = {"": ["a", "b"], "a": ["c", "d"], "b": ["c", "d"]}
VALUES = {"a": 0.8, "b": 0.6, "ac": 0.8, "ad": 0.79, "bc": 0.6, "bd": 0.5}


@pytest.mark.parametrize("settings", [GREEDY, replace(GREEDY, selection="puct")], ids=["ucb", "puct"])
def test_a_visit_under_way_lowers_a_value_so_that_the_next_one_goes_elsewhere(settings: MctsStarSettings) -> None:
    models = ScriptedModels(STEPS, VALUES, states_answer)
    search = MctsStar(settings, Budget(iterations=10), 0, states_answer)
    waiting = search.begin()
    for partial in ("", "a", "b"):  # each simulation is an expansion and the values of its steps
        while place := [place for place, request in enumerate(waiting) if "".join(request.steps) == partial]:
            waiting += search.receive(models.answer(waiting.pop(place[0])))
    below = {"".join(request.steps) for request in waiting}
    assert below == {"ac", "bc"}, "a: 0.8 of two visits, and a third under way, is 0.53; b: 0.6"


def test_a_solution_at_the_stop_threshold_ends_the_search_though_finished_ones_are_passed_over() -> None:
    answer = answer_step(RIGHT_ANSWER)
    models = ScriptedModels(
        {"": [answer, "a"], "a": ["b", "c"]}, {answer: 0.95, "a": 0.2, "ab": 0.2, "ac": 0.2}, states_answer
    )
    settings = MctsStarSettings(branch=2, roll_forward_steps=0, unvisited_bonus=0.0, skip_finished=True)
    search = run_search(MctsStar(settings, Budget(iterations=10), 0, states_answer), models.answer)
    assert (search.stop_reason, search.spent.iterations) == (StopReason.THRESHOLD, 1)
    assert search.chosen is not None and search.chosen.step == answer
