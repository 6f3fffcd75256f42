"""A real model's answers, on every backend: what is stored is what was written, each token counts
once, and a solution in steps is the solution at once.
"""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from restmcts.adapters.models.http_policy.address import parse_address
from restmcts.adapters.models.http_policy.opening import open_policy
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import GenerationSettings, ProposedStep, ProposeSteps, Sample
from restmcts.domain.segmenters import SEGMENTERS
from restmcts.modeling.checkpoints import LoadedModel, load_policy
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.tokenization import TextEncoder
from restmcts.ports import StepProposer
from restmcts.settings import PolicyServerSettings

QUESTIONS = (
    "Nora sold clips to 48 of her friends in April, and then she sold half as many in May. How many did she sell in all?",
    "Omar earns 12 dollars an hour and worked for 50 minutes. How much did he earn?",
)
MAX_TOKENS = 60


def settings(name: str) -> GenerationSettings:
    return GenerationSettings(
        temperature=0.8,
        max_step_tokens=24 if name == "tokens" else 48,
        max_solution_tokens=MAX_TOKENS,
        step_separator=name,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def loaded(smollm2: Path) -> LoadedModel:
    """The model in float32: in half precision, what a text is batched with shows in its numbers."""
    return load_policy(smollm2, dtype="float32")


@pytest.fixture(scope="module")
def in_process(loaded: LoadedModel) -> TransformersProposer:
    return TransformersProposer(loaded)


@pytest.fixture(scope="module")
def on_server(llama_cpp: str) -> Iterator[StepProposer]:
    with urllib.request.urlopen(f"{llama_cpp}/v1/models", timeout=60) as answer:
        name = json.load(answer)["data"][0]["id"].rpartition("/")[2]
    uri = f"openai+{llama_cpp}/v1?model={name}&template=few-shot&concurrency=2"
    policy = open_policy(parse_address(uri), PolicyServerSettings(policy_timeout_seconds=300.0))
    yield policy
    policy.close()


def log_prob_of_text(loaded: LoadedModel, question: str, steps: Sequence[str], by_end: bool) -> tuple[float, int]:
    """Return the log-probability of the last of some steps, in one forward pass over their text,
    and its number of tokens.

    Args:
        by_end: the model gave an end token behind it; else the text goes on.
    """
    encoder = TextEncoder(loaded.tokenizer, loaded.prompts.template)
    before = encoder.encode_prompts([loaded.prompts.text(question, steps[:-1])])[0]
    text = loaded.prompts.text(question, steps)
    end = [loaded.tokenizer.eos_token_id]
    tokens = encoder.encode([text])[0] + end if by_end else encoder.encode_prompts([text])[0]
    assert tokens[: len(before)] == before, "the text's tokens are those of its beginning, and more"
    with torch.inference_mode():
        log_probs = loaded.model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
    places = range(len(before), len(tokens))
    return sum(float(log_probs[place - 1, tokens[place]]) for place in places), len(places)


def at_once(proposer: StepProposer, question: str, how: GenerationSettings) -> Sample:
    request = ProposeSteps(0, (), 1, None, 0, greedy=True, needs_log_probs=True)
    return proposer.propose([question], [request], how)[0].samples[0]


def step_by_step(proposer: StepProposer, question: str, how: GenerationSettings) -> list[ProposedStep]:
    found: list[ProposedStep] = []
    while sum(step.num_tokens for step in found) < how.max_solution_tokens:
        given = tuple(step.text for step in found)
        request = ProposeSteps(0, given, 1, 1, 0, greedy=True, needs_log_probs=True)
        sample = proposer.propose([question], [request], how)[0].samples[0]
        found += sample.steps
        if sample.ended or not sample.steps:
            break
    return found


@pytest.mark.parametrize("name", list(SEGMENTERS))
def test_a_step_has_the_log_probability_of_its_stored_text(
    loaded: LoadedModel, in_process: TransformersProposer, name: str
) -> None:
    requests = [ProposeSteps(number, (), 2, None, seed=number) for number in range(len(QUESTIONS))]
    num_steps = 0
    for question, answer in zip(QUESTIONS, in_process.propose(QUESTIONS, requests, settings(name)), strict=True):
        for sample in answer.samples:
            texts = [step.text for step in sample.steps]
            assert sum(step.num_tokens for step in sample.steps) <= sample.num_tokens <= MAX_TOKENS
            for place, step in enumerate(sample.steps):
                by_end = sample.ended and place == len(texts) - 1 and not states_answer(step.text)
                found, num_tokens = log_prob_of_text(loaded, question, texts[: place + 1], by_end)
                assert (found, num_tokens) == (pytest.approx(step.log_prob, abs=1e-3), step.num_tokens), step.text
                num_steps += 1
    assert num_steps >= (4 if name in ("newline", "sentence", "tokens") else 1)


@pytest.mark.parametrize("name", ["newline", "blank-line", "sentence", "tokens"])
def test_greedy_by_steps_is_greedy_at_once_in_process(in_process: TransformersProposer, name: str) -> None:
    once = at_once(in_process, QUESTIONS[1], settings(name))
    steps = step_by_step(in_process, QUESTIONS[1], settings(name))[: len(once.steps)]
    assert [step.text for step in steps] == [step.text for step in once.steps]
    assert [step.num_tokens for step in steps] == [step.num_tokens for step in once.steps]
    for one, other in zip(steps, once.steps, strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_by_steps_is_greedy_at_once_on_llama_cpp(
    on_server: StepProposer, in_process: TransformersProposer, question: str
) -> None:
    how = replace(settings("newline"), template="few-shot")
    once, own = (at_once(proposer, question, how).steps for proposer in (on_server, in_process))
    steps = step_by_step(on_server, question, how)[: len(once)]
    assert once and [step.text for step in steps] == [step.text for step in once] == [step.text for step in own]
    assert [step.num_tokens for step in steps] == [step.num_tokens for step in once]
    for by_steps, at_once_, in_own in zip(steps, once, own, strict=True):
        assert by_steps.log_prob == pytest.approx(at_once_.log_prob, abs=1e-3)
        assert by_steps.log_prob == pytest.approx(in_own.log_prob, abs=5e-3)


def test_llama_cpp_counts_every_token_of_every_choice_once(on_server: StepProposer, loaded: LoadedModel) -> None:
    (answer,) = on_server.propose(
        [QUESTIONS[0]], [ProposeSteps(0, (), 2, 1, 5, needs_log_probs=True)], settings("newline")
    )
    assert len(answer.samples) == 2
    for sample in answer.samples:
        (step,) = sample.steps
        num_text_tokens = len(loaded.tokenizer(step.text, add_special_tokens=False)["input_ids"])
        assert num_text_tokens <= step.num_tokens <= num_text_tokens + 1, "the end token may be one more"
        assert step.num_tokens <= sample.num_tokens <= 48 and step.log_prob < 0
