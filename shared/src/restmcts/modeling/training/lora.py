"""Low-rank adapters around a model while it is trained, merged into its weights when done
(PEFT; arXiv:2106.09685).
"""

from typing import Any

from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.modeling.checkpoints import LoadedModel


def trained_model(loaded: LoadedModel, settings: TrainingSettings) -> Any:
    """Return what is trained: the model itself, or adapters on all its linear layers around it;
    a value head is always trained.
    """
    if settings.lora_rank is None:
        return loaded.model
    from peft import LoraConfig, get_peft_model

    is_value = loaded.kind == "value"
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules="all-linear",
        task_type="SEQ_CLS" if is_value else "CAUSAL_LM",
    )
    return get_peft_model(loaded.model, config)


def merge_adapters(loaded: LoadedModel, model: Any) -> None:
    """Make the loaded model a plain one again, with what was learnt in its own weights."""
    if model is not loaded.model:
        model.merge_and_unload()
