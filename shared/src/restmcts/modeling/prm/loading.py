"""Process reward models from a folder, an artifact or the hub: the weights of each format, and its
head.

No code of a model is run unless asked for, and pickled weights are read as tensors only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.runs.training_settings import Dtype
from restmcts.errors import ModelError
from restmcts.modeling import checkpoints
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.devices import chosen_device, chosen_dtype
from restmcts.modeling.masters import stored_dtype
from restmcts.modeling.prm import layouts
from restmcts.modeling.prm.formats import (
    FORMATS,
    VALUE,
    ModelReference,
    PrmFormat,
    detect_format,
    state_dict_file,
    weight_files,
)
from restmcts.modeling.prompt_rendering import PromptFormat, choose_template
from restmcts.modeling.value.value_reading import Path as StepPath
from restmcts.modeling.value.value_reading import Reading, StepReader, ValueReader

_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.pt", "*.pth"]
# Raw scores of hidden states, [N, hidden] -> [N], in the format's own range.
Head = Callable[[torch.Tensor], torch.Tensor]


class FormatReader(StepReader):
    """The reading of a format: its layout and its head, mapped to [0, 1]."""

    def __init__(
        self, loaded: LoadedModel, trunk: Any, head: Head, layout: layouts.Layout, prm_format: PrmFormat
    ) -> None:
        super().__init__(loaded, trunk)
        self._head, self._layout, self._format = head, layout, prm_format

    def readings_of_paths(self, paths: Sequence[StepPath]) -> Iterator[list[Reading]]:
        """Yield what the layout says."""
        return self._layout.readings_of_paths(paths)

    def values_of_states(self, states: torch.Tensor) -> torch.Tensor:
        """Return the head's scores, mapped."""
        low, high = self._format.low, self._format.high
        return (self._head(states).float() - low) / (high - low)


@dataclass(frozen=True)
class LoadedPrm:
    """A process reward model ready for use."""

    format: PrmFormat
    loaded: LoadedModel
    reader: StepReader


@dataclass(frozen=True)
class _Loading:
    folder: Path
    device: torch.device
    dtype: torch.dtype | str
    trust_remote_code: bool
    separator: str
    tokenizer: Any

    def model(self, auto: Any, **options: Any) -> Any:
        """Return a model of the library's class, sure to have all of its weights."""
        model, report = auto.from_pretrained(
            self.folder,
            trust_remote_code=self.trust_remote_code,
            use_safetensors=True,
            dtype=self.dtype,
            output_loading_info=True,
            **options,
        )
        if report["missing_keys"]:
            raise ModelError(
                f"{self.folder}: weights are missing ({sorted(report['missing_keys'])[0]}); fetch the model again"
            )
        return model.to(self.device)

    def linear(self, name: str, weights: dict[str, torch.Tensor]) -> nn.Linear:
        """Return the layer of that name, in float32."""
        try:
            weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        except KeyError as error:
            raise ModelError(
                f"{self.folder}: the head's weights are missing ({error}); is the format the model's own?"
            ) from error
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        return layer.to(self.device, torch.float32).eval()


def load_prm(
    reference: ModelReference,
    path: str | Path,
    *,
    template: str = "auto",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Dtype = "auto",
    trust_remote_code: bool = False,
) -> LoadedPrm:
    """Return a process reward model; its format is looked for where the reference does not say it.

    Args:
        reference: as a person gave it.
        path: of the reference's place: a folder, or an id of the hub.
        template: of a value model's prompts; "auto": as it was saved.
        device: of the weights.
        dtype: of the weights; "auto": the model's own where the device computes in it quickly,
            else float32.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: if it is not there, is broken, or is of no known format.
        InputError: if there is no such template.
    """
    folder = _folder(path)
    prm_format = FORMATS[reference.format] if reference.format else detect_format(folder, reference.place)
    if prm_format is VALUE:
        loaded = checkpoints.load_value_model(
            folder, template=template, device=device, dtype=dtype, trust_remote_code=trust_remote_code
        )
        return LoadedPrm(VALUE, loaded, ValueReader(loaded))
    device = chosen_device(device)
    with checkpoints.broken_is_model_error(path), checkpoints.quiet_library():
        stored = stored_dtype(AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code))
        loading = _Loading(
            folder,
            device,
            dtype if isinstance(dtype, torch.dtype) else chosen_dtype(dtype, stored, device),
            trust_remote_code,
            reference.separator or STEP_SEPARATOR,
            AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code),
        )
        model, trunk, head, layout = _LOADERS[prm_format.name](loading)
    prompts = PromptFormat(choose_template("auto", loading.tokenizer), loading.tokenizer)
    loaded = checkpoints.ready(LoadedModel("value", model, loading.tokenizer, prompts))
    return LoadedPrm(prm_format, loaded, FormatReader(loaded, trunk, head, layout, prm_format))


_Parts = tuple[Any, Any, Head, layouts.Layout]


def _token_pair(loading: _Loading, good: int, bad: int, layout: layouts.Layout) -> _Parts:
    """P(good) of two tokens as the next one."""
    model = loading.model(AutoModelForCausalLM)
    output = model.get_output_embeddings()
    pair = torch.tensor([good, bad], device=loading.device)
    return model, model.base_model, lambda states: output(states)[:, pair].float().softmax(dim=-1)[:, 0], layout


def _math_shepherd(loading: _Loading) -> _Parts:
    good, bad = _tokens(loading, "+ -", 2)
    _tokens(loading, "ки", 1)
    return _token_pair(loading, good, bad, layouts.math_shepherd(loading.tokenizer))


