"""How texts are written for the models that inference servers score: a tokenizer, no weights."""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.scoring import Calibration
from restmcts.modeling import checkpoints
from restmcts.modeling.prm.format import PRM_FORMATS
from restmcts.modeling.prm.layouts import Layout
from restmcts.modeling.prm.reference import ModelReference
from restmcts.modeling.value.calibration_files import read_calibration
from restmcts.modeling.value.value_reading import ValueLayout


def served_layout(reference: ModelReference, tokenizer: str, *, trust_remote_code: bool = False) -> Layout:
    """Return how texts are written for a served model, and where its scores are read.

    Args:
        reference: to a scoring server.
        tokenizer: folder or hub id.
        trust_remote_code: run code that comes with the tokenizer.

    Raises:
        ModelError: if the tokenizer is not there, or cannot write the format.
    """
    located = tokenizer if Path(tokenizer).is_dir() else checkpoints.locate(tokenizer)
    with checkpoints.broken_is_model_error(tokenizer), checkpoints.quiet_library():
        loaded = AutoTokenizer.from_pretrained(located, trust_remote_code=trust_remote_code)
    return PRM_FORMATS.get(str(reference.format)).layout(loaded, reference.separator or STEP_SEPARATOR)


_HEAD = "score.weight"


class ServedValue(NamedTuple):
    """What is known of a value model without its weights.

    Attributes:
        takes_sigmoid: whether its head gives log-odds; else it gives values.
    """

    layout: ValueLayout
    takes_sigmoid: bool
    calibration: Calibration | None


def served_value(
    path_or_id: str | Path, *, template: str = "auto", trust_remote_code: bool = False
) -> ServedValue | None:
    """Return how a value model trained here is read on a server that gives an output for every
    token; None where it is of another format, or cannot be served so: a puzzle's own, an encoder.

    Raises:
        ModelError: if it is broken.
        InputError: if there is no such template.
    """
    info = checkpoints.read_info(str(path_or_id))
    if info is None or info.kind != "value":
        return None
    with checkpoints.broken_is_model_error(path_or_id), checkpoints.quiet_library():
        config = AutoConfig.from_pretrained(path_or_id, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(path_or_id, trust_remote_code=trust_remote_code)
    if config.is_encoder_decoder or _HEAD not in _weight_names(Path(path_or_id)):
        return None
    prompts = checkpoints.prompt_format(info, template, tokenizer)
    return ServedValue(ValueLayout(tokenizer, prompts), info.value_scale == "logit", read_calibration(path_or_id))


def _weight_names(folder: Path) -> set[str]:
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    if not whole.is_file():
        return set()
    with safe_open(whole, framework="numpy") as weights:
        return set(weights.keys())
