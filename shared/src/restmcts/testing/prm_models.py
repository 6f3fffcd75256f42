"""Tiny models of each PRM format, built on the spot: random weights, real layout of files."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
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


def make_tokenizer(chat: bool = False, bos: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single characters and the formats' markers."""
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


def make_config(family: str = "llama", **changes: Any) -> Any:
    """Return a configuration of a tiny model, its weights large enough for scores to differ.

    No family whose tokenizer the library builds anew from its own pattern: newlines are lost.
    """
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings = {
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        **changes,
    }
    num_tokens = len(SPECIAL) + len(MARKERS) + len(LETTERS)
    return AutoConfig.for_model(family, vocab_size=num_tokens, bos_token_id=1, eos_token_id=0, **sizes, **settings)


def save(folder: Path, model: Any, tokenizer: Any, extra: dict[str, torch.Tensor] | None = None, **config: Any) -> None:
    """Save a model; `extra` weights go beside those of a bare trunk."""
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
    """Return the weights of a linear layer that a seed decides."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}.weight": torch.randn(rows, columns, generator=generator) * 0.3,
        f"{name}.bias": torch.randn(rows, generator=generator) * 0.3,
    }


def build_causal(folder: Path, **tokenizer: bool) -> None:
    """Save a causal language model, as the formats that read two tokens' probabilities have it."""
    torch.manual_seed(0)
    save(folder, AutoModelForCausalLM.from_config(make_config("mistral")), make_tokenizer(**tokenizer))


def build_judge(folder: Path) -> None:
    """Save a language model whose "y" and "n" are about as probable as one another, and often
    among the most probable tokens.
    """
    build_causal(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    yes, no = (tokenizer.convert_tokens_to_ids(token) for token in "yn")
    with torch.no_grad():
        model.lm_head.weight[no] = model.lm_head.weight[yes] + model.lm_head.weight[no] / 3
    model.save_pretrained(folder)


def build_skywork(folder: Path) -> None:
    """Save a trunk with a value head inside."""
    torch.manual_seed(1)
    save(folder, AutoModel.from_config(make_config()), make_tokenizer(bos=True), head(2, 1, 32, "v_head.summary"))


def build_qwen(folder: Path) -> None:
    """Save a trunk with the two-layer head of Qwen2.5-Math-PRM."""
    torch.manual_seed(3)
    extra = {**head(4, 32, 32, "score.0"), **head(5, 2, 32, "score.2")}
    tokenizer = make_tokenizer(chat=True, bos=False)
    save(folder, AutoModel.from_config(make_config()), tokenizer, extra, architectures=["Qwen2ForProcessRewardModel"])


def build_trl(folder: Path) -> None:
    """Save a token classifier."""
    torch.manual_seed(6)
    save(folder, AutoModelForTokenClassification.from_config(make_config(num_labels=2)), make_tokenizer())


def build_alphamath(folder: Path) -> None:
    """Save a causal language model with a value head beside it."""
    torch.manual_seed(7)
    save(folder, AutoModelForCausalLM.from_config(make_config("llama")), make_tokenizer())
    torch.save(head(8, 1, 32, "v_head.summary"), folder / "value_head.pth")


def build_rstar(folder: Path) -> None:
    """Save a trunk with a value head."""
    torch.manual_seed(9)
    save(folder, AutoModel.from_config(make_config("llama")), make_tokenizer(), head(10, 1, 32, "v_head.summary"))


def build_thudm(folder: Path) -> None:
    """Save a whole state_dict with a layer on the logits."""
    torch.manual_seed(11)
    config = make_config("mistral")
    config.architectures = ["MistralForCausalLM"]
    config.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config)
    weights = {f"base_model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({**weights, **head(12, 1, config.vocab_size, "LN")}, folder / "value_model.pt")


def build_orm(folder: Path) -> None:
    """Save a sequence classifier with one output."""
    torch.manual_seed(13)
    save(
        folder,
        AutoModelForSequenceClassification.from_config(make_config(num_labels=1)),
        make_tokenizer(chat=True, bos=False),
    )


# How each format's model is built, and what must be said when it is loaded.
BUILDERS = {
    "math-shepherd": (build_causal, "?format=math-shepherd"),
    "math-psa": (lambda folder: build_causal(folder, bos=False), "?format=math-psa"),
    "rlhflow": (lambda folder: build_causal(folder, chat=True, bos=False), "?format=rlhflow"),
    "skywork": (build_skywork, ""),
    "qwen-math-prm": (build_qwen, ""),
    "trl": (build_trl, "?separator=%0A%0A"),
    "alphamath": (build_alphamath, ""),
    "rstar": (build_rstar, "?format=rstar"),
    "thudm": (build_thudm, ""),
    "orm": (build_orm, ""),
}