def _math_psa(loading: _Loading) -> _Parts:
    good, bad = _tokens(loading, " + -", 2)
    _tokens(loading, " \n\n\n\n\n", 1)
    return _token_pair(loading, good, bad, layouts.math_psa(loading.tokenizer))


def _rlhflow(loading: _Loading) -> _Parts:
    (good,), (bad,) = _tokens(loading, "+", 1), _tokens(loading, "-", 1)
    return _token_pair(loading, good, bad, layouts.rlhflow(loading.tokenizer))


def _trl(loading: _Loading) -> _Parts:
    model = loading.model(AutoModelForTokenClassification)
    if model.config.num_labels != 2:
        raise ModelError(f"{loading.folder}: {model.config.num_labels} classes where a PRM of TRL has 2")
    head = getattr(model, "score", None) or model.classifier
    return model, model.base_model, _second_class(head), layouts.trl(loading.tokenizer, loading.separator)


def _qwen_math_prm(loading: _Loading) -> _Parts:
    weights = _weights(loading.folder, "score.")
    head = nn.Sequential(loading.linear("score.0", weights), nn.ReLU(), loading.linear("score.2", weights))
    _tokens(loading, "<extra_0>", 1)
    trunk = loading.model(AutoModel)
    return trunk, trunk, _second_class(head), layouts.qwen_math_prm(loading.tokenizer)


def _second_class(head: Any) -> Head:
    return lambda states: head(states.to(next(head.parameters()).dtype)).float().softmax(dim=-1)[:, 1]


def _value_head(loading: _Loading, squash: Head, layout: layouts.Layout) -> _Parts:
    head = loading.linear("v_head.summary", _weights(loading.folder, "v_head."))
    trunk = loading.model(AutoModel)
    return trunk, trunk, lambda states: squash(head(states.float()).squeeze(-1)), layout


def _skywork(loading: _Loading) -> _Parts:
    return _value_head(loading, torch.sigmoid, layouts.skywork(loading.tokenizer))


def _alphamath(loading: _Loading) -> _Parts:
    layout = layouts.continued(loading.tokenizer, lambda question: f"<question> {question} </question>\n")
    return _value_head(loading, torch.tanh, layout)


def _rstar(loading: _Loading) -> _Parts:
    return _value_head(loading, lambda raw: torch.tanh(raw / 5), layouts.prompted(loading.tokenizer))


def _thudm(loading: _Loading) -> _Parts:
    file = state_dict_file(loading.folder)
    if file is None:
        raise ModelError(
            f"{loading.folder}: there is no single file of weights (.pt); put the state_dict beside config.json"
        )
    weights = torch.load(file, map_location="cpu", weights_only=True)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(loading.folder))
    inner = {name.removeprefix("base_model."): each for name, each in weights.items() if name.startswith("base_model.")}
    missing, _ = model.load_state_dict(inner, strict=False)
    tied = set(model.all_tied_weights_keys)
    if set(missing) - tied:
        raise ModelError(f"{file}: weights are missing ({sorted(set(missing) - tied)[0]}); is it a whole state_dict?")
    model.tie_weights()
    model = model.to(loading.device, loading.dtype if isinstance(loading.dtype, torch.dtype) else None)
    head, output = loading.linear("LN", weights), model.get_output_embeddings()
    layout = layouts.continued(loading.tokenizer, lambda question: f"Problem: {question}\nSolution:\n")
    return model, model.base_model, lambda states: head(output(states).float()).squeeze(-1), layout


def _orm(loading: _Loading) -> _Parts:
    model = loading.model(AutoModelForSequenceClassification)
    if model.config.num_labels != 1 or not isinstance(getattr(model, "score", None), nn.Linear):
        raise ModelError(
            f"{loading.folder}: {model.config.num_labels} outputs where an outcome reward model has 1, of one layer"
        )
    head = model.score
    return (
        model,
        model.base_model,
        lambda states: torch.sigmoid(head(states.to(head.weight.dtype)).float().squeeze(-1)),
        layouts.prompted(loading.tokenizer),
    )


_LOADERS: dict[str, Callable[[_Loading], _Parts]] = {
    "trl": _trl,
    "math-shepherd": _math_shepherd,
    "rlhflow": _rlhflow,
    "skywork": _skywork,
    "qwen-math-prm": _qwen_math_prm,
    "math-psa": _math_psa,
    "alphamath": _alphamath,
    "rstar": _rstar,
    "thudm": _thudm,
    "orm": _orm,
}


def _tokens(loading: _Loading, text: str, number: int) -> list[int]:
    """Return the ids of a format's tokens, sure to be there."""
    ids = list(loading.tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) != number or loading.tokenizer.unk_token_id in ids:
        raise ModelError(
            f"{loading.folder}: the tokenizer writes {text!r} in {len(ids)} tokens, not {number}; use another format"
        )
    return ids


def _weights(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return the folder's weights whose names begin so, from safetensors or from AlphaMath's
    file beside them.
    """
    found: dict[str, torch.Tensor] = {}
    for name, file in weight_files(folder).items():
        if name.startswith(prefix):
            with safe_open(file, framework="pt") as opened:
                found[name] = opened.get_tensor(name)
    beside = folder / "value_head.pth"
    if not found and beside.is_file():
        found = torch.load(beside, map_location="cpu", weights_only=True)
    return found


def _folder(path: str | Path) -> Path:
    located = Path(checkpoints.locate(path))
    if located.is_dir():
        return located
    with checkpoints.broken_is_model_error(path):
        return Path(snapshot_download(str(path), allow_patterns=_FILES))
