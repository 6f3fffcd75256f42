"""Supervised training of both models on the library's `Trainer`: the policy on right solutions, the value model on step values.

Knows examples as texts and targets; where they come from, and what becomes of the checkpoint, it does not. Each loss is a mean over
all supervised positions of one optimizer step, however they are spread over batches.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from restmcts.domain.training_settings import TrainingReport, TrainingSettings
from restmcts.errors import StorageError, TrainingError
from restmcts.modeling.checkpoints import (
    LoadedModel,
    checkpoint_kind,
    isolated_randomness,
    load_policy,
    load_value_model,
    new_policy,
    new_value_model,
    save_checkpoint,
)
from restmcts.modeling.losses import IGNORED, summed_token_loss, summed_value_loss
from restmcts.modeling.optimizers import build_optimizer
from restmcts.modeling.tokenization import TextEncoder
from restmcts.modeling.value_reading import ValueReader

Progress = Callable[[int, int, float], None]
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_NUM_REPORTS = 50
# Batches are cut from pools of so many, sorted by length: little padding, and still a fresh mixture every epoch.
_BATCHES_PER_POOL = 8


@dataclass(frozen=True, slots=True)
class PolicyExample:
    """A question and a right solution, step by step."""

    question: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ValueExample:
    """A path and the value after each of its steps; None where there is no target."""

    question: str
    steps: tuple[str, ...]
    targets: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """Token ids and one target per position, `IGNORED` where there is none: the next token's id, or the value read there."""

    token_ids: list[int]
    targets: list[float]


def initialise_policy(config: Any, tokenizer: Any, path: Path, seed: int, *, template: str = "auto") -> None:
    """Write a policy checkpoint with fresh weights that `config` and `seed` decide.

    Raises:
        StorageError: if the disk does not take it.
    """
    save_checkpoint(new_policy(config, tokenizer, seed, template=template), path)


def train_policy(
    parent_path: str | Path,
    examples: Sequence[PolicyExample],
    settings: TrainingSettings,
    output_path: Path,
    on_progress: Progress | None = None,
) -> TrainingReport:
    """Fine-tune a policy on solutions and write it as a checkpoint; the loss is on the solutions' tokens and end token only.

    Args:
        on_progress: called now and then with the step, their number, and the mean loss since the last call.

    Raises:
        TrainingError: if nothing is left to train on, the loss is not a number, or the disk is full.
        ModelError: if the parent cannot be loaded.
    """
    begin = time.perf_counter()
    loaded = load_policy(parent_path, dtype=torch.float32)
    rows = _policy_rows(loaded, examples)

    def summed_loss(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs.get("attention_mask"), use_cache=False).logits
        return summed_token_loss(logits, inputs["targets"].long())

    return _train(loaded, rows, summed_loss, settings, output_path, on_progress, begin)


def train_value(
    parent_path: str | Path,
    examples: Sequence[ValueExample],
    settings: TrainingSettings,
    output_path: Path,
    on_progress: Progress | None = None,
) -> TrainingReport:
    """Regress a value model on the values after each step (mean squared error) and write it as a checkpoint.

    Args:
        parent_path: a value model's checkpoint, or a policy's, whose trunk is then given a fresh head.
        on_progress: as for `train_policy`.

    Raises:
        TrainingError: if nothing is left to train on, the loss is not a number, or the disk is full.
        ModelError: if the parent cannot be loaded.
    """
    begin = time.perf_counter()
    if checkpoint_kind(parent_path) == "value":
        loaded = load_value_model(parent_path, dtype=torch.float32)
    else:
        loaded = new_value_model(parent_path, settings.seed)
    reader = ValueReader(loaded)
    rows = _value_rows(reader, examples)

    def summed_loss(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        wanted = inputs["targets"] != IGNORED
        values = reader.values_at(inputs["input_ids"], inputs.get("attention_mask"), wanted)
        return summed_value_loss(values, inputs["targets"][wanted])

    return _train(loaded, rows, summed_loss, settings, output_path, on_progress, begin)


def _policy_rows(loaded: LoadedModel, examples: Sequence[PolicyExample]) -> list[_Row]:
    encoder = TextEncoder(loaded.tokenizer, loaded.prompts.template)
    prompts = encoder.encode([loaded.prompts.text(example.question, ()) for example in examples])
    texts = encoder.encode([loaded.prompts.text(example.question, example.steps) for example in examples])
    end = [] if loaded.tokenizer.eos_token_id is None else [loaded.tokenizer.eos_token_id]
    rows = []
    for prompt, text in zip(prompts, texts, strict=True):
        # Where the solution's first letters change the prompt's last token, that token is the solution's.
        num_shared = next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), min(len(prompt), len(text)))
        ids = text + end
        targets = [float(ids[place + 1]) if place + 1 >= num_shared else IGNORED for place in range(len(ids) - 1)]
        rows.append(_Row(ids, [*targets, IGNORED]))
    return rows


def _value_rows(reader: ValueReader, examples: Sequence[ValueExample]) -> list[_Row]:
    rows = []
    paths = [(example.question, example.steps, 1) for example in examples]
    for example, readings in zip(examples, reader.readings_of_paths(paths), strict=True):
        for reading in readings:
            targets: list[float] = [IGNORED] * len(reading.token_ids)
            for place, number in zip(reading.places, reading.steps, strict=True):
                target = example.targets[number - 1]
                targets[place] = IGNORED if target is None else target
            rows.append(_Row(reading.token_ids, targets))
    return rows


