"""What TRL's trainers compute, on our rows and in our loop: supervised fine-tuning and direct
preference optimisation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.training.path_training import reads_large_vocabulary, target_log_probs
from restmcts.modeling.training.training_loop import Attempt, StepLoop, training_arguments
from restmcts.modeling.training.training_rows import PreferenceRow, TokenRow, collate, collate_packed


class SupervisedTrainer(StepLoop, SFTTrainer):  # type: ignore[misc]
    """TRL's supervised fine-tuning: cross-entropy of the target tokens.

    `model` is what is trained: the loaded model, or adapters around it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model: Any,
        rows: Sequence[TokenRow],
        settings: TrainingSettings,
        folder: str,
        attempt: Attempt,
    ) -> None:
        optimizer = self.set_up_loop(model, rows, settings, attempt)
        self._pad_token_id = loaded.pad_token_id
        arguments = training_arguments(rows, settings, folder, attempt)
        super().__init__(
            model=model,
            args=SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
            train_dataset=Dataset.from_list([{"input_ids": rows[0].token_ids, "labels": rows[0].token_ids}]),
            processing_class=loaded.tokenizer,
            optimizers=(optimizer, None),
        )

    def collate_rows(self, rows: Sequence[TokenRow]) -> dict[str, torch.Tensor]:
        """Return the library's names: `labels` are the tokens themselves, which the loss shifts."""
        token_ids, targets = [row.token_ids for row in rows], [row.targets for row in rows]
        if self._settings.packing:
            batch = collate_packed(token_ids, targets)
        else:
            batch = collate(token_ids, targets, self._pad_token_id)
            # TRL counts tokens by the mask.
            batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
        return {**batch, "labels": batch.pop("targets").long()}

    def share_of_loss(self, inputs: dict[str, torch.Tensor], num_targets: float) -> torch.Tensor:
        """Return the loss divided by the targets of the step: TRL's, but of a large vocabulary on a
        CPU, which TRL reads at every place, those of prompts too.
        """
        if self.args.device.type == "cpu" and reads_large_vocabulary(self.model):
            return -target_log_probs(self.model, {**inputs, "targets": inputs["labels"]}).sum() / num_targets
        loss: torch.Tensor = SFTTrainer.compute_loss(self, self.model, inputs, num_items_in_batch=num_targets)
        return loss


class PreferenceTrainer(StepLoop, DPOTrainer):  # type: ignore[misc]
    """TRL's direct preference optimisation against the model that training began with
    (arXiv:2305.18290, Eq. 7).

    Args:
        reference: the parent once more; None where `model` is adapters, which are then switched off
            for it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model: Any,
        reference: LoadedModel | None,
        rows: Sequence[PreferenceRow],
        settings: TrainingSettings,
        folder: str,
        attempt: Attempt,
    ) -> None:
        other = None if reference is None else reference.model
        optimizer = self.set_up_loop(model, rows, settings, attempt, other)
        self._collator = DataCollatorForPreference(loaded.pad_token_id)
        arguments = training_arguments(rows, settings, folder, attempt)
        super().__init__(
            model=model,
            ref_model=other,
            args=DPOConfig(**arguments, max_length=None, beta=settings.dpo_beta),
            train_dataset=Dataset.from_list([_fields(rows[0])]),
            processing_class=loaded.tokenizer,
            optimizers=(optimizer, None),
        )
        if self.accelerator.num_processes > 1:
            self.accelerator.gather = _gathered

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def collate_rows(self, rows: Sequence[PreferenceRow]) -> dict[str, torch.Tensor]:
        """Return the chosen sides, and below them the rejected ones."""
        return dict(self._collator([_fields(row) for row in rows]))

    def share_of_loss(self, inputs: dict[str, torch.Tensor], num_targets: float) -> torch.Tensor:
        """Return TRL's mean over the pairs of a forward pass, weighted by their number."""
        num_pairs = len(inputs["input_ids"]) // 2
        loss: torch.Tensor = DPOTrainer.compute_loss(self, self.model, inputs)
        return loss * (num_pairs / num_targets)


def _gathered(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of each process, end to end, on the CPU: TRL's metrics are of pairs, of
    which one process may have more than another.
    """
    return torch.cat(gather_object([tensor.detach().cpu().reshape(-1)]))


def _fields(row: PreferenceRow) -> dict[str, list[int]]:
    return {"prompt_ids": row.prompt_ids, "chosen_ids": row.chosen_ids, "rejected_ids": row.rejected_ids}
