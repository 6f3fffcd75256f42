"""Kept keys and values change no result: the same samples, values and trees with them and
without, and fewer tokens computed.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import GenerationSettings, ProposeSteps, Request, Response, ScoreSteps, StepsProposed
from restmcts.domain.search.mcts_star import MctsStar, MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.decoding.forward import ModelForward
from restmcts.modeling.decoding.key_values import holder
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.testing.scripted import run_search

MakeModel = Callable[..., LoadedModel]
SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=9, max_solution_tokens=20)
QUESTIONS = ["thisisaratherlongquestion", "abc", "thisisaratherlongquestiontoo"]
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma", "gpt_neox", "gpt2", "bloom", "opt"]
# openai-gpt keeps nothing, mamba keeps a state that is not by position.
POLICY_FAMILIES = [*FAMILIES, "llama-tied", "openai-gpt", "mamba"]


def grow(proposer: TransformersProposer, num_levels: int = 4) -> list[StepsProposed]:
    """Write three trees' first steps, each level below a sample of the one before."""
    answers, steps = [], [(), (), ()]
    for level in range(num_levels):
        requests = [
            ProposeSteps(3 * level + n, steps[n], 2 + n, (1, 2, None)[n], seed=100 * level + n) for n in range(3)
        ]
        requests.append(ProposeSteps(99, steps[0], 1, 1, seed=level, greedy=True))
        answers += proposer.propose([*QUESTIONS, QUESTIONS[0]], requests, SETTINGS)
        for n in range(3):
            found = [step.text for sample in answers[4 * level + n].samples for step in sample.steps[:1]]
            steps[n] = (*steps[n], *found[-1:])
    return answers


def texts(answers: list[StepsProposed]) -> list[list[list[str]]]:
    return [[[step.text for step in sample.steps] for sample in answer.samples] for answer in answers]


def log_probs(answers: list[StepsProposed]) -> list[float]:
    return [step.log_prob for answer in answers for sample in answer.samples for step in sample.steps]


@pytest.mark.parametrize("family", POLICY_FAMILIES)
def test_samples_are_those_without_reuse(make_policy: MakeModel, family: str) -> None:
    loaded = make_policy(family)
    plain, reusing = TransformersProposer(loaded, key_value_bytes=0), TransformersProposer(loaded)
    expected, answers = grow(plain), grow(reusing)
    assert texts(answers) == texts(expected)
    assert log_probs(answers) == pytest.approx(log_probs(expected), abs=1e-4)
    assert all(answer.num_reused_tokens <= answer.num_prompt_tokens for answer in answers)
    read = sum(answer.num_prompt_tokens for answer in answers)
    assert sum(answer.num_prompt_tokens - answer.num_reused_tokens for answer in answers) == reusing.num_prefill_tokens
    if family in ("openai-gpt", "mamba"):
        assert reusing.num_prefill_tokens == plain.num_prefill_tokens
    else:
        # The three questions once, and little of what was written in between.
        assert reusing.num_prefill_tokens < 0.4 * plain.num_prefill_tokens < 0.4 * read


BUDGETS = [(90, 0), (90, 1), (90, 20), (90, 60), (90, 200), (1, 60), (10_000, 20)]


def test_samples_do_not_depend_on_the_budgets(make_policy: MakeModel) -> None:
    loaded = make_policy()
    expected = texts(grow(TransformersProposer(loaded, key_value_bytes=0), 3))
    for max_batch_tokens, num_tokens in BUDGETS:
        # Two layers, keys and values of 32 float32 each.
        proposer = TransformersProposer(loaded, max_batch_tokens, key_value_bytes=num_tokens * 2 * 2 * 32 * 4)
        assert texts(grow(proposer, 3)) == expected, f"{num_tokens} tokens kept of {max_batch_tokens}"


