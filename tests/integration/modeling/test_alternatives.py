"""What best-first branching asks of a policy: the tokens that were not taken, and going on from
inside a step.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from restmcts.domain.requests import GenerationSettings, ProposedStep, ProposeSteps
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.policy.proposer import TransformersProposer

MakePolicy = Callable[..., LoadedModel]
SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=9, max_solution_tokens=20)
LIKELY_SEEDS = (32, 11)


def next_log_probs(loaded: LoadedModel, text: str) -> torch.Tensor:
    ids = loaded.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return torch.log_softmax(loaded.model(ids).logits[0, -1].float(), dim=-1)


def policy_that_writes_two_steps(make_policy: MakePolicy, family: str) -> tuple[LoadedModel, tuple[ProposedStep, ...]]:
    """Return random weights that write two steps without an empty line between, so that their
    texts are all that was generated.

    `LIKELY_SEEDS` are looked at first: with today's torch they do.
    """
    request = ProposeSteps(0, ("ab\n",), 1, 2, seed=0, num_alternatives=2)
    for seed in (*LIKELY_SEEDS, *range(100)):
        loaded = make_policy(family, seed)
        (answer,) = TransformersProposer(loaded).propose(["hi"], [request], SETTINGS)
        steps = answer.samples[0].steps
        if (
            len(steps) == 2
            and all(step.num_tokens == len(step.text) for step in steps)
            and answer.samples[0].num_tokens == sum(len(step.text) for step in steps)
        ):
            return loaded, steps
    raise AssertionError("no seed writes two steps")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_alternatives_are_the_most_probable_other_tokens(make_policy: MakePolicy, family: str) -> None:
    loaded, steps = policy_that_writes_two_steps(make_policy, family)
    prompt = "hi\nab\n"
    for step in steps:
        assert step.alternatives
        for alternative in step.alternatives:
            before, letter = alternative.begun[:-1], alternative.begun[-1]
            assert alternative.position == len(before), "a token is one letter here"
            assert step.text.startswith(before) and not step.text.startswith(alternative.begun)
            log_probs = next_log_probs(loaded, prompt + before)
            token = loaded.tokenizer.convert_tokens_to_ids(letter)
            assert float(log_probs[token]) == pytest.approx(alternative.log_prob, abs=1e-4)
            assert int((log_probs > log_probs[token]).sum()) <= 2, "the taken token, and at most one other"
        prompt += step.text


def test_alternatives_that_are_of_no_use_are_left_out(make_policy: MakePolicy) -> None:
    proposer = TransformersProposer(make_policy())
    request = ProposeSteps(0, (), 1, 1, seed=0, greedy=True, num_alternatives=3)
    found = []
    for least in (None, -2.0, 0.0):
        (answer,) = proposer.propose(["hi"], [replace(request, min_log_prob=least)], SETTINGS)
        found.append(answer.samples[0].steps[0].alternatives)
    assert found[1] == tuple(other for other in found[0] if other.log_prob > -2.0)
    assert len(found[0]) > len(found[1]) > len(found[2]) == 0


def test_a_begun_step_is_continued_and_only_new_tokens_count(make_policy: MakePolicy) -> None:
    loaded = make_policy()
    proposer = TransformersProposer(loaded)
    free = ProposeSteps(0, (), 1, 1, seed=0, greedy=True, num_alternatives=2)
    (first,) = proposer.propose(["hi"], [free], SETTINGS)
    chosen = first.samples[0].steps[0].text
    begun = ProposeSteps(1, (), 1, 1, seed=0, greedy=True, begun=chosen[:1])
    (same,) = proposer.propose(["hi"], [begun], SETTINGS)
    assert same.samples[0].steps[0].text[:-1].startswith(chosen[:-1])
    other = first.samples[0].steps[0].alternatives[0]
    (branched,) = proposer.propose(
        ["hi"], [ProposeSteps(2, (), 1, 1, seed=0, greedy=True, begun=other.begun)], SETTINGS
    )
    step = branched.samples[0].steps[0]
    assert step.text.startswith(other.begun)
    assert step.num_tokens == branched.samples[0].num_tokens <= 9


def test_rows_without_alternatives_share_a_batch_with_rows_that_want_some(make_policy: MakePolicy) -> None:
    requests = [ProposeSteps(0, (), 2, 1, seed=3, num_alternatives=2), ProposeSteps(1, (), 2, 1, seed=4)]
    wanting, plain = TransformersProposer(make_policy()).propose(["hi", "hi"], requests, SETTINGS)
    assert any(step.alternatives for sample in wanting.samples for step in sample.steps)
    assert not any(step.alternatives for sample in plain.samples for step in sample.steps)
