"""Golden scores: a tiny model of each format, scored by the adapter and by a plain computation
from the format's description.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.requests import ScoreSteps
from restmcts.errors import InputError, ModelError
from restmcts.modeling.prm.format import PRM_FORMATS, detect_format
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.reference import ModelReference, parse_reference
from restmcts.modeling.prompt_rendering import PromptFormat, Template
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.testing.prm_models import BUILDERS, build_causal, build_qwen, head
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

QUESTIONS = ["what is a + b?", "a", "a rather long question - with many words in it", "what is a + b?"]
REQUESTS = [
    ScoreSteps(0, (), (("ab\n",), ("cd\n", "e f g\n", "h\n"))),
    ScoreSteps(1, ("a\n", "b b\n"), (("c + cc\n",),)),
    ScoreSteps(2, ("abcdefgh i\n",), (("i\n", "j\n"), ("i\n",), ("k l m n o p q\n",))),
    ScoreSteps(3, ("ab\n",), (("c\n", "The answer is 7"),)),
]


def bare(steps: tuple[str, ...]) -> list[str]:
    return [step.strip() for step in steps]


@torch.inference_mode()
def hidden(folder: Path, ids: list[int]) -> torch.Tensor:
    return AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]


@torch.inference_mode()
def next_tokens(folder: Path, ids: list[int]) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0]


def math_shepherd(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"{question} " + "\n".join(f"{step} ки" for step in bare(steps)))
    good, bad = tokenizer.encode("+ -")[1:]
    tags = [place for place, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids(" ки")]
    assert ids[0] == tokenizer.bos_token_id and len(tags) == len(steps)
    return float(next_tokens(folder, ids)[tags[-1], [good, bad]].softmax(0)[0])


def math_psa(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"{question} " + " ".join(f"{step} \n\n\n\n\n" for step in bare(steps)))
    good, bad = tokenizer.encode(" + -")
    tags = [place for place, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids(" \n\n\n\n\n")]
    assert len(tags) == len(steps)
    return float(next_tokens(folder, ids)[tags[-1], [good, bad]].softmax(0)[0])


def rlhflow(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = []
    for place, step in enumerate(bare(steps)):
        turns.append({"role": "user", "content": f"{question} {step}" if place == 0 else step})
        turns.append({"role": "assistant", "content": "+"})
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    plus, minus = tokenizer.convert_tokens_to_ids("+"), tokenizer.convert_tokens_to_ids("-")
    before_the_last_plus = len(ids) - 1 - ids[::-1].index(plus) - 1
    return float(next_tokens(folder, ids)[before_the_last_plus, [plus, minus]].softmax(0)[0])


def skywork(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(tokenizer.bos_token + question + "\n", add_special_tokens=False)
    for step in bare(steps):
        ids += tokenizer.encode(step, add_special_tokens=False) + tokenizer.encode("\n", add_special_tokens=False)
    weights = head(2, 1, 32, "v_head.summary")
    raw = hidden(folder, ids)[-1] @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"][0]
    return float(torch.sigmoid(raw))


def qwen(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [
        {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."},
        {"role": "user", "content": question},
        {"role": "assistant", "content": "<extra_0>".join(bare(steps)) + "<extra_0>"},
    ]
    ids = tokenizer.encode(tokenizer.apply_chat_template(turns, tokenize=False))
    tags = [place for place, token in enumerate(ids) if token == tokenizer.encode("<extra_0>")[0]]
    first, second = head(4, 32, 32, "score.0"), head(5, 2, 32, "score.2")
    inner = torch.relu(
        nn.functional.linear(hidden(folder, ids)[tags[len(steps) - 1]], first["score.0.weight"], first["score.0.bias"])
    )
    return float(nn.functional.linear(inner, second["score.2.weight"], second["score.2.bias"]).softmax(0)[1])


def trl(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    ids = [tokenizer.bos_token_id, *encode(question)]
    for step in bare(steps):
        ids += encode(step) + encode("\n\n")
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return float(model(torch.tensor([ids])).logits[0, -1].softmax(0)[1])


def alphamath(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"<question> {question} </question>\n" + "".join(f"{step.strip()}\n" for step in steps))
    weights = head(8, 1, 32, "v_head.summary")
    raw = hidden(folder, ids)[-1] @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"][0]
    return (float(torch.tanh(raw)) + 1) / 2


def rstar(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"Problem: {question}\nSolution:\n" + "".join(f"{step.strip()}\n" for step in steps))
    weights = head(10, 1, 32, "v_head.summary")
    raw = hidden(folder, ids)[-1] @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"][0]
    return (float(torch.tanh(raw / 5)) + 1) / 2


def thudm(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"Problem: {question}\nSolution:\n" + "".join(f"{step.strip()}\n" for step in steps))
    weights = torch.load(folder / "value_model.pt", weights_only=True)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
    model.load_state_dict(
        {name.removeprefix("base_model."): each for name, each in weights.items() if name.startswith("base")}
    )
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return min(1.0, max(0.0, float(logits @ weights["LN.weight"][0] + weights["LN.bias"][0])))


def orm(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = PromptFormat(Template.CHAT, tokenizer).question_text(question)
    assert prompt.startswith("<|im_start|>user\n") and question in prompt
    ids = tokenizer.encode(prompt + "".join(f"{step.strip()}\n" for step in steps))
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return float(torch.sigmoid(model(torch.tensor([ids])).logits[0, 0]))


Build = Callable[[Path], None]
Reference = Callable[[Path, str, tuple[str, ...]], float]
GOLDEN: dict[str, Reference] = {
    "math-shepherd": math_shepherd,
    "math-psa": math_psa,
    "rlhflow": rlhflow,
    "skywork": skywork,
    "qwen-math-prm": qwen,
    "trl": trl,
    "alphamath": alphamath,
    "rstar": rstar,
    "thudm": thudm,
    "orm": orm,
}


def load(folder: Path, options: str, **loading: Any) -> Any:
    return load_prm(parse_reference(f"{folder}{options}"), folder, **loading)


@pytest.mark.parametrize("name", GOLDEN)
def test_scores_are_those_of_the_formats_description(tmp_path: Path, name: str) -> None:
    reference, (build, options) = GOLDEN[name], BUILDERS[name]
    build(tmp_path)
    prm = load(tmp_path, options)
    assert prm.format.name == name
    expected = [
        reference(tmp_path, question, request.steps + branch[: place + 1])
        for question, request in zip(QUESTIONS, REQUESTS, strict=True)
        for branch in request.branches
        for place in range(len(branch))
    ]
    assert max(expected) - min(expected) > 0.05, "the values differ, so that the comparison says something"
    for max_batch_tokens, key_value_bytes in ((10_000, 0), (10_000, 2**20), (60, 2**20), (1, 0)):
        scorer = TransformersScorer(prm.loaded, max_batch_tokens, key_value_bytes, prm.reader)
        answers = scorer.score(QUESTIONS, REQUESTS)
        assert [v for answer in answers for values in answer.values for v in values] == pytest.approx(
            expected, abs=1e-5
        )


def test_every_format_has_a_golden_test_or_is_our_own() -> None:
    tested_elsewhere = {"value", "judge", "implicit", "ensemble"}
    assert set(PRM_FORMATS) == {*GOLDEN, *tested_elsewhere}, "see test_llm_judge.py and test_implicit_prm.py"


@pytest.mark.parametrize("name", ["qwen-math-prm", "skywork", "trl", "alphamath", "thudm", "orm"])
def test_a_folder_shows_its_format(tmp_path: Path, name: str) -> None:
    BUILDERS[name][0](tmp_path)
    assert detect_format(tmp_path).name == name


def test_a_folder_that_shows_two_formats_is_asked_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(type(PRM_FORMATS.get("orm"))):  # type: ignore[misc]
        """Another format of the same classifiers, as a plugin might bring it."""

    monkeypatch.setattr(PRM_FORMATS, "_entries", dict(PRM_FORMATS._filled()))
    own = PRM_FORMATS.add("own", Own())
    BUILDERS["orm"][0](tmp_path)
    with pytest.raises(ModelError, match=r"more than one PRM format; say which: .*\?format=NAME, one of orm, own"):
        detect_format(tmp_path)
    assert load(tmp_path, "?format=own").format is own


def test_a_checkpoint_of_our_own_is_no_outcome_model(tmp_path: Path) -> None:
    BUILDERS["orm"][0](tmp_path)
    (tmp_path / "restmcts.json").write_text('{"kind": "value"}')
    assert detect_format(tmp_path).name == "value"


def test_formats_are_named_without_torch() -> None:
    """`runs create`, `prm formats` and `plugins list` must not wait for it."""
    code = "import sys; from restmcts.modeling.prm.reference import parse_reference; parse_reference('m?format=trl'); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code} print({{'torch', 'transformers'}} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_formats_without_a_trace_are_known_by_name_or_must_be_said(tmp_path: Path) -> None:
    build_causal(tmp_path)
    assert detect_format(tmp_path, "peiyi9979/math-shepherd-mistral-7b-prm").name == "math-shepherd"
    assert detect_format(tmp_path, "RLHFlow/Llama3.1-8B-PRM-Mistral-Data").name == "rlhflow"
    with pytest.raises(ModelError, match="not known as a process reward model"):
        detect_format(tmp_path, "some/policy")


def test_a_reference_says_format_separator_and_aggregation() -> None:
    assert parse_reference("a/b") == ModelReference("a/b")
    parsed = parse_reference("a/b?format=trl&separator=%0A%0A&aggregation=mean")
    assert parsed == ModelReference("a/b", "trl", "\n\n", "mean")
    for wrong in ("a?format=none", "a?aggregation=max"):
        with pytest.raises(InputError, match="is called"):
            parse_reference(wrong)


@pytest.mark.parametrize(
    ("build", "options", "complaint"),
    [
        (lambda folder: build_causal(folder, bos=False), "?format=rlhflow", "needs the model's chat template"),
        (build_causal, "?format=skywork", "the head's weights are missing"),
        (build_causal, "?format=qwen-math-prm", "the head's weights are missing"),
        (build_causal, "?format=thudm", "no single file of weights"),
        (build_causal, "?format=orm", "weights are missing"),
    ],
)
def test_a_wrong_format_is_refused_in_one_line(tmp_path: Path, build: Build, options: str, complaint: str) -> None:
    build(tmp_path)
    with pytest.raises(ModelError, match=complaint) as caught:
        prm = load(tmp_path, options)
        TransformersScorer(prm.loaded, reader=prm.reader).score(QUESTIONS, REQUESTS)
    assert "\n" not in str(caught.value)


def test_no_code_of_a_model_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    build_qwen(folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = AutoConfig.from_pretrained(folder)
    config.auto_map = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    config.save_pretrained(folder)
    assert load(folder, "").format.name == "qwen-math-prm"
    assert not (tmp_path / "ran").exists()
