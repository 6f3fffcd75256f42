"""The shape of a model, from its configuration alone: no weight is loaded."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from restmcts.domain.forecasts.memory import ModelShape
from restmcts.domain.runs.training_settings import Dtype
from restmcts.modeling.checkpoints import broken_is_model_error, locate, quiet_library
from restmcts.modeling.devices import chosen_device, chosen_dtype
from restmcts.modeling.masters import stored_dtype
from restmcts.modeling.policy.puzzle_policies import fresh_policy


def model_shape(
    path_or_id: str | Path, *, is_value: bool = False, dtype: Dtype = "auto", device: str = "cpu"
) -> ModelShape:
    """Return the shape of a policy, or of the value model on its trunk.

    Raises:
        ModelError: if it is not there, or its configuration is broken.
        InputError: if there is no such device here.
    """
    fresh = fresh_policy(str(path_or_id))
    with broken_is_model_error(path_or_id), quiet_library():
        config = fresh.config if fresh is not None else AutoConfig.from_pretrained(locate(path_or_id))
        stored = stored_dtype(config)
        kind: Any = AutoModelForSequenceClassification if is_value else AutoModelForCausalLM
        if is_value:
            config.num_labels = 1
        with torch.device("meta"):
            model = kind.from_config(config)
    text = config.get_text_config()
    width, heads = text.hidden_size, text.num_attention_heads
    head_width = getattr(text, "head_dim", None) or width // heads
    key_values = 2 * head_width * (getattr(text, "num_key_value_heads", None) or heads)
    context = getattr(text, "max_position_embeddings", None)
    return ModelShape(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        adapter_width=_adapter_width(model),
        num_layers=text.num_hidden_layers,
        width=width,
        inner_width=getattr(text, "intermediate_size", None) or 4 * width,
        key_value_width=key_values,
        vocabulary=1 if is_value else text.vocab_size,
        num_heads=heads,
        keeps_scores=chosen_device(device).type == "cpu",
        weight_bytes=chosen_dtype(dtype, stored, chosen_device(device)).itemsize,
        context=context if isinstance(context, int) else None,
    )


def _adapter_width(model: Any) -> int:
    head = model.get_output_embeddings()
    layers = [one for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not head]
    return sum(one.in_features + one.out_features for one in layers)


def free_memory(device: str) -> int | None:
    """Return the bytes that are free on a device; None where the system does not say."""
    chosen = chosen_device(device)
    if chosen.type == "cuda":
        return int(torch.cuda.mem_get_info(chosen)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return 1024 * int(found.split()[1]) if found is not None else None
