"""Every method can stop at a finished solution that the value model likes, so that none is
ahead by the gate alone.
"""

from collections import Counter
from dataclasses import replace

import pytest
from restmcts.domain.requests import ProposeSteps, Request, Response
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget, Search, StopReason
from restmcts.domain.search.settings import SearchSettings
from restmcts.domain.search.tree_of_thoughts import StepBeamSettings, TotBfsSettings, TotDfsSettings
from restmcts.domain.tree import Node, Tree
from restmcts.testing.scripted import run_search
from restmcts.testing.trees import RandomModels

GATE = 0.8
GATED: dict[str, SearchSettings] = {
    "cot": CotSettings(stop_threshold=GATE),
    "self-consistency": SelfConsistencySettings(num_samples=64, samples_at_once=1, stop_threshold=GATE),
    "best-of-n": BestOfNSettings(num_samples=64, samples_at_once=1, stop_threshold=GATE),
    "tot-bfs": TotBfsSettings(stop_threshold=GATE, max_depth=6),
    "tot-dfs": TotDfsSettings(stop_threshold=GATE, max_depth=6),
    "step-beam": StepBeamSettings(stop_threshold=GATE, max_depth=6),
    "mcts-star": MctsStarSettings(stop_threshold=GATE, stop_on_any_gated=True, keep_rollouts=True, choose="leaf"),
    "best-first": BestFirstSettings(stop_threshold=GATE, log_prob_weight=0.0),
}
every_method = pytest.mark.parametrize("settings", GATED.values(), ids=GATED.keys())


def run(settings: SearchSettings, seed: int) -> Search:
    return run_search(settings.build(Budget(iterations=30), seed), RandomModels(seed, answer_rate=0.4).answer)


def passing(tree: Tree) -> list[Node]:
    return [node for node in tree.final_nodes() if node.model_value is not None and node.model_value >= GATE]


@every_method
def test_it_stops_at_the_first_finished_solution_above_the_gate_and_answers_with_it(settings: SearchSettings) -> None:
    searches = [run(settings, seed) for seed in range(20)]
    stopped = [search for search in searches if search.stop_reason == StopReason.THRESHOLD]
    assert stopped and all(search.chosen in passing(search.tree) for search in stopped)
    assert all(not passing(search.tree) for search in searches if search.stop_reason != StopReason.THRESHOLD)
    assert settings.needs_values


@pytest.mark.parametrize("name", ["cot", "self-consistency", "tot-bfs", "step-beam", "best-of-n", "best-first"])
def test_without_a_gate_it_goes_on(name: str) -> None:
    settings = replace(GATED[name], stop_threshold=None)  # type: ignore[call-arg]
    assert all(run(settings, seed).stop_reason != StopReason.THRESHOLD for seed in range(20))


def test_chain_of_thought_tries_the_likeliest_solution_first_and_then_samples_one_by_one() -> None:
    asked: list[ProposeSteps] = []
    models = RandomModels(0)

    def answer(request: Request) -> Response:
        if isinstance(request, ProposeSteps):
            asked.append(request)
        return models.answer(request)

    search = run_search(CotSettings(stop_threshold=2.0, num_retries=4).build(Budget(), 0), answer)
    assert [(request.greedy, request.num_samples) for request in asked] == [(True, 1), *[(False, 1)] * 4]
    finished = search.tree.final_nodes()
    assert search.chosen is max(finished, key=lambda node: node.search_value)


def test_an_unmet_gate_leaves_self_consistency_its_vote() -> None:
    for seed in range(10):
        search = run(SelfConsistencySettings(num_samples=16, samples_at_once=1, stop_threshold=2.0), seed)
        counts: Counter[str] = Counter()
        for node in search.tree.final_nodes():
            counts[node.step] += node.multiplicity if node.step.startswith("The answer") else 0
        assert search.chosen is not None and counts[search.chosen.step] == max(counts.values())
