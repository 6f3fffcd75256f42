"""The scorer: the value of a partial solution is one number, however it is asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from restmcts.domain.requests import ScoreSteps
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.prompt_rendering import PromptFormat, Template
from restmcts.modeling.tokenization import EncodedText
from restmcts.modeling.value.readings import token_places
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.modeling.value.value_reading import ValueReader
from transformers import AutoConfig, AutoModelForSequenceClassification

MakeModel = Callable[..., LoadedModel]
# Every family here has a classifier of one linear layer in the library.
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma", "gpt_neox", "gpt2", "bloom", "opt"]
QUESTIONS = ["abc", "a", "longerquestion", "abc"]
REQUESTS = [
    ScoreSteps(0, (), (("ab\n",), ("cd\n", "efg\n", "h\n"))),
    ScoreSteps(1, ("a\n", "bb\n"), (("ccc\n",),)),
    ScoreSteps(2, ("abcdefgh\n",), (("i\n", "j\n"), ("i\n",), ("k\n",))),
    ScoreSteps(3, (), (("ab\n",),)),
]


@pytest.fixture
def unclamped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let values through as they are, so that a difference outside [0, 1] is seen."""
    monkeypatch.setattr(torch.Tensor, "clamp", lambda tensor, *_, **__: tensor)


def by_hand(
    loaded: LoadedModel, question: str, steps: tuple[str, ...], *, pad_left: int = 0, pad_right: int = 0
) -> float:
    """Return the value of one prefix: its own forward pass, padded as told, read at its last
    token.
    """
    ids = loaded.tokenizer(loaded.prompts.text(question, steps))["input_ids"]
    padded = torch.tensor([[loaded.pad_token_id] * pad_left + ids + [loaded.pad_token_id] * pad_right])
    mask = torch.tensor([[0] * pad_left + [1] * len(ids) + [0] * pad_right])
    positions = (
        {} if "bloom" in loaded.model.config.model_type else {"position_ids": (mask.cumsum(1) - 1).clamp_(min=0)}
    )
    with torch.inference_mode():
        hidden = loaded.model.base_model(input_ids=padded, attention_mask=mask, **positions).last_hidden_state
        return float(loaded.model.score(hidden[0, pad_left + len(ids) - 1]))


@pytest.mark.usefixtures("unclamped")
@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_gives_what_each_prefix_alone_gives_on_either_padding(
    make_value_model: MakeModel, family: str
) -> None:
    loaded = make_value_model(family)
    answers = TransformersScorer(loaded).score(QUESTIONS, REQUESTS)
    for question, request, answer in zip(QUESTIONS, REQUESTS, answers, strict=True):
        assert answer.number == request.number
        for branch, values in zip(request.branches, answer.values, strict=True):
            prefixes = [request.steps + branch[: place + 1] for place in range(len(branch))]
            for padding in ({}, {"pad_left": 5}, {"pad_right": 5}):
                expected = [by_hand(loaded, question, prefix, **padding) for prefix in prefixes]
                assert values == pytest.approx(expected, abs=1e-5)


