"""Policies whose tokenizers have the habits of real ones (bytes, blank lines, blanks before words):
what is stored of a solution is exactly what was written.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from restmcts.domain.requests import SEPARATORS, GenerationSettings, ProposedStep, ProposeSteps, Sample
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.modeling.checkpoints import LoadedModel, load_policy, new_policy, new_value_model, save_checkpoint
from restmcts.modeling.policy import proposer
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.policy.seen_separator import separator_in
from restmcts.modeling.tokenization import TextDecoder, TextEncoder
from restmcts.modeling.training.training import train_policy
from restmcts.modeling.training.training_rows import PolicyExample, policy_rows
from restmcts.modeling.value.value_reading import ValueReader
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, PreTrainedTokenizerFast

QUESTIONS = ("How many?", "What is left?", "Who has more?")
SOLUTIONS = (
    "Ann has 12 apples.\nThey are red.\n\nBen has 3 more than Ann, so 12 + 3 = 15.\n\nSo the answer is 15",
    "There were 40 coins.\nSome are old.\n\n7 are lost: 40 - 7 = 33.\n\nThe answer is 33",
    "Cara reads 4 pages a day.\n\nDan reads 9.\n\nDan reads more by 9 - 4 = 5.\n\nThe answer is 5",
)
PAIRS = list(zip(QUESTIONS, SOLUTIONS, strict=True))
# How pairs of characters may be joined: as GPT-2 does (a blank line before a word is two tokens, at
# a text's end one), and as Llama 3 and Qwen do (line ends stay with what stands before them).
HABITS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}
SETTINGS = GenerationSettings(max_step_tokens=60, max_solution_tokens=160)


def make_tokenizer(habit: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = HABITS[habit]
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([*SOLUTIONS, *QUESTIONS, "end.\n\n", "\n\n", "\n\n\n"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", clean_up_tokenization_spaces=False)


@pytest.fixture(scope="module", params=list(HABITS))
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A policy that has learnt three solutions by heart."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("kept")
    tokenizer = make_tokenizer(request.param)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    save_checkpoint(new_policy(config, tokenizer, 0, template="raw"), folder / "fresh")
    examples = [PolicyExample(question, (solution,)) for question, solution in zip(QUESTIONS, SOLUTIONS, strict=True)]
    settings = TrainingSettings(num_steps=70, batch_size=3, learning_rate=8e-3, seed=0)
    train_policy(folder / "fresh", examples, settings, folder / "trained")
    return load_policy(folder / "trained")


def solution(proposer: TransformersProposer, question: str, settings: GenerationSettings) -> Sample:
    (answer,) = proposer.propose([question], [ProposeSteps(0, (), 1, None, seed=0, greedy=True)], settings)
    return answer.samples[0]


def step_by_step(proposer: TransformersProposer, question: str, settings: GenerationSettings) -> list[ProposedStep]:
    steps: list[ProposedStep] = []
    ended = False
    while not ended:
        request = ProposeSteps(0, tuple(step.text for step in steps), 1, 1, seed=0, greedy=True)
        (sample,) = proposer.propose([question], [request], settings)[0].samples
        steps += sample.steps
        ended = sample.ended or not sample.steps
    return steps


def log_prob_of(loaded: LoadedModel, question: str, steps: tuple[str, ...], ended: bool) -> tuple[float, int]:
    """Return the log-probability of the last step's text after those before it, and its tokens."""
    encoder = TextEncoder(loaded.tokenizer, loaded.prompts.template)
    before = encoder.encode_prompts([loaded.prompts.text(question, steps[:-1])])[0]
    whole = encoder.encode_prompts([loaded.prompts.text(question, steps)])[0] + [loaded.tokenizer.eos_token_id] * ended
    assert whole[: len(before)] == before, "the tokens of a prompt begin those of what goes on from it"
    with torch.inference_mode():
        log_probs = loaded.model(torch.tensor([whole])).logits[0].log_softmax(-1)
    places = range(len(before), len(whole))
    return sum(float(log_probs[place - 1, whole[place]]) for place in places), len(places)


@pytest.mark.parametrize("separator", list(SEPARATORS))
@pytest.mark.parametrize(("question", "written"), PAIRS)
def test_steps_are_what_was_written_and_so_are_their_log_probabilities_and_counts(
    policy: LoadedModel, question: str, written: str, separator: str
) -> None:
    settings = GenerationSettings(max_step_tokens=60, max_solution_tokens=160, step_separator=separator)
    sample = solution(TransformersProposer(policy), question, settings)
    texts = tuple(step.text for step in sample.steps)
    assert "".join(texts) == written and sample.ended
    assert len(texts) == sum(part.strip() != "" for part in written.split(SEPARATORS[separator]))
    assert sum(step.num_tokens for step in sample.steps) == sample.num_tokens
    for number, step in enumerate(sample.steps, start=1):
        log_prob, num_tokens = log_prob_of(policy, question, texts[:number], ended=number == len(texts))
        assert step.log_prob == pytest.approx(log_prob, abs=1e-3) and step.num_tokens == num_tokens


