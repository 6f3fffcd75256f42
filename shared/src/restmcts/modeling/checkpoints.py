"""Checkpoints: a folder of the library's own files plus `restmcts.json`, which says what it is and
how its prompts are written.

Safetensors only, no code from a checkpoint unless asked for. Knows neither searches nor training.
"""

import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import torch
import transformers
from huggingface_hub import HfApi, try_to_load_from_cache
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.runs.training_settings import Dtype
from restmcts.domain.scoring import Calibration
from restmcts.errors import ModelError, StorageError
from restmcts.modeling.devices import chosen_device, chosen_dtype
from restmcts.modeling.masters import save_weights, stored_dtype, weights_folder
from restmcts.modeling.policy.puzzle_policies import fresh_policy
from restmcts.modeling.prompt_rendering import PromptFormat, Template, choose_template
from restmcts.modeling.value.calibration_files import read_calibration

log = logging.getLogger(__name__)
INFO_FILE = "restmcts.json"
HUB_TIMEOUT_SECONDS = 10.0
Kind = Literal["policy", "value"]
# What a value model's head gives: the value itself, or its log-odds.
ValueScale = Literal["identity", "logit"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_CLASSES: dict[Kind, Any] = {"policy": AutoModelForCausalLM, "value": AutoModelForSequenceClassification}


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What `restmcts.json` holds: the model's kind, its prompt template's name, its step
    separator (None: whatever the model is seen to write), and how its head is read.
    """

    kind: Kind
    template: str
    step_separator: str | None = STEP_SEPARATOR
    value_scale: ValueScale = "identity"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use: weights in evaluation mode, tokenizer, how its prompts are written,
    the type in which its weights are saved for use, and how its values are calibrated (None: not,
    as what is trained further and saved).
    """

    kind: Kind
    model: Any
    tokenizer: Any
    prompts: PromptFormat
    value_scale: ValueScale = "identity"
    inference_dtype: torch.dtype = torch.float32
    calibration: Calibration | None = None

    @property
    def device(self) -> torch.device:
        """Where its inputs belong."""
        device: torch.device = self.model.device
        return device

    @property
    def pad_token_id(self) -> int:
        """What fills the places beside a shorter text; always masked."""
        pad_token_id = self.model.config.get_text_config().pad_token_id
        return 0 if pad_token_id is None else int(pad_token_id)

    @property
    def max_context_tokens(self) -> int | None:
        """Its limit of positions; None where the architecture has none."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(limit) if isinstance(limit, int) and limit > 0 else None


def checkpoint_kind(path_or_id: str | Path, *, trust_remote_code: bool = False) -> Kind:
    """Return what a checkpoint says it is; one that was not saved here is a value model if it is a
    sequence classifier.

    Raises:
        ModelError: if it is not there or is broken.
    """
    name = locate(path_or_id)
    info = read_info(name)
    if info is not None:
        return info.kind
    with broken_is_model_error(path_or_id):
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    architectures = config.architectures or []
    return "value" if any(each.endswith("ForSequenceClassification") for each in architectures) else "policy"


def load_policy(
    path_or_id: str | Path,
    *,
    template: str = "auto",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Dtype = "auto",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Return a causal language model by its folder, its hub id, or as `number-paths:SEED` or
    `word-problems:SEED` (a puzzle's).

    Args:
        template: a prompt template's name; "auto" takes the one the checkpoint was saved with.
        device: of torch; "auto": a GPU if there is one.
        dtype: of the weights; "auto": the checkpoint's own where the device computes in it
            quickly, else float32. In float32 a checkpoint's masters are read, if it has some.

    Raises:
        ModelError: if it is not there, is broken, or is not a policy.
        InputError: if there is no such template.
    """
    loaded, missing = _load("policy", path_or_id, template, device, dtype, trust_remote_code)
    if missing:
        raise ModelError(f"{path_or_id}: weights are missing ({_some(missing)}); fetch or train the checkpoint again")
    return loaded


def load_value_model(
    path_or_id: str | Path,
    *,
    template: str = "auto",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Dtype = "auto",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Return a sequence classifier with one output by its folder or hub id; arguments as for
    `load_policy`.

    Raises:
        ModelError: if it is not there, is broken, has no trained head, or has another number of
            outputs.
        InputError: if there is no such template.
    """
    loaded, missing = _load("value", path_or_id, template, device, dtype, trust_remote_code)
    if missing:
        raise ModelError(
            f"{path_or_id}: no value model ({_some(missing)} missing); train one, beginning with the policy's own trunk"
        )
    if loaded.model.config.num_labels != 1:
        raise ModelError(
            f"{path_or_id}: {loaded.model.config.num_labels} outputs where a value model has 1; choose another model"
        )
    return replace(loaded, calibration=read_calibration(path_or_id))


def new_value_model(
    policy_path: str | Path,
    seed: int,
    *,
    template: str = "auto",
    device: str | torch.device = "cpu",
    value_scale: ValueScale = "identity",
) -> LoadedModel:
    """Return a value model on the trunk of a policy or an encoder, in float32, whose output layer
    is zero; `seed` decides any other fresh weight.

    Raises:
        ModelError: if the policy cannot be loaded, or its architecture has no sequence classifier.
    """
    with isolated_randomness(seed):
        loaded, missing = _load("value", policy_path, template, device, torch.float32, False, source="policy")
    for name, module in loaded.model.named_modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == 1 and f"{name}.weight" in missing:
            torch.nn.init.zeros_(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    return replace(loaded, value_scale=value_scale)


def new_policy(config: Any, tokenizer: Any, seed: int, *, template: str = "auto") -> LoadedModel:
    """Return a causal language model with fresh weights that `config` and `seed` decide."""
    with isolated_randomness(seed):
        model = AutoModelForCausalLM.from_config(config)
    prompts = PromptFormat(choose_template(template, tokenizer), tokenizer)
    return ready(LoadedModel("policy", model, tokenizer, prompts))


def save_checkpoint(loaded: LoadedModel, path: Path) -> None:
    """Write the model, its tokenizer and its `restmcts.json`; the folder is there complete or not
    at all.

    Raises:
        StorageError: if the folder is there already, or the disk does not take it.
    """
    if path.exists():
        raise StorageError(f"{path}: a checkpoint exists already; remove it or choose another folder")
    pending = path.with_name(f".{path.name}.{secrets.token_hex(4)}.pending")
    try:
        pending.mkdir(parents=True)
        with quiet_library():
            save_weights(loaded.model, loaded.inference_dtype, pending)
            loaded.tokenizer.save_pretrained(pending)
        prompts = loaded.prompts
        info = CheckpointInfo(loaded.kind, prompts.template.value, prompts.step_separator, loaded.value_scale)
        (pending / INFO_FILE).write_text(json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8")
        pending.rename(path)
    except (OSError, SafetensorError) as error:
        reason = f"{path}: the checkpoint cannot be written ({_first_line(error)}); make room for it"
        raise StorageError(reason) from error
    finally:
        shutil.rmtree(pending, ignore_errors=True)


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seed every global generator for the block, and put them back as they were."""
    import random

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        transformers.set_seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _load(
    kind: Kind,
    path_or_id: str | Path,
    template: str,
    device: str | torch.device,
    dtype: torch.dtype | Dtype,
    trust_remote_code: bool,
    source: Kind | None = None,
) -> tuple[LoadedModel, set[str]]:
    with _made_if_fresh(path_or_id) as made:
        return _load_made(kind, made, template, device, dtype, trust_remote_code, source)


@contextmanager
def _made_if_fresh(path_or_id: str | Path) -> Iterator[str | Path]:
    """Yield the model as it is named; one with fresh weights as a folder for as long as the
    block runs.
    """
    fresh = fresh_policy(str(path_or_id))
    if fresh is None:
        yield path_or_id
        return
    with TemporaryDirectory(prefix="restmcts-fresh-") as folder:
        save_checkpoint(new_policy(fresh.config, fresh.tokenizer, fresh.seed, template="raw"), Path(folder, "model"))
        yield Path(folder, "model")


def _load_made(
    kind: Kind,
    path_or_id: str | Path,
    template: str,
    device: str | torch.device,
    dtype: torch.dtype | Dtype,
    trust_remote_code: bool,
    source: Kind | None,
) -> tuple[LoadedModel, set[str]]:
    name = locate(path_or_id)
    info = read_info(name)
    wanted = source or kind
    if info is not None and info.kind != wanted:
        raise ModelError(f"{name}: a {info.kind} model where a {wanted} model is wanted; give the other checkpoint")
    device = chosen_device(device)
    options: dict[str, Any] = {"num_labels": 1} if source else {}
    with broken_is_model_error(path_or_id), quiet_library():
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
        stored = stored_dtype(AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code))
        chosen = dtype if isinstance(dtype, torch.dtype) else chosen_dtype(dtype, stored, device)
        model, report = _CLASSES[kind].from_pretrained(
            weights_folder(name, chosen),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            dtype=chosen,
            output_loading_info=True,
            **options,
        )
    log.info("%s: %s on %s", path_or_id, str(chosen).removeprefix("torch."), device)
    prompts = prompt_format(info, template, tokenizer)
    scale = info.value_scale if info else "identity"
    return ready(LoadedModel(kind, model.to(device), tokenizer, prompts, scale, stored)), set(report["missing_keys"])


def prompt_format(info: CheckpointInfo | None, template: str, tokenizer: Any) -> PromptFormat:
    """Return how a checkpoint's prompts are written; "auto" takes the template that it was saved
    with.
    """
    template = info.template if info and template == "auto" else template
    return PromptFormat(choose_template(template, tokenizer), tokenizer, info.step_separator if info else None)


def ready(loaded: LoadedModel) -> LoadedModel:
    """Return the model in evaluation mode, with a pad token if it lacks one."""
    # A missing pad token is the usual reason why a batch of more than one row fails; the end token
    # is always masked beside text.
    tokenizer, config = loaded.tokenizer, loaded.model.config.get_text_config()
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    loaded.model.eval()
    return loaded


def locate(path_or_id: str | Path) -> str:
    """Return the folder's path or the hub id, sure to answer soon."""
    name = str(path_or_id)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name}: the folder contains no model (no config.json); give a checkpoint's own folder")
        return str(folder)
    if isinstance(path_or_id, Path) or not _HUB_ID.fullmatch(name):
        raise ModelError(f"{name}: there is no such folder; give a checkpoint's folder or a hub id")
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return name
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except Exception as error:  # The client raises its transport's own classes, which change between releases.
        raise ModelError(
            f"{name}: no such folder, and the hub does not give it ({_first_line(error)}); check the name or the network"
        ) from error
    return name


def read_info(name: str) -> CheckpointInfo | None:
    file = Path(name) / INFO_FILE
    if not file.is_file():
        return None
    try:
        info = CheckpointInfo(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{file}: not readable ({_first_line(error)}); restore the file or remove it") from error
    is_known = info.kind in _CLASSES and info.template in list(Template) and info.value_scale in get_args(ValueScale)
    if not is_known or info.step_separator == "":
        raise ModelError(
            f"{file}: contains a kind, template, separator or scale that is not known; restore the file or remove it"
        )
    return info


@contextmanager
def broken_is_model_error(path_or_id: str | Path) -> Iterator[None]:
    """Turn what the library raises for a broken model into one line."""
    # What the library raises for a broken folder depends on which file is broken.
    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        raise ModelError(
            f"{path_or_id}: the model cannot be loaded ({_first_line(error)}); check or fetch it again"
        ) from error


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep the library's progress bars and loading tables off a terminal that shows our own."""
    verbosity, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".")[:200] if text else type(error).__name__


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return listed[0] if len(listed) == 1 else f"{listed[0]} and {len(listed) - 1} more"