def test_a_tokens_cost_is_known_and_the_budget_bounds_it(make_policy: MakeModel) -> None:
    loaded = make_policy()
    for num_tokens, key_value_bytes in ((0, 511), (1, 512), (7, 8 * 512 - 1)):
        kept = holder(ModelForward(loaded), key_value_bytes)
        assert (kept.index.capacity if kept else 0) == num_tokens


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_samples_are_the_same_after_what_was_kept_is_given_up(make_policy: MakeModel, family: str) -> None:
    proposer = TransformersProposer(make_policy(family))
    expected = grow(proposer)
    first = proposer.num_prefill_tokens
    assert texts(grow(proposer)) == texts(expected)
    again = proposer.num_prefill_tokens - first
    proposer.spare_memory()
    assert texts(grow(proposer)) == texts(expected)
    afterwards = proposer.num_prefill_tokens - first - again
    assert afterwards == first
    assert family == "mamba" or again < first


def score_growing(scorer: TransformersScorer) -> tuple[list[float], list[tuple[int, int]]]:
    values, counts, steps = [], [], [(), (), ()]
    generator = np.random.default_rng(0)
    letters = np.array(list("abcdefghijk"))
    for level in range(4):
        requests = []
        for n in range(3):
            branches = tuple(
                tuple("".join(generator.choice(letters, generator.integers(1, 9))) + "\n" for _ in range(1 + n))
                for _ in range(3)
            )
            requests.append(ScoreSteps(level, steps[n], branches))
            steps[n] = (*steps[n], branches[n][0])
        for answer in scorer.score([*QUESTIONS, QUESTIONS[0]], [*requests, requests[0]]):
            values += [value for each in answer.values for value in each]
            counts.append((answer.num_scored_tokens, answer.num_reused_tokens))
    return values, counts


@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_those_without_reuse(make_value_model: MakeModel, family: str) -> None:
    loaded = make_value_model(family)
    plain, reusing = TransformersScorer(loaded, key_value_bytes=0), TransformersScorer(loaded)
    expected, read = score_growing(plain)
    values, counts = score_growing(reusing)
    assert values == pytest.approx(expected, abs=1e-5)
    assert [scored for scored, _ in counts] == [scored for scored, _ in read]
    assert (
        sum(scored - reused for scored, reused in counts)
        == reusing.num_computed_tokens
        < 0.5 * plain.num_computed_tokens
    )


def test_values_are_the_same_after_what_was_kept_is_given_up(make_value_model: MakeModel) -> None:
    scorer = TransformersScorer(make_value_model())
    expected = score_growing(scorer)
    assert score_growing(scorer)[1] != expected[1]
    scorer.spare_memory()
    values, counts = score_growing(scorer)
    assert values == pytest.approx(expected[0], abs=1e-5) and counts == expected[1]


@pytest.mark.parametrize("max_batch_tokens", [1, 90, 10_000])
def test_values_do_not_depend_on_the_budgets(make_value_model: MakeModel, max_batch_tokens: int) -> None:
    loaded = make_value_model()
    expected, _ = score_growing(TransformersScorer(loaded, key_value_bytes=0))
    for num_tokens in (1, 30, 100):
        values, _ = score_growing(TransformersScorer(loaded, max_batch_tokens, num_tokens * 512))
        assert values == pytest.approx(expected, abs=1e-5), f"{num_tokens} tokens kept"


def test_a_tree_is_the_same_with_and_without(make_policy: MakeModel, make_value_model: MakeModel) -> None:
    policy, value = make_policy(), make_value_model()
    trees, computed = [], []
    for key_value_bytes in (0, 2**20):
        proposer = TransformersProposer(policy, key_value_bytes=key_value_bytes)
        scorer = TransformersScorer(value, key_value_bytes=key_value_bytes)

        def answer(request: Request, proposer=proposer, scorer=scorer) -> Response:
            if isinstance(request, ScoreSteps):
                return scorer.score([QUESTIONS[0]], [request])[0]
            return proposer.propose([QUESTIONS[0]], [request], replace(SETTINGS, max_solution_tokens=30))[0]

        search = MctsStar(
            MctsStarSettings(mode="collect", branch=3, stop_threshold=2.0, max_depth=4),
            Budget(iterations=8),
            5,
            states_answer,
        )
        tree = run_search(search, answer).tree
        trees.append([(node.parent_id, node.step, node.visits) for node in tree.nodes])
        computed.append(proposer.num_prefill_tokens + scorer.num_computed_tokens)
    assert trees[0] == trees[1] and len(trees[0]) > 8
    assert computed[1] < 0.5 * computed[0]