@pytest.mark.parametrize("max_step_tokens", [60, 7])
@pytest.mark.parametrize("separator", list(SEPARATORS))
@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_by_steps_is_greedy_at_once(
    policy: LoadedModel, question: str, separator: str, max_step_tokens: int
) -> None:
    settings = GenerationSettings(max_step_tokens=max_step_tokens, max_solution_tokens=160, step_separator=separator)
    at_once = solution(TransformersProposer(policy), question, settings)
    by_steps = step_by_step(TransformersProposer(policy), question, settings)
    assert [step.text for step in by_steps] == [step.text for step in at_once.steps]
    assert [step.num_tokens for step in by_steps] == [step.num_tokens for step in at_once.steps]
    assert [step.log_prob for step in by_steps] == pytest.approx([step.log_prob for step in at_once.steps], abs=1e-3)


@pytest.mark.parametrize(("question", "written"), PAIRS)
def test_what_is_trained_on_is_what_was_written(policy: LoadedModel, question: str, written: str) -> None:
    sample = solution(TransformersProposer(policy), question, SETTINGS)
    (row,) = policy_rows(policy, [PolicyExample(question, tuple(step.text for step in sample.steps))])
    (whole,) = policy_rows(policy, [PolicyExample(question, (written,))])
    assert row == whole and row.num_targets == sample.num_tokens


@pytest.mark.parametrize("separator", list(SEPARATORS))
def test_the_value_after_a_step_is_read_in_the_same_tokens_whatever_follows(
    policy: LoadedModel, separator: str, tmp_path: Path
) -> None:
    save_checkpoint(policy, tmp_path / "parent")
    reader = ValueReader(new_value_model(tmp_path / "parent", seed=0))
    settings = replace(SETTINGS, step_separator=separator)
    steps = [step.text for step in solution(TransformersProposer(policy), QUESTIONS[0], settings).steps]
    ((whole,),) = reader.readings_of_paths([(QUESTIONS[0], steps, 1)])
    for number in range(1, len(steps) + 1):
        (part,) = reader.readings(QUESTIONS[0], steps[:number], number)
        assert part.token_ids == whole.token_ids[: whole.places[number - 1] + 1]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_solution_that_is_cut_is_the_beginning_of_what_would_have_been_written_in_whole_lines(
    policy: LoadedModel, question: str
) -> None:
    whole = solution(TransformersProposer(policy), question, SETTINGS)
    ends = set(accumulate(len(step.text) for step in whole.steps)) | {0}
    text = "".join(step.text for step in whole.steps)
    for limit in range(4, whole.num_tokens, 5):
        cut = solution(TransformersProposer(policy), question, GenerationSettings(max_solution_tokens=limit))
        kept = "".join(step.text for step in cut.steps)
        assert text.startswith(kept) and len(kept) in ends and not cut.ended and cut.num_tokens == limit


def test_a_foreign_checkpoint_is_asked_what_it_ends_its_steps_with(
    policy: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposer, "TRIAL_QUESTIONS", QUESTIONS[:2])  # of which it knows something
    save_checkpoint(policy, tmp_path / "foreign")
    (tmp_path / "foreign" / "restmcts.json").unlink()
    loaded = load_policy(tmp_path / "foreign", template="raw")
    assert loaded.prompts.step_separator is None
    with caplog.at_level("INFO", logger="restmcts"):
        sample = solution(TransformersProposer(loaded), QUESTIONS[0], SETTINGS)
    assert "ends its steps with a blank-line" in caplog.text
    assert sample.steps[0].text.rstrip("\n") == SOLUTIONS[0].partition("\n\n")[0]


@pytest.mark.parametrize(
    ("solutions", "name"),
    [
        (["a\n\nb\n\nThe answer is 1", "a\nb\n\nc\n\nd"], "blank-line"),
        (["a\nb\n\nThe answer is 1", "a\n\nb\n\nc"], "newline"),
        (["", "a"], "newline"),
    ],
)
def test_blank_lines_separate_where_every_solution_has_several(solutions: list[str], name: str) -> None:
    assert separator_in(solutions) == SEPARATORS[name]


def test_a_tokenizer_of_words_does_not_keep_text(policy: LoadedModel, make_policy: Callable[..., LoadedModel]) -> None:
    assert TextDecoder(policy.tokenizer).keeps_text()
    assert not TextDecoder(make_policy().tokenizer).keeps_text()
    assert not TextDecoder(load_policy("number-paths:0").tokenizer).keeps_text()
