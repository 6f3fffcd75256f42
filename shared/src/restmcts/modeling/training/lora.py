"""What of a model is trained: all of it, its head, or low-rank adapters around it, merged into its
weights when done (PEFT; arXiv:2106.09685).
"""

from pathlib import Path
from typing import Any

from restmcts.domain.runs.training_settings import HEAD_OF_VALUES, TrainingSettings
from restmcts.errors import TrainingError
from restmcts.modeling.checkpoints import LoadedModel


def trained_model(loaded: LoadedModel, settings: TrainingSettings) -> Any:
    """Return what is trained: the model, all of it or a value model's head alone, or adapters
    on all its linear layers around it; a value head is always trained.

    Raises:
        TrainingError: if a head alone is to be trained, and the model has none outside its trunk.
    """
    if settings.trainable == "head":
        _freeze_trunk(loaded)
    rank = settings.adapters_of(loaded.model.num_parameters())
    if rank is None:
        return loaded.model
    from peft import LoraConfig, get_peft_model

    is_value = loaded.kind == "value"
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type="SEQ_CLS" if is_value else "CAUSAL_LM",
    )
    return get_peft_model(loaded.model, config)


def _freeze_trunk(loaded: LoadedModel) -> None:
    if loaded.kind != "value":
        raise TrainingError(HEAD_OF_VALUES)
    loaded.model.base_model.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in loaded.model.parameters()):
        raise TrainingError(
            f"a {type(loaded.model).__name__} has no head outside its trunk: leave out trainable = head"
        )


def is_of_adapters(saved: Path) -> bool:
    """Return whether a saved state is of adapters."""
    return (saved / "adapter_config.json").is_file()


def merge_adapters(loaded: LoadedModel, model: Any) -> None:
    """Make the loaded model a plain one again, with what was learnt in its own weights."""
    if model is not loaded.model:
        model.merge_and_unload()
