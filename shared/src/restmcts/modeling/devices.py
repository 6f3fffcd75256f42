"""Where a model runs and in which numbers: chosen by name, or from what the machine can do.

Knows torch and no model.
"""

from collections.abc import Mapping
from typing import Any, get_args

import torch

from restmcts.domain.runs.training_settings import Dtype
from restmcts.errors import InputError

HALVES = (torch.bfloat16, torch.float16)


def chosen_device(name: str | torch.device) -> torch.device:
    """Return a device by its name; "auto" is the first GPU, or the CPU where there is none.

    Raises:
        InputError: if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"no device is called {name!r}; choose auto, cpu, cuda, cuda:1, …") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name}: torch sees {torch.cuda.device_count()} GPUs of CUDA here; choose auto or cpu, or install "
            "the CUDA build of torch and the driver"
        )
    return device


def chosen_dtype(name: str, stored: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the type of a model's weights by its name; "auto" is the type that they are stored
    in, where the device computes in it quickly, else float32.

    Raises:
        InputError: if there is no such type.
    """
    if name not in get_args(Dtype):
        raise InputError(f"dtype is {name!r}; choose one of {', '.join(get_args(Dtype))}")
    if name == "auto":
        return stored if stored in HALVES and _is_quick(stored, device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _is_quick(dtype: torch.dtype, device: torch.device) -> bool:
    if device.type == "cuda":
        return dtype != torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        can: Mapping[str, Any] = torch.cpu.get_capabilities()
        return dtype == torch.bfloat16 and bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return dtype != torch.bfloat16
