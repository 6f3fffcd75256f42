"""Process reward models from a folder, an artifact or the hub, each read as its format says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.runs.training_settings import Dtype
from restmcts.modeling import checkpoints
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.devices import chosen_device, chosen_dtype
from restmcts.modeling.masters import stored_dtype
from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import PRM_FORMATS, PrmFormat, Scoring, detect_format
from restmcts.modeling.prm.known.own import VALUE
from restmcts.modeling.prm.layouts import Layout
from restmcts.modeling.prm.reference import ModelReference
from restmcts.modeling.prm.weights import PrmWeights
from restmcts.modeling.prompt_rendering import PromptFormat, choose_template
from restmcts.modeling.value.calibration_files import read_calibration
from restmcts.modeling.value.readings import Path as StepPath
from restmcts.modeling.value.readings import Reading
from restmcts.modeling.value.value_reading import StepReader, ValueReader

_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.pt", "*.pth"]


class FormatReader(StepReader):
    """The reading of a format: its layout and its head, mapped to [0, 1]."""

    def __init__(self, loaded: LoadedModel, scoring: Scoring, layout: Layout, prm_format: PrmFormat) -> None:
        super().__init__(loaded, scoring.trunk)
        self._head: Callable[[torch.Tensor], torch.Tensor] = scoring.head
        self._layout, self._format = layout, prm_format

    def readings_of_paths(self, paths: Sequence[StepPath]) -> Iterator[list[Reading]]:
        """Yield what the layout says."""
        return self._layout.readings_of_paths(paths)

    def values_of_states(self, states: torch.Tensor) -> torch.Tensor:
        """Return the head's scores, mapped."""
        low, high = self._format.low, self._format.high
        return (self._head(states).float() - low) / (high - low)


@dataclass(frozen=True)
class LoadedPrm:
    """A process reward model ready for use; `folder` has its files, `separator` is what its texts
    have between steps where the format has no marker.
    """

    format: PrmFormat
    loaded: LoadedModel
    reader: StepReader
    folder: Path
    separator: str = STEP_SEPARATOR


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
    prm_format = PRM_FORMATS.get(reference.format) if reference.format else detect_format(folder, reference.place)
    if prm_format is VALUE:
        loaded = checkpoints.load_value_model(
            folder, template=template, device=device, dtype=dtype, trust_remote_code=trust_remote_code
        )
        return LoadedPrm(VALUE, loaded, ValueReader(loaded), folder)
    with checkpoints.broken_is_model_error(path), checkpoints.quiet_library():
        weights = _weights(ModelFolder(folder, reference.place), chosen_device(device), dtype, trust_remote_code)
        separator = reference.separator or STEP_SEPARATOR
        layout = prm_format.layout(weights.tokenizer, separator)
        scoring = prm_format.load(weights)
    prompts = PromptFormat(choose_template("auto", weights.tokenizer), weights.tokenizer)
    loaded = checkpoints.ready(
        LoadedModel("value", scoring.model, weights.tokenizer, prompts, calibration=read_calibration(folder))
    )
    return LoadedPrm(prm_format, loaded, FormatReader(loaded, scoring, layout, prm_format), folder, separator)


def _weights(
    files: ModelFolder, device: torch.device, dtype: torch.dtype | Dtype, trust_remote_code: bool
) -> PrmWeights:
    config: Any = AutoConfig.from_pretrained(files.path, trust_remote_code=trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(files.path, trust_remote_code=trust_remote_code)
    chosen = dtype if isinstance(dtype, torch.dtype) else chosen_dtype(dtype, stored_dtype(config), device)
    return PrmWeights(files, tokenizer, device, chosen, trust_remote_code)


def _folder(path: str | Path) -> Path:
    located = Path(checkpoints.locate(path))
    if located.is_dir():
        return located
    with checkpoints.broken_is_model_error(path):
        return Path(snapshot_download(str(path), allow_patterns=_FILES))
