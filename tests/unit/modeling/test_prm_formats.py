"""Golden scores: a tiny model of each format, scored by the adapter and by a plain computation from the format's description."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.requests import ScoreSteps
from restmcts.errors import InputError, ModelError
from restmcts.modeling.prm.formats import FORMATS, ModelReference, detect_format, parse_reference
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prompts import PromptFormat, Template
from restmcts.modeling.value_model import TransformersScorer
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
SPECIAL = ["<eos>", "<bos>", "<|im_start|>", "<|im_end|>", "<extra_0>"]
MARKERS = ["ки", " ки", "+", " +", "-", " -", " \n\n\n\n\n", "\n\n"]
LETTERS = [*"\n abcdefghijklmnopqrstuvwxyz0123456789:.,;<>/_|{}\\=PS?"]
QUESTIONS = ["what is a + b?", "a", "a rather long question - with many words in it", "what is a + b?"]
REQUESTS = [
    ScoreSteps(0, (), (("ab\n",), ("cd\n", "e f g\n", "h\n"))),
    ScoreSteps(1, ("a\n", "b b\n"), (("c + cc\n",),)),
    ScoreSteps(2, ("abcdefgh i\n",), (("i\n", "j\n"), ("i\n",), ("k l m n o p q\n",))),
    ScoreSteps(3, ("ab\n",), (("c\n", "The answer is 7"),)),
]


def make_tokenizer(chat: bool = False, bos: bool = True) -> PreTrainedTokenizerFast:
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *MARKERS, *LETTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    pattern = r" \n{5}|\n\n| ?ки| ?[+-]|[\s\S]"
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    backend.decoder = decoders.Fuse()
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<eos>",
        pad_token="<eos>",
        bos_token="<bos>" if bos else None,
        additional_special_tokens=SPECIAL[2:],
    )
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def make_config(family: str = "qwen2", **changes: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings = {"num_key_value_heads": 2, "initializer_range": 0.3, "max_position_embeddings": 512, "pad_token_id": 0, **changes}
    num_tokens = len(SPECIAL) + len(MARKERS) + len(LETTERS)
    return AutoConfig.for_model(family, vocab_size=num_tokens, bos_token_id=1, eos_token_id=0, **sizes, **settings)


def save(folder: Path, model: Any, tokenizer: Any, extra: dict[str, torch.Tensor] | None = None, **config: Any) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if extra:
        weights = {**{f"model.{name}": tensor for name, tensor in model.state_dict().items()}, **extra}
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    if config:
        changed = AutoConfig.from_pretrained(folder)
        changed.update(config)
        changed.save_pretrained(folder)


def head(seed: int, rows: int, columns: int, name: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}.weight": torch.randn(rows, columns, generator=generator) * 0.3,
        f"{name}.bias": torch.randn(rows, generator=generator) * 0.3,
    }


def bare(steps: tuple[str, ...]) -> list[str]:
    return [step.strip() for step in steps]


@torch.inference_mode()
def hidden(folder: Path, ids: list[int]) -> torch.Tensor:
    return AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]


@torch.inference_mode()
def next_tokens(folder: Path, ids: list[int]) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0]


def build_causal(folder: Path, **tokenizer: bool) -> None:
    torch.manual_seed(0)
    save(folder, AutoModelForCausalLM.from_config(make_config("mistral")), make_tokenizer(**tokenizer))


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


def build_skywork(folder: Path) -> None:
    torch.manual_seed(1)
    save(folder, AutoModel.from_config(make_config()), make_tokenizer(bos=True), head(2, 1, 32, "v_head.summary"))


def skywork(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(tokenizer.bos_token + question + "\n", add_special_tokens=False)
    for step in bare(steps):
        ids += tokenizer.encode(step, add_special_tokens=False) + tokenizer.encode("\n", add_special_tokens=False)
    weights = head(2, 1, 32, "v_head.summary")
    raw = hidden(folder, ids)[-1] @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"][0]
    return float(torch.sigmoid(raw))


def build_qwen(folder: Path) -> None:
    torch.manual_seed(3)
    extra = {**head(4, 32, 32, "score.0"), **head(5, 2, 32, "score.2")}
    tokenizer = make_tokenizer(chat=True, bos=False)
    save(folder, AutoModel.from_config(make_config()), tokenizer, extra, architectures=["Qwen2ForProcessRewardModel"])


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


def build_trl(folder: Path) -> None:
    torch.manual_seed(6)
    save(folder, AutoModelForTokenClassification.from_config(make_config(num_labels=2)), make_tokenizer())


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


def build_alphamath(folder: Path) -> None:
    torch.manual_seed(7)
    save(folder, AutoModelForCausalLM.from_config(make_config("llama")), make_tokenizer())
    torch.save(head(8, 1, 32, "v_head.summary"), folder / "value_head.pth")


def alphamath(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"<question> {question} </question>\n" + "".join(f"{step.strip()}\n" for step in steps))
    weights = head(8, 1, 32, "v_head.summary")
    raw = hidden(folder, ids)[-1] @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"][0]
    return (float(torch.tanh(raw)) + 1) / 2


def build_rstar(folder: Path) -> None:
    torch.manual_seed(9)
    save(folder, AutoModel.from_config(make_config("llama")), make_tokenizer(), head(10, 1, 32, "v_head.summary"))


def rstar(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"Problem: {question}\nSolution:\n" + "".join(f"{step.strip()}\n" for step in steps))
    weights = head(10, 1, 32, "v_head.summary")
    raw = hidden(folder, ids)[-1] @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"][0]
    return (float(torch.tanh(raw / 5)) + 1) / 2


def build_thudm(folder: Path) -> None:
    torch.manual_seed(11)
    config = make_config("mistral")
    config.architectures = ["MistralForCausalLM"]
    config.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config)
    weights = {f"base_model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({**weights, **head(12, 1, config.vocab_size, "LN")}, folder / "value_model.pt")


def thudm(folder: Path, question: str, steps: tuple[str, ...]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(f"Problem: {question}\nSolution:\n" + "".join(f"{step.strip()}\n" for step in steps))
    weights = torch.load(folder / "value_model.pt", weights_only=True)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
    model.load_state_dict({name.removeprefix("base_model."): each for name, each in weights.items() if name.startswith("base")})
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return min(1.0, max(0.0, float(logits @ weights["LN.weight"][0] + weights["LN.bias"][0])))


def build_orm(folder: Path) -> None:
    torch.manual_seed(13)
    save(folder, AutoModelForSequenceClassification.from_config(make_config(num_labels=1)), make_tokenizer(chat=True, bos=False))


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
GOLDEN: dict[str, tuple[Build, Reference, str]] = {
    "math-shepherd": (build_causal, math_shepherd, "?format=math-shepherd"),
    "math-psa": (lambda folder: build_causal(folder, bos=False), math_psa, "?format=math-psa"),
    "rlhflow": (lambda folder: build_causal(folder, chat=True, bos=False), rlhflow, "?format=rlhflow"),
    "skywork": (build_skywork, skywork, ""),
    "qwen-math-prm": (build_qwen, qwen, ""),
    "trl": (build_trl, trl, "?separator=%0A%0A"),
    "alphamath": (build_alphamath, alphamath, ""),
    "rstar": (build_rstar, rstar, "?format=rstar"),
    "thudm": (build_thudm, thudm, ""),
    "orm": (build_orm, orm, ""),
}


def load(folder: Path, options: str, **loading: Any) -> Any:
    return load_prm(parse_reference(f"{folder}{options}"), folder, **loading)


@pytest.mark.parametrize("name", GOLDEN)
def test_scores_are_those_of_the_formats_description(tmp_path: Path, name: str) -> None:
    build, reference, options = GOLDEN[name]
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
        assert [v for answer in answers for values in answer.values for v in values] == pytest.approx(expected, abs=1e-5)


def test_every_format_has_a_golden_test_or_is_our_own() -> None:
    assert set(FORMATS) == {*GOLDEN, "value"}


@pytest.mark.parametrize("name", ["qwen-math-prm", "skywork", "trl", "alphamath", "thudm", "orm"])
def test_a_folder_shows_its_format(tmp_path: Path, name: str) -> None:
    GOLDEN[name][0](tmp_path)
    assert detect_format(tmp_path).name == name


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
