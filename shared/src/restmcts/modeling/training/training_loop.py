"""One optimizer step over any rows: batches, forward passes that fit the memory, several processes,
progress and saves.

A mixin in front of the library's trainers. Knows rows by their length and their number of targets;
losses are the trainers' own.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback, get_scheduler
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import TrainingError
from restmcts.modeling.devices import chosen_dtype
from restmcts.modeling.training.optimizers import build_optimizer
from restmcts.modeling.training.sharding import shard_model, whole_parameters
from restmcts.modeling.training.training_rows import Row

Result = TypeVar("Result")
Progress = Callable[[int, int, float | None], None]
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_NUM_REPORTS = 50


@dataclass(frozen=True, slots=True)
class Attempt:
    """What surrounds one attempt at a training run; all of it may be left out.

    Attributes:
        on_progress: called after each step with its number, how many there will be, and now and
            then the mean loss since the last report.
        folder: where saved states are made; with `on_saved`.
        on_saved: called with a step and the folder of the state saved there, which is the caller's
            to remove. None: no saves.
        resume_from: such a folder; training goes on from its step as if it had never stopped.
        on_smaller: called with the new number of examples of a forward pass when memory did not
            suffice for the old.
        log_folder: takes TensorBoard event files.
        trackers: further trackers by the library's names ("mlflow", "wandb"), set up through their
            own variables.
        shards: whether each of several processes keeps a part of the weights, of the gradients and
            of the optimizer's state, instead of all of them.
    """

    on_progress: Progress | None = None
    folder: Path | None = None
    on_saved: Callable[[int, Path], None] | None = None
    resume_from: Path | None = None
    on_smaller: Callable[[int], None] | None = None
    log_folder: Path | None = None
    trackers: tuple[str, ...] = ()
    shards: bool = False


class StepLoop:
    """A mixin before a `transformers.Trainer`: one batch of rows is one optimizer step, however it
    is spread.

    The subclass gives `collate_rows` and a `compute_loss` that returns a forward pass's share of
    the mean over `num_items_in_batch` targets. Every process sees every batch and takes its part of
    it, so that the batches, and the step, are the same for any number of processes. When memory
    does not suffice, forward passes become smaller and the step is repeated.
    """

    # Already a mean over the whole step, so the library must not divide it by the number of its
    # forward passes.
    loss_is_scaled_for_ga = True

    if TYPE_CHECKING:
        model: Any
        args: Any
        accelerator: Any
        optimizer: Any

    def set_up_loop(
        self, model: Any, rows: Sequence[Row], settings: TrainingSettings, attempt: Attempt, reference: Any = None
    ) -> Optimizer:
        """Take what the loop needs and return the model's optimizer; to be called before the
        trainer's own `__init__`.

        Args:
            reference: another model that the loss reads.
        """
        self._rows = rows
        self._settings = settings
        self._attempt = attempt
        self.micro_batch = settings.batch_size
        others = [] if reference is None else [reference]
        self._sharded = shard_model(model, *others) if attempt.shards else None
        return build_optimizer(model, settings)

    def with_model(self, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns, which may call the model and read its weights."""
        if self._sharded is None:
            return compute()
        found: Result = self._sharded(compute)
        return found

    def collate_rows(self, rows: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return the tensors of one forward pass."""
        raise NotImplementedError

    def normaliser(self, rows: Sequence[Any]) -> float:
        """Return what the summed loss of a step's rows is divided by: their number of targets."""
        return float(sum(row.num_targets for row in rows))

    def get_train_dataloader(self) -> Any:
        """Return the rows of each step, in an order that the seed and the epoch decide."""
        step_size = self._settings.batch_size * self._settings.gradient_accumulation
        batches = ShuffledBatches([row.num_tokens for row in self._rows], step_size, self._settings.seed)
        # A list is a dataset to torch, though not to its types.
        dataset: Any = self._rows
        return _BatchLoader(dataset, batch_sampler=batches, collate_fn=list)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Return the schedule of the learning rate: warm-up ends at its peak, and no step has
        rate 0, with which the library begins.
        """
        over = self.optimizer if optimizer is None else optimizer
        num_warmup = self.args.get_warmup_steps(num_training_steps)
        begin = int(num_warmup > 0)
        library = get_scheduler(
            self.args.lr_scheduler_type,
            optimizer=over,
            num_warmup_steps=num_warmup,
            num_training_steps=num_training_steps + begin,
        )
        self.lr_scheduler = LambdaLR(over, [_from(begin, factor) for factor in library.lr_lambdas])
        return self.lr_scheduler

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: rows are no tensors yet, and nobody asks."""
        return 0

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card beside saved states."""

    def _send_telemetry(self) -> None:
        """Report to nobody that a training began."""

    def training_step(self, model: Any, inputs: list[Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Leave the gradients of the step's mean loss with the parameters and return that loss."""
        num_targets = self.normaliser(inputs)
        loss = None
        while loss is None:
            try:
                loss = self._accumulate(inputs, num_targets)
            except torch.OutOfMemoryError as error:
                if self.micro_batch == 1 or self.accelerator.num_processes > 1:
                    raise TrainingError(
                        f"out of memory with {self.micro_batch} examples in a forward pass; {_ADVICE}"
                    ) from error
            if loss is None:  # no longer in the handler, which keeps the tensors of the failed pass alive
                self._shrink()
        if self._sharded is None:
            self._sum_over_processes()
        # The library shows the mean over all processes.
        return loss * int(self.accelerator.num_processes)

    def _accumulate(self, rows: list[Any], num_targets: float) -> torch.Tensor:
        self.model.zero_grad()
        total = torch.zeros((), device=self.args.device)
        parts = self._parts(rows)
        for number, (part, counts) in enumerate(parts, start=1):
            if self._sharded is not None:
                self._sharded.set_requires_gradient_sync(number == len(parts))
            batch = self.collate_rows(part)
            # A process without a row of its own goes through the motions, as the trainers' metrics
            # wait for every process.
            self._counts = counts
            total += super().training_step(self.model, batch, num_targets)  # type: ignore[misc]
        return total

    def _parts(self, rows: list[Any]) -> list[tuple[list[Any], bool]]:
        num_processes = self.accelerator.num_processes
        mine = rows[self.accelerator.process_index :: num_processes]
        starts = range(0, math.ceil(len(rows) / num_processes), self.micro_batch)
        parts = [mine[start : start + self.micro_batch] for start in starts]
        return [(part or rows[:1], bool(part)) for part in parts]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return this forward pass's share of the step's mean loss."""
        return self.with_model(lambda: self.share_of_loss(inputs, num_items_in_batch)) * float(self._counts)

    def share_of_loss(self, inputs: dict[str, torch.Tensor], num_targets: float) -> torch.Tensor:
        """Return the loss of one forward pass, summed over its targets and divided by those of
        the whole step.
        """
        raise NotImplementedError

    def _get_grad_norm(self, *arguments: Any, **named: Any) -> Any:
        norm = super()._get_grad_norm(*arguments, **named)  # type: ignore[misc]
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        with whole_parameters(self.model):
            if self.args.should_save:
                super()._save(output_dir, state_dict)  # type: ignore[misc]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._sharded is not None and not self.args.should_save:
            self.optimizer.state_dict()
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]

    def _load_from_checkpoint(self, *arguments: Any) -> None:
        with whole_parameters(self.model, everywhere=True):
            super()._load_from_checkpoint(*arguments)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._sharded is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            return
        # The library would load the whole onto every device.
        for loaded, file in ((self.optimizer, OPTIMIZER_NAME), (self.lr_scheduler, SCHEDULER_NAME)):
            state = torch.load(Path(checkpoint, file), map_location="cpu", mmap=True, weights_only=True)
            loaded.load_state_dict(state)

    def _save_checkpoint(self, *arguments: Any) -> None:
        try:
            super()._save_checkpoint(*arguments)  # type: ignore[misc]
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(f"the state from which a killed job is resumed cannot be saved: {reason}") from error

    def _shrink(self) -> None:
        self.micro_batch = math.ceil(self.micro_batch / 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self._attempt.on_smaller is not None:
            self._attempt.on_smaller(self.micro_batch)

    def _sum_over_processes(self) -> None:
        if self.accelerator.num_processes > 1:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    torch.distributed.all_reduce(parameter.grad)


def _from(begin: int, factor: Callable[[int], float]) -> Callable[[int], float]:
    return lambda step: factor(step + begin)


_ADVICE = "give shorter examples (max_length), gradient_checkpointing, a lora_rank, or a larger machine"


def trains_in_half(settings: TrainingSettings) -> bool:
    """Return whether passes are in bfloat16 on the device that trains here."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return chosen_dtype(settings.precision, torch.bfloat16, device) == torch.bfloat16


def training_arguments(
    rows: Sequence[Row], settings: TrainingSettings, folder: str, attempt: Attempt
) -> dict[str, Any]:
    """Return the arguments of all trainers; saved states go below `folder`."""
    steps_per_epoch = math.ceil(len(rows) / (settings.batch_size * settings.gradient_accumulation))
    num_steps = settings.num_steps or settings.num_epochs * steps_per_epoch
    return {
        "output_dir": folder,
        "use_cpu": not torch.accelerator.is_available(),
        "max_steps": num_steps,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": 1,
        "lr_scheduler_type": _SCHEDULES[settings.schedule],
        "warmup_steps": math.ceil(settings.warmup_ratio * num_steps),
        "max_grad_norm": settings.max_gradient_norm,
        "logging_steps": max(1, num_steps // _NUM_REPORTS),
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": list(attempt.trackers) or "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "average_tokens_across_devices": False,
        "bf16": trains_in_half(settings),
        "activation_checkpointing": settings.gradient_checkpointing,
        "seed": settings.seed % 2**32,
    }


class _BatchLoader(DataLoader[Any]):
    """A loader that lets its batches know which epoch begins."""

    def set_epoch(self, epoch: int) -> None:
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)


class ShuffledBatches(Sampler[list[int]]):
    """Batches of any lengths, shuffled anew each epoch; within a batch the longest come first.

    So the forward passes of a step hold rows of similar length, and too little memory shows in the
    first of them. Batches of one length would pad less, but each would speak for its length alone,
    and the model learns worse.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self._batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's own order."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._lengths)).tolist()
        for start in range(0, len(order), self._batch_size):
            yield sorted(order[start : start + self._batch_size], key=lambda place: -self._lengths[place])


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Passes steps and logged losses on, and stops a run whose loss is no number."""

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress = on_progress
        self._logged: float | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Take one logged loss; the library's closing summary has none."""
        if not logs or "loss" not in logs:
            return
        loss = logs["loss"]
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step} of {state.max_steps}; use a lower learning rate"
            )
        self._report(state, loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report a step; a loss that belongs to it comes after."""
        self._report(state, None)

    def _report(self, state: Any, loss: float | None) -> None:
        if self._on_progress is not None and state.is_world_process_zero:
            self._on_progress(state.global_step, state.max_steps, loss)


class SavingCallback(TrainerCallback):  # type: ignore[misc]
    """Asks for the state to be saved when so many seconds have passed, and hands the saved
    folder over.
    """

    def __init__(self, save_seconds: float, on_saved: Callable[[int, Path], None]) -> None:
        self._save_seconds, self._on_saved = save_seconds, on_saved
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a save, but not after the last step."""
        is_due = time.monotonic() - self._last >= self._save_seconds and state.global_step < state.max_steps
        if torch.distributed.is_initialized():
            flag = torch.tensor(is_due, device=args.device)
            torch.distributed.broadcast(flag, src=0)
            is_due = bool(flag)
        control.should_save = is_due

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Hand over what was saved, under a name that the library does not know."""
        self._last = time.monotonic()
        saved = Path(args.output_dir, f"checkpoint-{state.global_step}")
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            handed_over = saved.with_name(f"saved-{state.global_step}")
            shutil.rmtree(handed_over, ignore_errors=True)
            saved.rename(handed_over)
            self._on_saved(state.global_step, handed_over)
