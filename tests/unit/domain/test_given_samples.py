"""Samples drawn once: whoever reads them must come to what it would have come to by drawing
them itself.
"""

from dataclasses import replace

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import ProposeSteps, StepsProposed
from restmcts.domain.search.best_of_n import BestOfNSettings, SelfConsistencySettings, SolutionSampling
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.sample_pool import SamplePool, ScoreGivenSamples, find_path, search_pool, solution_values
from restmcts.errors import InputError
from restmcts.testing.trees import RandomModels

SETTINGS = [
    BestOfNSettings(num_samples=100, samples_at_once=1),
    BestOfNSettings(num_samples=100, samples_at_once=1, stop_threshold=0.8),
    BestOfNSettings(num_samples=100, samples_at_once=1, aggregation="min", choose="vote"),
    BestOfNSettings(num_samples=100, samples_at_once=1, aggregation="own", stop_threshold=0.6),
    BestOfNSettings(num_samples=100, samples_at_once=1, aggregation="own", choose="vote"),
    SelfConsistencySettings(num_samples=100, samples_at_once=1),
]


def _drawn(models: RandomModels, num_samples: int) -> tuple[StepsProposed, ...]:
    requests = [ProposeSteps(number, (), 1, None, number) for number in range(num_samples)]
    return tuple(models.propose_one(request) for request in requests)


def _scored(models: RandomModels, pool: SamplePool) -> ScoreGivenSamples:
    search = ScoreGivenSamples(pool.samples, Budget(), 0, states_answer)
    waiting = search.begin()
    while waiting:
        waiting = [new for request in waiting for new in search.receive(models.answer(request))]
    return search


def _pool(drawn: tuple[StepsProposed, ...]) -> SamplePool:
    received = tuple((replace(answer, num_prompt_tokens=5), float(place)) for place, answer in enumerate(drawn))
    return SamplePool(tuple(answer.samples[0] for answer in drawn), 5, received)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("tokens", [1, 12, 60])
def test_a_pool_is_read_as_if_it_were_drawn(settings: BestOfNSettings | SelfConsistencySettings, tokens: int) -> None:
    models = RandomModels(seed=3, aggregation="mean")
    drawn = _drawn(models, 60)
    pool = _pool(drawn)
    alone = SolutionSampling(settings, Budget(tokens=tokens), 0, states_answer)
    unread = iter(drawn)
    waiting = alone.begin()
    while waiting:
        request = waiting.pop(0)
        answer = (
            replace(next(unread), number=request.number)
            if isinstance(request, ProposeSteps)
            else models.answer(request)
        )
        waiting += alone.receive(answer)
    read = search_pool(
        settings, Budget(tokens=tokens), pool, solution_values(_scored(models, pool).tree), states_answer
    )
    assert read.spent.tokens == alone.spent.tokens
    assert read.stop_reason == alone.stop_reason
    assert [(node.step, node.model_value, node.multiplicity) for node in read.tree.nodes] == [
        (node.step, node.model_value, node.multiplicity) for node in alone.tree.nodes
    ]
    assert (read.chosen and read.tree.steps_to(read.chosen)) == (alone.chosen and alone.tree.steps_to(alone.chosen))


def test_scoring_generates_nothing_and_values_every_distinct_solution() -> None:
    models = RandomModels(seed=1, num_words=2, aggregation="min")
    pool = _pool(_drawn(models, 80))
    search = _scored(models, pool)
    assert search.finished and search.spent.tokens == 0
    values = solution_values(search.tree)
    solutions = {tuple(step.text for step in sample.steps) for sample in pool.samples if sample.steps}
    assert set(values) == solutions
    assert all(len(known.of_steps) == len(steps) for steps, known in values.items())
    assert all(known.score == min(known.of_steps) for known in values.values())
    assert any(known.score != known.of_steps[-1] for known in values.values())


def test_answers_from_before_whole_solutions_were_scored_still_give_their_last_value() -> None:
    models = RandomModels(seed=1, aggregation="min")
    search = ScoreGivenSamples(_pool(_drawn(models, 10)).samples, Budget(), 0, states_answer)
    waiting = search.begin()
    while waiting:
        waiting = [
            new for request in waiting for new in search.receive(replace(models.answer(request), solution_scores=()))
        ]
    assert all(known.score == known.of_steps[-1] for known in solution_values(search.tree).values())


def test_a_larger_budget_reads_more_of_the_same_pool() -> None:
    models = RandomModels(seed=5)
    pool = _pool(_drawn(models, 60))
    settings = SelfConsistencySettings(num_samples=100, samples_at_once=1)
    read = [search_pool(settings, Budget(tokens=tokens), pool, {}, states_answer) for tokens in (5, 30, 90)]
    spent = [search.spent.tokens for search in read]
    assert spent == sorted(spent) and spent[0] < spent[-1]
    assert all(find_path(read[-1].tree, read[0].tree.steps_to(node)) for node in read[0].tree.nodes[1:])
    assert [search.spent.seconds for search in read] == sorted(search.spent.seconds for search in read)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BestOfNSettings(num_samples=4), "samples_at_once must be 1"),
        (BestOfNSettings(num_samples=4, samples_at_once=1), "no value is known"),
    ],
)
def test_a_pool_says_what_it_cannot_give(settings: BestOfNSettings, message: str) -> None:
    pool = _pool(_drawn(RandomModels(silence_rate=0.0), 4))
    with pytest.raises(InputError, match=message):
        search_pool(settings, Budget(), pool, {}, states_answer)


def test_a_policy_that_says_nothing_has_no_answer() -> None:
    pool = _pool(_drawn(RandomModels(silence_rate=1.0), 4))
    search = search_pool(BestOfNSettings(num_samples=4, samples_at_once=1), Budget(), pool, {}, states_answer)
    assert search.chosen is None