@pytest.mark.usefixtures("unclamped")
def test_the_librarys_own_classifier_agrees(make_value_model: MakeModel) -> None:
    loaded = make_value_model()
    (answer,) = TransformersScorer(loaded).score(["abc"], [ScoreSteps(0, (), (("ab\n", "c\n"),))])
    ids = loaded.tokenizer("abc\nab\nc\n", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert answer.values[0][1] == pytest.approx(float(loaded.model(ids).logits), abs=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("max_batch_tokens", [1, 40, 10_000])
def test_neither_padding_side_nor_batches_change_a_value(
    make_value_model: MakeModel, side: str, max_batch_tokens: int
) -> None:
    loaded = make_value_model()
    expected = [TransformersScorer(loaded).score([q], [r])[0] for q, r in zip(QUESTIONS, REQUESTS, strict=True)]
    loaded.tokenizer.padding_side = side
    answers = TransformersScorer(loaded, max_batch_tokens).score(QUESTIONS, REQUESTS)
    assert np.concatenate([v for a in answers for v in a.values]) == pytest.approx(
        np.concatenate([v for a in expected for v in a.values]), abs=1e-5
    )
    assert [a.num_scored_tokens for a in answers] == [a.num_scored_tokens for a in expected]


@pytest.mark.usefixtures("unclamped")
def test_prefixes_are_scored_on_their_own_where_step_ends_are_unknown(
    make_value_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_value_model()
    one_pass = TransformersScorer(loaded).score(QUESTIONS, REQUESTS)
    scorer = TransformersScorer(loaded)
    monkeypatch.setattr("restmcts.modeling.value.value_reading.token_places", lambda *_: None)
    by_prefix = scorer.score(QUESTIONS, REQUESTS)
    for a, b in zip(one_pass, by_prefix, strict=True):
        assert np.concatenate(a.values) == pytest.approx(np.concatenate(b.values), abs=1e-5)
    assert by_prefix[0].num_scored_tokens > one_pass[0].num_scored_tokens


def test_values_lie_between_0_and_1(make_value_model: MakeModel) -> None:
    loaded = make_value_model()
    torch.nn.init.normal_(loaded.model.score.weight, std=50.0)
    values = np.concatenate([v for a in TransformersScorer(loaded).score(QUESTIONS, REQUESTS) for v in a.values])
    assert values.min() >= 0 and values.max() <= 1


def test_equal_paths_are_computed_once(make_value_model: MakeModel) -> None:
    scorer = TransformersScorer(make_value_model())
    scorer.score(["abc", "abc"], [REQUESTS[0], REQUESTS[0]])
    assert scorer.num_computed_tokens == len("abc\nab\n") + len("abc\ncd\nefg\nh\n")
    assert scorer.num_forward_passes == 1 and scorer.forward_seconds > 0


def test_a_path_that_does_not_fit_is_refused_in_one_line(make_value_model: MakeModel) -> None:
    scorer = TransformersScorer(make_value_model(max_position_embeddings=16))
    request = ScoreSteps(0, (), (("a" * 20 + "\n",),))
    assert not scorer.fits("q", request)
    with pytest.raises(ModelError, match="23 tokens does not fit the value model's context of 16") as caught:
        scorer.score(["q"], [request])
    assert "\n" not in str(caught.value)


def test_a_value_that_is_no_number_is_an_error(make_value_model: MakeModel) -> None:
    loaded = make_value_model()
    loaded.model.score.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not a number"):
        TransformersScorer(loaded).score(QUESTIONS, REQUESTS)


def test_an_encoder_scores_each_prefix(make_policy: MakeModel, tmp_path: Path) -> None:
    tokenizer = make_policy().tokenizer
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
        pad_token_id=0,
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    loaded = LoadedModel("value", model, tokenizer, PromptFormat(Template.RAW, tokenizer))
    model.classifier.bias.data.fill_(0.5)
    answers = TransformersScorer(loaded).score(QUESTIONS, REQUESTS)
    with torch.inference_mode():
        expected = float(model(torch.tensor([tokenizer("abc\ncd\nefg\n")["input_ids"]])).logits)
    assert answers[0].values[1][1] == pytest.approx(expected, abs=1e-5)
    assert not ValueReader(loaded).reads_every_step


@pytest.mark.parametrize(
    ("starts", "ends", "step_ends", "expected"),
    [
        ([0, 2, 4], [2, 4, 6], [4, 6], [1, 2]),
        ([0, 0, 2, 4], [0, 2, 4, 6], [4, 6], [2, 3]),  # a start token covers no text
        ([0, 2, 5], [2, 4, 6], [5, 6], [1, 2]),  # the separator itself has no token
        ([0, 2, 3], [2, 5, 6], [4, 6], None),  # a token lies across the first end
        ([0, 2], [2, 4], [4, 5], None),  # two steps end at one token
    ],
)
def test_step_ends_are_found_in_tokens(
    starts: list[int], ends: list[int], step_ends: list[int], expected: list[int] | None
) -> None:
    assert token_places(EncodedText(list(range(len(starts))), starts, ends), step_ends) == expected
