"""The proposer: the same samples whatever the batch, true log-probabilities, any family, bounds
that are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from restmcts.domain.requests import GenerationSettings, ProposeSteps, Sample, StepsProposed
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.decoding.key_values import DEFAULT_KEY_VALUE_BYTES
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.ports import MayBegin

MakePolicy = Callable[..., LoadedModel]
FAMILIES = [
    "llama",
    "llama-tied",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gpt_neox",
    "gpt2",
    "bloom",
    "opt",
    "openai-gpt",
    "mamba",
]
QUESTIONS = ["abc", "a", "hello", "thisisalongerquestion", "abc"]
REQUESTS = [
    ProposeSteps(0, (), 3, 1, seed=1),
    ProposeSteps(1, ("abc\n", "defg\n"), 2, None, seed=2),
    ProposeSteps(2, (), 2, 2, seed=3, greedy=True),
    ProposeSteps(3, ("k\n",), 3, 2, seed=4),
    ProposeSteps(4, (), 2, None, seed=5),
]
SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=9, max_solution_tokens=20)


def texts(answers: Sequence[StepsProposed]) -> list[list[list[str]]]:
    return [[[step.text for step in sample.steps] for sample in answer.samples] for answer in answers]


def log_probs(answers: Sequence[StepsProposed]) -> list[float]:
    return [step.log_prob for answer in answers for sample in answer.samples for step in sample.steps]


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_do_not_depend_on_what_else_is_in_the_batch(make_policy: MakePolicy, family: str) -> None:
    loaded = make_policy(family)
    together = TransformersProposer(loaded).propose(QUESTIONS, REQUESTS, SETTINGS)
    alone = [
        TransformersProposer(loaded, max_batch_tokens=1).propose([question], [request], SETTINGS)[0]
        for question, request in zip(QUESTIONS, REQUESTS, strict=True)
    ]
    in_turn = TransformersProposer(loaded, max_batch_tokens=120).propose(QUESTIONS, REQUESTS, SETTINGS)
    assert texts(together) == texts(alone) == texts(in_turn)
    assert log_probs(together) == pytest.approx(log_probs(alone), abs=1e-3)
    assert log_probs(in_turn) == pytest.approx(log_probs(alone), abs=1e-3)
    assert [len(answer.samples) for answer in together] == [3, 2, 2, 3, 2]


@pytest.mark.parametrize("key_value_bytes", [0, DEFAULT_KEY_VALUE_BYTES])
def test_waiting_rows_take_the_places_of_finished_ones(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch, key_value_bytes: int
) -> None:
    loaded = make_policy()
    lengths = [None if number % 4 == 0 else 1 for number in range(24)]
    requests = [ProposeSteps(number, (), 2, length, seed=number) for number, length in enumerate(lengths)]
    questions = ["abc" * (1 + number % 3) for number in range(24)]
    settings = replace(SETTINGS, max_step_tokens=4, max_solution_tokens=60)

    def propose() -> tuple[list[StepsProposed], int]:
        proposer = TransformersProposer(loaded, max_batch_tokens=400, key_value_bytes=key_value_bytes)
        return proposer.propose(questions, requests, settings), proposer.num_forward_passes

    joined, num_passes = propose()
    monkeypatch.setattr("restmcts.modeling.decoding.continuous_batch.can_join", lambda forward: False)
    in_batches, num_passes_of_batches = propose()
    assert texts(joined) == texts(in_batches)
    assert log_probs(joined) == pytest.approx(log_probs(in_batches), abs=1e-3)
    assert num_passes < 0.9 * num_passes_of_batches


def test_answers_come_before_all_are_written(make_policy: MakePolicy) -> None:
    requests = [replace(REQUESTS[4], number=number, num_samples=1, seed=number) for number in range(12)]
    proposer = TransformersProposer(make_policy(), max_batch_tokens=200)
    counts = [proposer.num_generated_tokens for _ in proposer.stream(["abc"] * 11 + ["b"], requests, SETTINGS)]
    assert counts[0] < counts[-1] / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_once_no_more_may_begin_what_was_begun_is_written_and_the_rest_is_not(
    make_policy: MakePolicy, family: str
) -> None:
    requests = [replace(REQUESTS[4], number=number, num_samples=1, seed=number) for number in range(12)]
    questions, loaded = ["abc"] * 11 + ["b"], make_policy(family)

    def asked(may_begin: MayBegin) -> tuple[dict[int, StepsProposed], int]:
        proposer = TransformersProposer(loaded, max_batch_tokens=200, key_value_bytes=0)
        return dict(proposer.stream(questions, requests, SETTINGS, may_begin)), proposer.num_generated_tokens

    whole, _ = asked(lambda: True)
    begun, num_tokens = asked(lambda: False)
    assert sorted(whole) == list(range(12)) and 0 < len(begun) < 12
    assert texts([begun[place] for place in begun]) == texts([whole[place] for place in begun])
    assert num_tokens == sum(sample.num_tokens for answer in begun.values() for sample in answer.samples)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_those_of_one_full_forward_pass(make_policy: MakePolicy, family: str) -> None:
    loaded = make_policy(family)
    num_checked = 0
    for question, request, answer in zip(
        QUESTIONS, REQUESTS, TransformersProposer(loaded).propose(QUESTIONS, REQUESTS, SETTINGS), strict=True
    ):
        for sample in answer.samples:
            if sample.num_tokens == sum(step.num_tokens for step in sample.steps):
                expected = full_forward_log_probs(loaded, loaded.prompts.text(question, request.steps), sample)
                assert [step.log_prob for step in sample.steps] == pytest.approx(expected, abs=1e-3)
                num_checked += 1
    assert num_checked >= 5


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba"])
def test_greedy_takes_the_most_probable_token_each_time(make_policy: MakePolicy, family: str) -> None:
    loaded = make_policy(family)
    request = ProposeSteps(0, (), 2, 1, seed=0, greedy=True)
    answer = TransformersProposer(loaded).propose(["abc"], [request], SETTINGS)[0]
    ids = loaded.tokenizer(loaded.prompts.text("abc", ()))["input_ids"]
    num_prompt_tokens = len(ids)
    for _ in range(answer.samples[0].num_tokens):
        with torch.inference_mode():
            ids = [*ids, int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())]
    written = loaded.tokenizer.decode(ids[num_prompt_tokens:], skip_special_tokens=True)
    assert "".join(step.text for step in answer.samples[0].steps).strip() == written.strip()
    assert answer.samples[0] == answer.samples[1]


def test_seeds_decide_the_samples(make_policy: MakePolicy) -> None:
    proposer = TransformersProposer(make_policy())
    request = ProposeSteps(0, (), 8, None, seed=11)
    first, again = (proposer.propose(["abc"], [request], SETTINGS) for _ in range(2))
    other = proposer.propose(["abc"], [replace(request, seed=12)], SETTINGS)
    assert texts(first) == texts(again)
    assert texts(first) != texts(other)
    assert len({str(sample.steps) for sample in first[0].samples}) > 4


def test_limits_of_steps_and_tokens_hold(make_policy: MakePolicy) -> None:
    proposer = TransformersProposer(make_policy())
    answers = proposer.propose(QUESTIONS, REQUESTS, SETTINGS)
    for request, answer in zip(REQUESTS, answers, strict=True):
        for sample in answer.samples:
            assert sample.num_tokens <= SETTINGS.max_solution_tokens
            assert len(sample.steps) <= (request.max_steps or 20)
            assert all(step.num_tokens <= SETTINGS.max_step_tokens for step in sample.steps)
            assert all(step.text.endswith("\n") and step.text.strip() + "\n" == step.text for step in sample.steps)
    expected = sum(
        s.num_tokens for r, a in zip(REQUESTS, answers, strict=True) for s in a.samples[: 1 if r.greedy else None]
    )
    assert proposer.num_generated_tokens == expected


def test_a_prompt_is_prefilled_once_for_all_its_samples(make_policy: MakePolicy) -> None:
    proposer = TransformersProposer(make_policy())
    requests = [
        ProposeSteps(0, (), 5, 1, seed=1),
        ProposeSteps(1, (), 5, 1, seed=2),
        ProposeSteps(2, ("x\n",), 5, 1, seed=3),
    ]
    answers = proposer.propose(["abc", "abc", "abc"], requests, SETTINGS)
    assert [answer.num_prompt_tokens for answer in answers] == [4, 4, 6]
    assert proposer.num_prefill_tokens == 4 + 6
    assert proposer.num_forward_passes <= 1 + SETTINGS.max_step_tokens
    assert proposer.forward_seconds > 0


def test_a_prompt_that_does_not_fit_gets_no_samples_and_is_not_cut(make_policy: MakePolicy) -> None:
    proposer = TransformersProposer(make_policy(max_position_embeddings=32))
    long, short = ProposeSteps(0, ("a" * 9 + "\n",), 2, 1, seed=1), ProposeSteps(1, (), 2, None, seed=1)
    answers = proposer.propose(["a" * 20, "a" * 20], [long, short], SETTINGS)
    assert not proposer.fits("a" * 20, long, SETTINGS)
    assert proposer.fits("a" * 20, short, SETTINGS)
    assert answers[0].samples == () and answers[0].num_prompt_tokens == 31
    assert len(answers[1].samples) == 2
    assert all(sample.num_tokens <= 32 - 21 for sample in answers[1].samples)


def test_a_question_that_leaves_no_room_for_a_step_is_refused_with_the_reason(make_policy: MakePolicy) -> None:
    proposer = TransformersProposer(make_policy(max_position_embeddings=32))
    with pytest.raises(
        ModelError, match="takes 31 tokens, which with a step of 9 do not fit the policy's context of 32"
    ) as caught:
        proposer.propose(
            ["a" * 20, "a" * 30], [ProposeSteps(0, (), 1, 1, seed=1), ProposeSteps(1, (), 1, 1, seed=1)], SETTINGS
        )
    assert "\n" not in str(caught.value)


def test_a_request_for_no_step_is_refused(make_policy: MakePolicy) -> None:
    with pytest.raises(ModelError, match="asks for no step"):
        TransformersProposer(make_policy()).propose(["a"], [ProposeSteps(7, (), 1, 0, seed=0)], SETTINGS)


def test_temperature_and_top_p_narrow_the_choice(make_policy: MakePolicy) -> None:
    proposer = TransformersProposer(make_policy())
    greedy = proposer.propose(["abc"], [ProposeSteps(0, (), 1, 1, seed=0, greedy=True)], SETTINGS)
    for settings in (replace(SETTINGS, temperature=1e-3), replace(SETTINGS, top_p=1e-6)):
        sampled = proposer.propose(["abc"], [ProposeSteps(0, (), 4, 1, seed=0)], settings)
        assert texts(sampled)[0] == texts(greedy)[0] * 4


def full_forward_log_probs(loaded: LoadedModel, prompt: str, sample: Sample) -> list[float]:
    tokenizer = loaded.tokenizer
    ids, spans = tokenizer(prompt)["input_ids"], []
    for place, step in enumerate(sample.steps):
        letters = tokenizer(step.text.removesuffix("\n"))["input_ids"]
        if step.num_tokens > len(letters):
            is_end = sample.ended and place == len(sample.steps) - 1
            letters = [*letters, tokenizer.eos_token_id if is_end else tokenizer.convert_tokens_to_ids("\n")]
        spans.append((len(ids), len(ids) + len(letters)))
        ids = ids + letters
    with torch.inference_mode():
        table = torch.log_softmax(loaded.model(torch.tensor([ids])).logits[0].double(), dim=-1)
    each = [float(table[place - 1, ids[place]]) for place in range(1, len(ids))]
    return [sum(each[begin - 1 : end - 1]) for begin, end in spans]