def _train(
    loaded: LoadedModel,
    rows: list[_Row],
    summed_loss: "_SummedLoss",
    settings: TrainingSettings,
    output_path: Path,
    on_progress: Progress | None,
    begin: float,
) -> TrainingReport:
    if output_path.exists():
        raise TrainingError(f"{output_path}: a checkpoint is there already; remove it or choose another folder")
    limit = min(settings.max_length, loaded.max_context_tokens or settings.max_length)
    used = [row for row in rows if len(row.token_ids) <= limit and any(target != IGNORED for target in row.targets)]
    if not used:
        raise TrainingError(f"none of {len(rows)} examples can be used; give some with targets, of at most {limit} tokens")
    progress = _ProgressCallback(on_progress)
    try:
        with isolated_randomness(settings.seed), tempfile.TemporaryDirectory() as scratch:
            trainer = _PositionTrainer(loaded, used, summed_loss, settings, scratch)
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(progress)
            trainer.train()
        loaded.model.eval()
        save_checkpoint(loaded, output_path)
    except (StorageError, OSError) as error:
        raise TrainingError(f"training stopped: {error}") from error
    return TrainingReport(
        num_examples=len(used),
        num_dropped=len(rows) - len(used),
        num_targets=sum(target != IGNORED for row in used for target in row.targets),
        num_steps=trainer.state.global_step,
        first_loss=progress.losses[0],
        last_loss=progress.losses[-1],
        seconds=time.perf_counter() - begin,
    )


_SummedLoss = Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]


class _PositionTrainer(Trainer):
    """The library's loop with a loss that is summed over positions and divided by all positions of the optimizer step."""

    # Already a mean over the whole step, so the library must not divide it by the number of its forward passes.
    loss_is_scaled_for_ga = True

    def __init__(
        self, loaded: LoadedModel, rows: list[_Row], summed_loss: _SummedLoss, settings: TrainingSettings, scratch: str
    ) -> None:
        steps_per_epoch = math.ceil(math.ceil(len(rows) / settings.batch_size) / settings.gradient_accumulation)
        num_steps = settings.num_steps or settings.num_epochs * steps_per_epoch
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=num_steps,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.gradient_accumulation,
            lr_scheduler_type=_SCHEDULES[settings.schedule],
            warmup_steps=math.ceil(settings.warmup_ratio * num_steps),
            max_grad_norm=settings.max_gradient_norm,
            logging_steps=max(1, num_steps // _NUM_REPORTS),
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            seed=settings.seed % 2**32,
        )
        self._summed_loss = summed_loss
        self._rows = rows
        self._pad_token_id = loaded.pad_token_id
        self._batch_seed = settings.seed
        super().__init__(
            model=loaded.model, args=arguments, train_dataset=rows, optimizers=(build_optimizer(loaded.model, settings), None)
        )

    def get_train_dataloader(self) -> Any:
        """Return batches of rows of similar length, in an order that the seed and the epoch decide."""
        lengths = [len(row.token_ids) for row in self._rows]
        batches = _LengthPooledBatches(lengths, self.args.per_device_train_batch_size, self._batch_seed)
        # A list is a dataset to torch, though not to its types.
        dataset: Any = self._rows
        loader: DataLoader[Any] = DataLoader(dataset, batch_sampler=batches, collate_fn=self._collate)
        return self.accelerator.prepare(loader)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """Return the forward passes of one optimizer step, and how many positions they supervise together."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return samples, sum((batch["targets"] != IGNORED).sum() for batch in samples)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return this forward pass's share of the step's mean loss."""
        assert num_items_in_batch is not None
        return self._summed_loss(model, inputs) / num_items_in_batch

    def _collate(self, rows: Sequence[_Row]) -> dict[str, torch.Tensor]:
        longest = max(len(row.token_ids) for row in rows)
        ids = np.full((len(rows), longest), self._pad_token_id, dtype=np.int64)
        targets = np.full((len(rows), longest), IGNORED, dtype=np.float64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row.token_ids)] = row.token_ids
            targets[place, : len(row.token_ids)] = row.targets
            mask[place, : len(row.token_ids)] = 1
        batch = {"input_ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets)}
        # Attention is quicker without a mask, which rows of one length do not need.
        return batch if mask.all() else {**batch, "attention_mask": torch.from_numpy(mask)}


class _LengthPooledBatches(Sampler[list[int]]):
    """Batches of similar length: each epoch is shuffled, cut into pools, sorted within a pool, and its batches shuffled again."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self._batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's own order."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self._seed, self._epoch])
        order = generator.permutation(len(self._lengths)).tolist()
        pool_size = self._batch_size * _BATCHES_PER_POOL
        pools = [sorted(order[i : i + pool_size], key=lambda place: self._lengths[place]) for i in range(0, len(order), pool_size)]
        batches = [pool[i : i + self._batch_size] for pool in pools for i in range(0, len(pool), self._batch_size)]
        for place in generator.permutation(len(batches)):
            yield batches[place]


class _ProgressCallback(TrainerCallback):
    """Passes logged losses on, and stops a run whose loss is no number."""

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress = on_progress
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Take one logged loss; the library's closing summary has none."""
        if not logs or "loss" not in logs:
            return
        loss = logs["loss"]
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {state.global_step} of {state.max_steps}; use a lower learning rate")
        self.losses.append(loss)
        if self._on_progress is not None:
            self._on_progress(state.global_step, state.max_steps, loss)
