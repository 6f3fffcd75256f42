"""Every search, over models from a seed: it ends, obeys its budget, takes each answer once, and
can be played again.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, get_args

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import ProposeSteps, Request, Response, Sample, ScoreSteps, StepsProposed
from restmcts.domain.scoring import Aggregation
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings
from restmcts.domain.search.forked import ForkedSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget, Search, StopReason
from restmcts.domain.search.settings import SEARCH_SETTINGS, SearchSettings
from restmcts.domain.search.tree_of_thoughts import StepBeamSettings, TotBfsSettings, TotDfsSettings
from restmcts.testing.scripted import ScriptedModels, run_search
from restmcts.testing.trees import RandomModels

MCTS = MctsStarSettings(roll_forward_steps=2)
COLLECT = replace(MCTS, mode="collect", max_depth=4)
SETTINGS: dict[str, SearchSettings] = {
    "solve": MCTS,
    "collect": replace(MCTS, mode="collect"),
    "collect, no gate": replace(MCTS, mode="collect", stop_threshold=2.0, max_depth=5),
    "roll branch 2": replace(MCTS, roll_branch=2),
    "no rollout": replace(MCTS, roll_forward_steps=0, branch=1),
    "keep rollouts": replace(MCTS, mode="collect", stop_threshold=2.0, keep_rollouts=True),
    "keep rollouts, roll branch 3": replace(MCTS, mode="collect", keep_rollouts=True, roll_branch=3, max_depth=6),
    "widening": replace(MCTS, mode="collect", widening=1.5),
    "skip finished": replace(MCTS, mode="collect", stop_threshold=2.0, skip_finished=True, max_depth=4),
    "widening, skip finished": replace(COLLECT, widening=0.7, skip_finished=True, keep_rollouts=True, max_depth=4),
    "value mix": replace(COLLECT, value_mix=1.0, max_depth=4),
    "cumulative": replace(MCTS, value="cumulative", expected_depth=4),
    "any gated": replace(MCTS, stop_on_any_gated=True, keep_rollouts=True, choose="leaf"),
    "puct": replace(MCTS, selection="puct", stop_threshold=2.0),
    "vote": replace(MCTS, mode="collect", choose="vote", keep_rollouts=True),
    "no exploration": replace(MCTS, mode="collect", stop_threshold=2.0, exploration_constant=0.0, max_depth=4),
    **{"cot": CotSettings(), "cot, sampled": CotSettings(greedy=False)},
    "cot, gated": CotSettings(stop_threshold=0.8, num_retries=7),
    "self-consistency, gated": SelfConsistencySettings(num_samples=8, samples_at_once=1, stop_threshold=0.8),
    "self-consistency": SelfConsistencySettings(num_samples=8),
    **{"forked": ForkedSettings(num_roots=2, max_samples=12), "best-of-n": BestOfNSettings(num_samples=8)},
    "best-of-n, one by one": BestOfNSettings(num_samples=8, samples_at_once=1),
    "best-of-n, gated": BestOfNSettings(num_samples=8, samples_at_once=3, stop_threshold=0.8, aggregation="mean"),
    "best-of-n, own": BestOfNSettings(num_samples=8, samples_at_once=3, stop_threshold=0.8, aggregation="own"),
    "best-of-n, vote": BestOfNSettings(num_samples=8, choose="vote", aggregation="product"),
    "best-of-n, not scored": BestOfNSettings(num_samples=8, score=False),
    "best-first": BestFirstSettings(stop_threshold=0.9),
    "best-first, no gate": BestFirstSettings(stop_threshold=None, branch_at="untried-mass"),
    "best-first, merging": BestFirstSettings(stop_threshold=None, branch_at="entropy", merge="normalised"),
    "best-first, 4 in flight": BestFirstSettings(stop_threshold=None, merge="normalised", branches_in_flight=4),
    "tot-bfs": TotBfsSettings(width=3, branch=3, max_depth=6),
    "tot-bfs, gated": TotBfsSettings(width=3, branch=3, max_depth=6, stop_threshold=0.8),
    "tot-dfs": TotDfsSettings(branch=3, max_depth=4, prune_below=0.2),
    "tot-dfs, no gate": TotDfsSettings(branch=2, max_depth=4, stop_threshold=None),
    "step-beam": StepBeamSettings(beam_width=3, branch=3, max_depth=6),
    "step-beam, gated": StepBeamSettings(beam_width=3, branch=3, max_depth=6, stop_threshold=0.8),
}
IN_FLIGHT = ("solve", "collect", "collect, no gate", "keep rollouts", "widening", "skip finished", "value mix")
IN_FLIGHT += ("widening, skip finished", "puct", "cumulative", "any gated", "no exploration")
SETTINGS |= {f"{name}, 4 in flight": replace(SETTINGS[name], leaves_in_flight=4) for name in IN_FLIGHT}
BUDGETS = {
    "tokens": Budget(tokens=60),
    "model_calls": Budget(model_calls=15),
    "nodes": Budget(nodes=12),
    "iterations": Budget(iterations=6),
    "seconds": Budget(seconds=20.0),
}
SEEDS = range(4)
MODELS = {
    "ordinary": RandomModels(),
    "ends at once": RandomModels(silence_rate=1.0),
    "always the same": RandomModels(num_words=1, answer_rate=0.0, end_rate=0.0, silence_rate=0.0),
    "always answers": RandomModels(answer_rate=1.0, silence_rate=0.0),
}
MAX_RESPONSES = 3000

every_search = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
every_search_by_name = pytest.mark.parametrize("name", SETTINGS)
MCTS_SETTINGS = {name: s for name, s in SETTINGS.items() if isinstance(s, MctsStarSettings)}
every_mcts = pytest.mark.parametrize("settings", MCTS_SETTINGS.values(), ids=MCTS_SETTINGS.keys())


def run(
    search: Search,
    answer: Callable[[Request], Response],
    pick: Callable[[Sequence[Request]], int] = lambda _: 0,
    after: Callable[[Search], None] = lambda _: None,
) -> list[Response]:
    """Run a search to its end, a second for every response; return the responses as received."""
    waiting = search.begin()
    received: list[Response] = []
    while waiting:
        assert len(received) < MAX_RESPONSES, "the search does not end"
        response = answer(waiting.pop(pick(waiting)))
        received.append(response)
        after(search)
        waiting += search.receive(response, elapsed_seconds=float(len(received)))
        if search.finished:
            break
    return received


def snapshot(search: Search) -> dict[str, Any]:
    return {
        "nodes": repr(search.tree.nodes),
        "spent": asdict(search.spent),
        "stop_reason": search.stop_reason,
        "chosen": search.chosen.node_id if search.chosen else None,
        "awaited": search.awaited,
    }


def shuffled(seed: int) -> Callable[[Sequence[Request]], int]:
    generator = random.Random(seed)
    return lambda waiting: generator.randrange(len(waiting))


def assert_consistent(search: Search) -> None:
    assert search.finished and not search.awaited
    assert all(node.pending_visits == 0 for node in search.tree.nodes)
    assert search.spent.nodes == len(search.tree) - 1
    if isinstance(search.tree.root.visits, int) and type(search).__name__ == "MctsStar":
        assert search.tree.root.visits == search.spent.iterations
    for node in search.tree.nodes:
        for child in node.children:
            assert search.tree[child].parent_id == node.node_id and search.tree[child].depth == node.depth + 1
        texts = [search.tree[child].step for child in node.children]
        assert len(set(texts)) == len(texts)
        assert not (states_answer(node.step) and node.children)


@dataclass(frozen=True)
class Played:
    """A search that has ended.

    Attributes:
        started: of each attempt to start a coroutine, whether the budget was spent then, and
            whether one was started.
    """

    search: Search
    received: list[Response]
    started: list[tuple[bool, bool]]


@cache
def played(name: str, limit: str, seed: int) -> Played:
    """Return a search over shuffled responses, played once for all tests that look at it."""
    search = SETTINGS[name].build(BUDGETS[limit], seed)
    started: list[tuple[bool, bool]] = []
    next_coroutine = search.next_coroutine

    def watched() -> Any:
        spent = search.out_of_budget
        coroutine = next_coroutine()
        started.append((spent, coroutine is not None))
        return coroutine

    search.next_coroutine = watched  # type: ignore[method-assign]
    return Played(search, run(search, RandomModels(seed).answer, shuffled(seed)), started)


@every_search_by_name
def test_every_search_ends_within_every_budget(name: str) -> None:
    for limit, seed in itertools.product(BUDGETS, SEEDS):
        assert_consistent(played(name, limit, seed).search)


@every_search
def test_every_search_ends_over_strange_policies(settings: SearchSettings) -> None:
    for models, limit in itertools.product(MODELS.values(), BUDGETS.values()):
        search = settings.build(limit, 1)
        run(search, models.answer)
        assert_consistent(search)


@every_search
def test_every_search_ends_over_a_policy_that_gives_nothing(settings: SearchSettings) -> None:
    for limit in BUDGETS.values():
        search = settings.build(limit, 1)
        run(search, lambda request: StepsProposed(request.number, (), 0))
        assert_consistent(search)
        assert len(search.tree) == 1


@every_search_by_name
def test_no_unit_of_work_begins_after_the_budget_is_spent(name: str) -> None:
    """A unit is one coroutine: what is under way when the budget runs out may end, nothing new
    begins.
    """
    for limit, seed in itertools.product(BUDGETS, SEEDS):
        found = played(name, limit, seed)
        assert found.started and (True, True) not in found.started
        if limit == "iterations":
            assert found.search.spent.iterations <= found.search.budget.iterations


@every_search
def test_a_budget_of_nothing_asks_for_nothing(settings: SearchSettings) -> None:
    for name in BUDGETS:
        search = settings.build(Budget(**{name: 0}), 0)
        assert search.begin() == [] and search.finished and search.stop_reason == StopReason.BUDGET


@every_search_by_name
def test_the_responses_in_their_order_rebuild_the_search(name: str) -> None:
    for limit, seed in itertools.product(BUDGETS, SEEDS):
        found = played(name, limit, seed)
        again = SETTINGS[name].build(BUDGETS[limit], seed)
        again.begin()
        for place, response in enumerate(found.received, start=1):
            again.receive(response, elapsed_seconds=float(place))
        assert snapshot(again) == snapshot(found.search)


@every_search
def test_a_search_cut_and_played_again_goes_on_alike(settings: SearchSettings) -> None:
    """The half-played copy asks for the very same requests, seeds included."""
    models = RandomModels(3)
    whole = settings.build(Budget(iterations=6), 3)
    asked: list[Request] = list(whole.begin())
    received: list[Response] = []
    for request in asked:
        received.append(models.answer(request))
        asked += whole.receive(received[-1])
    for cut in range(0, len(received), 3):
        copy = settings.build(Budget(iterations=6), 3)
        requests = list(copy.begin())
        for response in received[:cut]:
            requests += copy.receive(response)
        for response in received[cut:]:
            requests += copy.receive(response)
        assert requests == asked and snapshot(copy) == snapshot(whole)


@every_search
def test_doubled_unknown_and_late_responses_change_nothing(settings: SearchSettings) -> None:
    for seed in SEEDS:
        limit = Budget(iterations=6)
        search = settings.build(limit, seed)
        old: list[Response] = []

        def disturb(running: Search, old: list[Response] = old) -> None:
            before = snapshot(running)
            for response in [*old[-3:], StepsProposed(10_000, (Sample((), 5, True),), 9)]:
                assert running.receive(response, 1e9) == []
            assert snapshot(running) == before

        waiting = list(search.begin())
        pick = shuffled(seed)
        while waiting and not search.finished:
            response = RandomModels(seed).answer(waiting.pop(pick(waiting)))
            disturb(search)
            waiting += search.receive(response)
            old.append(response)
        disturb(search)


@every_search
def test_the_same_seed_gives_the_same_tree_and_another_seed_other_samples(settings: SearchSettings) -> None:
    searches = [settings.build(Budget(iterations=6), seed) for seed in (5, 5, 6)]
    seeds = []
    for search in searches:
        run(search, RandomModels(0).answer)
        fresh = settings.build(Budget(iterations=6), search._seed)
        seeds.append([request.seed for request in fresh.begin() if isinstance(request, ProposeSteps)])
    assert snapshot(searches[0]) == snapshot(searches[1])
    assert seeds[0] == seeds[1] != seeds[2]


@every_search
def test_a_search_that_needs_no_values_asks_for_none(settings: SearchSettings) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return RandomModels(2).answer(request)

    run(settings.build(Budget(iterations=6), 2), answer)
    assert any(isinstance(request, ScoreSteps) for request in asked) == settings.needs_values


@every_search
def test_settings_survive_the_way_through_json(settings: SearchSettings) -> None:
    assert SEARCH_SETTINGS.validate_json(SEARCH_SETTINGS.dump_json(settings)) == settings


@every_mcts
def test_never_more_than_the_allowed_leaves_are_in_flight(settings: MctsStarSettings) -> None:
    search = settings.build(Budget(iterations=12), 1)
    models = RandomModels(1)

    def check(running: Search) -> None:
        assert len(running.awaited) + 1 <= settings.leaves_in_flight + 1
        assert running.tree.root.pending_visits <= settings.leaves_in_flight

    run(search, models.answer, shuffled(1), check)


def test_several_leaves_in_flight_really_are() -> None:
    settings = replace(MCTS, mode="collect", stop_threshold=2.0, leaves_in_flight=4)
    search = settings.build(Budget(iterations=20), 3)
    most = 0

    def look(running: Search) -> None:
        nonlocal most
        most = max(most, running.tree.root.pending_visits)

    run(search, RandomModels(3, answer_rate=0.05).answer, shuffled(3), look)
    assert most == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_no_leaf_is_expanded_before_its_own_value_has_come(seed: int) -> None:
    settings = replace(MCTS, mode="collect", stop_threshold=2.0, leaves_in_flight=4)
    search = settings.build(Budget(iterations=20), seed)
    models = RandomModels(seed, answer_rate=0.1)

    def answer(request: Request) -> Response:
        if isinstance(request, ProposeSteps) and request.steps and request.num_samples == settings.branch:
            node = search.tree.root
            for step in request.steps:
                found = search.tree.find_child(node, step)
                assert found is not None
                node = found
            scores.append(node.model_value)
        return models.answer(request)

    scores: list[float | None] = []
    # The value model answers last, so that whoever does not wait for it is caught.
    run(search, answer, lambda waiting: next((i for i, r in enumerate(waiting) if isinstance(r, ProposeSteps)), 0))
    assert scores and None not in scores


def test_an_expansion_is_one_request_for_all_its_samples() -> None:
    search = replace(MCTS, branch=5).build(Budget(iterations=1), 0)
    (request,) = search.begin()
    assert isinstance(request, ProposeSteps) and request.num_samples == 5 and request.max_steps == 1
    (scoring,) = search.receive(RandomModels(0, silence_rate=0.0).answer(request))
    assert isinstance(scoring, ScoreSteps) and len(scoring.branches) == len(search.tree) - 1


def test_solve_mode_stops_at_the_gate_with_the_gated_node() -> None:
    gated = [
        search
        for seed in range(30)
        for search in [replace(MCTS, stop_threshold=0.8).build(Budget(iterations=40), seed)]
        if run(search, RandomModels(seed).answer) and search.stop_reason == StopReason.THRESHOLD
    ]
    assert gated
    assert all(search.chosen is not None and search.chosen.search_value >= 0.8 for search in gated)


def test_rollouts_are_kept_for_labels_and_hidden_from_selection() -> None:
    settings = replace(MCTS, mode="collect", stop_threshold=2.0)
    both = (settings, replace(settings, keep_rollouts=True))
    plain, keeping = (each.build(Budget(iterations=8), 4) for each in both)
    for search in (plain, keeping):
        run(search, RandomModels(4, answer_rate=0.1, num_words=1000).answer)
    rollout_nodes = [node for node in keeping.tree.nodes if node.from_rollout]
    assert rollout_nodes and all(node.visits == 0 and not node.expanded for node in rollout_nodes)
    visible = [(keeping.tree.steps_to(n), n.visits, n.search_value) for n in keeping.tree.nodes if not n.from_rollout]
    assert sorted(visible) == sorted((plain.tree.steps_to(n), n.visits, n.search_value) for n in plain.tree.nodes)


def test_widening_expands_a_node_again() -> None:
    settings = replace(MCTS, mode="collect", stop_threshold=2.0, roll_forward_steps=0)
    both = (replace(settings, widening=widening) for widening in (0.0, 2.0))
    once, again = (each.build(Budget(iterations=20), 0) for each in both)
    for search in (once, again):
        run(search, RandomModels(0, num_words=1000, answer_rate=0.0, silence_rate=0.0).answer)
    assert len(once.tree.root.children) == 3 < len(again.tree.root.children)


def test_best_of_n_takes_the_score_that_the_value_models_own_rule_makes() -> None:
    steps = {"": ["weak start\n", "fair start\n"], "weak start\n": ["strong end\n"], "fair start\n": ["fair end\n"]}
    values = {"weak start\n": 0.3, "weak start\nstrong end\n": 0.9, "fair start\n": 0.7, "fair start\nfair end\n": 0.8}
    chosen = {}
    for how in get_args(Aggregation):
        models = ScriptedModels(steps, values, lambda step: "end" in step, aggregation=how)
        settings = BestOfNSettings(num_samples=2, aggregation="own")
        search = run_search(settings.build(Budget(), 0, lambda step: "end" in step), models.answer)
        assert search.chosen is not None
        chosen[how] = search.chosen.step
    assert chosen == {"last": "strong end\n", "min": "fair end\n", "mean": "fair end\n", "product": "fair end\n"}
