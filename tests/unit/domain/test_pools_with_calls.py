"""Samples that call tools, drawn once: whoever reads them comes to what it would have come to by
drawing them itself.
"""

from dataclasses import replace

import pytest
from restmcts.domain.requests import CallTool, Observation, Request, Response, ScoreSteps, StepsProposed, ToolAnswered
from restmcts.domain.search.best_of_n import BestOfNSettings, SelfConsistencySettings, SolutionSampling
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.sample_pool import (
    SamplePool,
    ScoreGivenSamples,
    Values,
    samples_with_calls,
    search_pool,
    solution_values,
)
from restmcts.domain.search.tool_calls import ToolSettings, ToolUse
from restmcts.domain.tasks.task import TASKS, ProgramOutput
from restmcts.domain.tasks.tool_lines import tool_result
from restmcts.testing.scripted import run_search
from restmcts.testing.trees import RandomModels

MATH = TASKS.get("math")
TOOLS = ToolUse("math", MATH.calls, ToolSettings(max_calls=2))
DRAWING = SelfConsistencySettings(num_samples=200, samples_at_once=1)
SCORED = BestOfNSettings(num_samples=200, samples_at_once=1)
POOL_BUDGET = Budget(tokens=400)
BUDGETS = (1, 25, 60, 151, 400)
SEED = 5


class CallingModels(RandomModels):
    """Random models whose policy often calls the calculator, and Python, which cannot be run."""

    def answer(self, request: Request) -> Response:
        if not isinstance(request, CallTool):
            return super().answer(request)
        found = tool_result(request.steps[-1], lambda _: ProgramOutput("", "no sandbox", is_known=False))
        return ToolAnswered(request.number, found.text, found.is_known)

    def _text(self, number: int) -> str:
        return ("calc: 2*3\n", "python: 1\n", "so\n", "calc: 1/0\n", "then\n")[number]


MODELS = CallingModels(seed=2, num_words=5, answer_rate=0.2, aggregation="mean")


def drawn() -> SamplePool:
    received: list[tuple[StepsProposed | ToolAnswered, float]] = []

    def answer(request: Request) -> Response:
        response = MODELS.answer(request)
        assert isinstance(response, StepsProposed | ToolAnswered)
        received.append((response, float(len(received))))
        return response

    run_search(drawing(POOL_BUDGET), answer)
    samples = samples_with_calls(DRAWING, POOL_BUDGET, SEED, MATH.ends, TOOLS, received)
    return SamplePool(samples, 3, tuple(received))


def drawing(budget: Budget) -> SolutionSampling:
    search = SolutionSampling(DRAWING, budget, SEED, MATH.ends)
    search.use_tools(TOOLS)
    return search


POOL = drawn()


def values() -> Values:
    scoring = ScoreGivenSamples(POOL.samples, Budget(), 0, MATH.ends)
    return solution_values(run_search(scoring, MODELS.answer).tree)


def facts(search: SolutionSampling) -> list[tuple[object, ...]]:
    return [(one.parent_id, one.step, one.observed, one.final, one.multiplicity) for one in search.tree.nodes]


def test_samples_are_whole_each_call_with_its_answer() -> None:
    steps = [step for sample in POOL.samples for step in sample.steps]
    assert len(POOL.samples) > 15 and sum(isinstance(step, Observation) for step in steps) > 15
    assert len(POOL.responses) > len(POOL.samples) + 10, "parts of samples, and answers of tools"
    tokens = sum(
        sample.num_tokens for one, _ in POOL.responses if isinstance(one, StepsProposed) for sample in one.samples
    )
    assert sum(sample.num_tokens for sample in POOL.samples) == tokens >= 400


@pytest.mark.parametrize("tokens", BUDGETS)
def test_voting_over_a_pool_is_the_run_that_it_would_have_been(tokens: int) -> None:
    budget = Budget(tokens=tokens)
    alone = run_search(drawing(budget), MODELS.answer)
    read = search_pool(DRAWING, budget, POOL, {}, MATH.ends, TOOLS)
    assert facts(read) == facts(alone)
    assert replace(read.spent, seconds=0.0) == alone.spent
    assert (read.stop_reason, read.chosen and read.chosen.node_id) == (
        alone.stop_reason,
        alone.chosen and alone.chosen.node_id,
    )


@pytest.mark.parametrize("settings", [SCORED, replace(SCORED, aggregation="own"), replace(SCORED, stop_threshold=0.7)])
@pytest.mark.parametrize("tokens", BUDGETS)
def test_a_method_that_asks_values_has_those_of_its_own_run(settings: BestOfNSettings, tokens: int) -> None:
    budget = Budget(tokens=tokens)
    unread = iter(POOL.responses)

    def answer(request: Request) -> Response:
        return (
            MODELS.answer(request)
            if isinstance(request, ScoreSteps)
            else replace(next(unread)[0], number=request.number)
        )

    alone = SolutionSampling(settings, budget, 0, MATH.ends)
    alone.use_tools(TOOLS)
    run_search(alone, answer)
    read = search_pool(settings, budget, POOL, values(), MATH.ends, TOOLS)
    assert facts(read) == facts(alone)
    assert [one.model_value for one in read.tree.nodes] == [one.model_value for one in alone.tree.nodes]
    assert (read.spent.tokens, read.spent.model_calls) == (alone.spent.tokens, alone.spent.model_calls)
    assert (read.chosen and read.chosen.node_id) == (alone.chosen and alone.chosen.node_id)
