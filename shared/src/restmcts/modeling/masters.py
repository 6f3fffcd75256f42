"""Float32 masters beside the weights of a checkpoint that is used in half precision.

A step of training moves most weights by less than half precision can represent, so training goes on
from the masters; whoever only runs the model reads the folder as any other.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from restmcts.modeling.devices import HALVES

MASTER_FOLDER = "master"
"""Below a checkpoint's folder, where engines that read all weights of a folder do not look."""


def stored_dtype(config: Any) -> torch.dtype:
    """Return the type in which a configuration says that the weights are stored: a half precision
    or float32.
    """
    dtype = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    return found if found in HALVES else torch.float32


def weights_folder(checkpoint: str, dtype: torch.dtype) -> str:
    """Return where the weights of a checkpoint are read from for use in that type."""
    master = Path(checkpoint) / MASTER_FOLDER
    return str(master) if dtype == torch.float32 and (master / "config.json").is_file() else checkpoint


def save_weights(model: Any, dtype: torch.dtype, folder: Path) -> None:
    """Write a model into a folder in the type in which it is used, and if it is in float32 and
    used in less, its masters below.
    """
    if model.dtype == torch.float32 and dtype != torch.float32:
        model.save_pretrained(folder / MASTER_FOLDER)
        model = deepcopy(model).to(dtype)
    model.save_pretrained(folder)
