"""The weights of one model folder, as the formats ask for them.

No code of a model is run unless asked for, and pickled weights are read as tensors only.
"""

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from restmcts.errors import ModelError
from restmcts.modeling.prm.folders import ModelFolder

_HEAD_BESIDE = "value_head.pth"


@dataclass(frozen=True)
class PrmWeights:
    """A model folder to load from.

    Attributes:
        files: the folder.
        tokenizer: the model's.
        device: of the weights.
        dtype: of the weights; heads are in float32.
        trust_remote_code: run code that comes with the model.
    """

    files: ModelFolder
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype | str
    trust_remote_code: bool = False

    def causal_model(self) -> Any:
        """Return a language model. All models are sure to have all of their weights.

        Raises:
            ModelError: if the folder lacks some, here and below.
        """
        return self._model(AutoModelForCausalLM)

    def trunk(self) -> Any:
        """Return a language model without its output layer."""
        return self._model(AutoModel)

    def token_classifier(self) -> Any:
        """Return a classifier of tokens."""
        return self._model(AutoModelForTokenClassification)

    def sequence_classifier(self) -> Any:
        """Return a classifier of texts."""
        return self._model(AutoModelForSequenceClassification)

    def causal_model_of(self, weights: dict[str, torch.Tensor]) -> Any:
        """Return a language model of the folder's configuration with those weights."""
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.files.path))
        missing, _ = model.load_state_dict(weights, strict=False)
        absent = sorted(set(missing) - set(model.all_tied_weights_keys))
        if absent:
            raise ModelError(f"{self.files.path}: weights are missing ({absent[0]}); is it a whole state_dict?")
        model.tie_weights()
        return model.to(self.device, self.dtype if isinstance(self.dtype, torch.dtype) else None)

    def _model(self, auto: Any) -> Any:
        model, report = auto.from_pretrained(
            self.files.path,
            trust_remote_code=self.trust_remote_code,
            use_safetensors=True,
            dtype=self.dtype,
            output_loading_info=True,
        )
        if report["missing_keys"]:
            raise ModelError(
                f"{self.files.path}: weights are missing ({sorted(report['missing_keys'])[0]}); fetch the model again"
            )
        return model.to(self.device)

    def linear(self, name: str, weights: dict[str, torch.Tensor] | None = None) -> nn.Linear:
        """Return the layer of that name, in float32; from the folder where no weights are given."""
        weights = self.named(name) if weights is None else weights
        try:
            weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        except KeyError as error:
            raise ModelError(
                f"{self.files.path}: the head's weights are missing ({error}); is the format the model's own?"
            ) from error
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        return layer.to(self.device, torch.float32).eval()

    def named(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the weights whose names begin so, from safetensors or from AlphaMath's file
        beside them.
        """
        found: dict[str, torch.Tensor] = {}
        for name, file in self.files.weights.items():
            if name.startswith(prefix):
                with safe_open(file, framework="pt") as opened:
                    found[name] = opened.get_tensor(name)
        beside = self.files.path / _HEAD_BESIDE
        if not found and beside.is_file():
            found = torch.load(beside, map_location="cpu", weights_only=True)
        return found

    def pickled(self) -> dict[str, torch.Tensor]:
        """Return what the folder's one file of pickled weights holds."""
        file = self.files.state_dict
        if file is None:
            raise ModelError(
                f"{self.files.path}: there is no single file of weights (.pt); put the state_dict beside config.json"
            )
        weights: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return weights

    def tokens(self, text: str, number: int) -> list[int]:
        """Return the ids of a format's tokens, sure to be there and to be that many."""
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) != number or self.tokenizer.unk_token_id in ids:
            raise ModelError(
                f"{self.files.path}: the tokenizer writes {text!r} in {len(ids)} tokens, not {number}; "
                "use another format"
            )
        return ids
