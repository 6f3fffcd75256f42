"""Train a model on examples and write it as a checkpoint: policies on solutions or on preferences,
value models on step values.

Where examples come from, and what becomes of the checkpoint, it does not know. Each loss is a mean
over all targets of one optimizer step, however they are spread over forward passes and processes.
"""

import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback

from restmcts.domain.learning.losses import LikelihoodLoss, Loss
from restmcts.domain.runs.training_settings import TrainingReport, TrainingSettings, ValueObjective, gives_values
from restmcts.errors import StorageError, TrainingError
from restmcts.modeling.checkpoints import (
    LoadedModel,
    ValueScale,
    checkpoint_kind,
    isolated_randomness,
    load_policy,
    load_value_model,
    new_policy,
    new_value_model,
    save_checkpoint,
)
from restmcts.modeling.training.lora import is_of_adapters, merge_adapters, trained_model
from restmcts.modeling.training.path_training import PathExample, PathTrainer, packed_as_trees, path_rows
from restmcts.modeling.training.sharding import whole_parameters
from restmcts.modeling.training.training_loop import Attempt, ProgressCallback, SavingCallback, trains_in_half
from restmcts.modeling.training.training_rows import (
    PolicyExample,
    PreferenceExample,
    Row,
    ValueExample,
    compared_rows,
    policy_rows,
    preference_rows,
    value_rows,
)
from restmcts.modeling.training.value_training import EarlyStopping, ValueTrainer, split_by_problem
from restmcts.modeling.value.value_metrics import value_metrics
from restmcts.modeling.value.value_reading import ValueReader

log = logging.getLogger(__name__)

_NO_ATTEMPT = Attempt()
_LOG = "log"
_PLAIN_ATTENTION_TOKENS = 512


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
    attempt: Attempt = _NO_ATTEMPT,
) -> TrainingReport:
    """Fine-tune a policy on solutions and write it as a checkpoint; the loss is on the solutions'
    tokens and end token only.

    Raises:
        TrainingError: if nothing is left to train on, the loss is not a number, or disk or memory
            do not suffice.
        ModelError: if the parent cannot be loaded.
    """
    from restmcts.modeling.training.policy_training import SupervisedTrainer

    if settings.tree_packing:
        paths = [PathExample(one.question, one.steps, (1.0,) * len(one.steps), True) for one in examples]
        return train_paths(parent_path, paths, LikelihoodLoss(), settings, output_path, attempt)
    with _training(parent_path, output_path, settings, attempt) as run:
        loaded = load_policy(parent_path, template=settings.template, dtype=torch.float32)
        rows = run.usable(loaded, policy_rows(loaded, examples))
        model = trained_model(loaded, settings)
        trainer = SupervisedTrainer(loaded, model, rows, settings, run.folder, attempt)
        return run.finish(loaded, model, trainer)


def train_preferences(
    parent_path: str | Path,
    examples: Sequence[PreferenceExample],
    settings: TrainingSettings,
    output_path: Path,
    attempt: Attempt = _NO_ATTEMPT,
) -> TrainingReport:
    """Train a policy by direct preference optimisation against its parent and write it as a
    checkpoint.

    Raises:
        TrainingError, ModelError: as `train_policy`.
    """
    from restmcts.modeling.training.policy_training import PreferenceTrainer

    _refuse_tree_packing(settings, "pairs")
    with _training(parent_path, output_path, settings, attempt) as run:
        loaded = load_policy(parent_path, template=settings.template, dtype=torch.float32)
        rows = run.usable(loaded, preference_rows(loaded, examples))
        # What TRL would put beside adapters for it is not in parts.
        needs_reference = settings.adapters_of(loaded.model.num_parameters()) is None or attempt.shards
        reference = load_policy(parent_path, dtype=torch.float32) if needs_reference else None
        model = trained_model(loaded, settings)
        trainer = PreferenceTrainer(loaded, model, reference, rows, settings, run.folder, attempt)
        return run.finish(loaded, model, trainer)


def train_paths(
    parent_path: str | Path,
    examples: Sequence[PathExample],
    loss: Loss,
    settings: TrainingSettings,
    output_path: Path,
    attempt: Attempt = _NO_ATTEMPT,
) -> TrainingReport:
    """Train a policy on weighted steps and write it as a checkpoint.

    Raises:
        TrainingError: as `train_policy`, or if the loss compares pairs and the examples are none.
        ModelError: if the parent cannot be loaded.
    """
    with _training(parent_path, output_path, settings, attempt) as run:
        loaded = load_policy(parent_path, template=settings.template, dtype=torch.float32)
        rows = run.usable(loaded, path_rows(loaded, examples, loss))
        if settings.tree_packing:
            rows = packed_as_trees(loaded, rows)
        model = trained_model(loaded, settings)
        trainer = PathTrainer(loaded, model, rows, loss, settings, run.folder, attempt)
        return run.finish(loaded, model, trainer)


def train_value(
    parent_path: str | Path,
    examples: Sequence[ValueExample],
    settings: TrainingSettings,
    output_path: Path,
    attempt: Attempt = _NO_ATTEMPT,
    *,
    objective: ValueObjective = "mse",
) -> TrainingReport:
    """Train a value model on the labels of steps and write it as a checkpoint.

    Args:
        parent_path: a value model's checkpoint, or that of a policy or an encoder, whose trunk is
            then given a fresh head.

    Raises:
        TrainingError: as `train_policy`, or if the parent's head gives what another objective
            wants.
        ModelError: if the parent cannot be loaded.
    """
    _refuse_tree_packing(settings, "value models")
    with _training(parent_path, output_path, settings, attempt) as run:
        loaded = _value_parent(parent_path, settings, objective)
        reader = ValueReader(loaded, raw=True)
        learnt, held_out = split_by_problem(examples, settings.validation_share)
        rows: list[Row] = [*compared_rows(reader, learnt, objective)]
        if objective != "ranking":
            rows = [*value_rows(reader, learnt, objective), *rows]
        rows = list(run.usable(loaded, rows))

        model = trained_model(loaded, settings)
        trainer = ValueTrainer(reader, model, rows, objective, settings, run.folder, attempt)

        def evaluate() -> dict[str, float]:
            loaded.model.eval()
            return trainer.with_model(lambda: value_metrics(reader, held_out, objective)) if held_out else {}

        before, run.evaluate = evaluate(), evaluate
        if settings.patience is not None and "loss" in before:
            every = settings.evaluate_steps or math.ceil(
                len(rows) / (settings.batch_size * settings.gradient_accumulation)
            )
            run.stopping = EarlyStopping(model, evaluate, trainer.log, every, settings.patience)
        return replace(run.finish(loaded, model, trainer), held_out_before=before)


def _refuse_tree_packing(settings: TrainingSettings, what: str) -> None:
    if settings.tree_packing:
        raise TrainingError(f"tree_packing is for paths that a policy learns, not for {what}; leave it out")


def _value_parent(parent_path: str | Path, settings: TrainingSettings, objective: ValueObjective) -> LoadedModel:
    scale: ValueScale = "identity" if gives_values(objective) else "logit"
    if checkpoint_kind(parent_path) != "value":
        return new_value_model(parent_path, settings.seed, value_scale=scale)
    loaded = load_value_model(parent_path, dtype=torch.float32)
    if loaded.value_scale != scale:
        raise TrainingError(
            f"{parent_path}: its head gives {loaded.value_scale}, the objective {objective} wants {scale}; begin anew"
        )
    return loaded


@dataclass
class _Run:
    """One training run between its parent and its checkpoint."""

    settings: TrainingSettings
    attempt: Attempt
    output_path: Path
    folder: str
    begin: float
    rows: Sequence[Any] = ()
    num_dropped: int = 0
    stopping: EarlyStopping | None = None
    evaluate: Callable[[], dict[str, float]] = dict

    def usable(self, loaded: LoadedModel, rows: Sequence[Any]) -> Sequence[Any]:
        """Return the rows that are short enough and have a target."""
        limit = min(self.settings.max_length, loaded.max_context_tokens or self.settings.max_length)
        self.rows = [row for row in rows if row.num_tokens <= limit and row.num_targets]
        self.num_dropped = len(rows) - len(self.rows)
        if not self.rows:
            raise TrainingError(
                f"none of {len(rows)} examples can be used; give some with targets, of at most {limit} tokens"
            )
        _choose_attention(loaded, self.settings, max(row.num_tokens for row in self.rows))
        return self.rows

    def finish(self, loaded: LoadedModel, model: Any, trainer: Any) -> TrainingReport:
        """Train, write the checkpoint, and report."""
        trainer.remove_callback(PrinterCallback)
        resume_from = self._saved_state(model is not loaded.model)
        if self.stopping is not None:
            trainer.add_callback(self.stopping)
            if resume_from is not None:
                self.stopping.load(resume_from)
        if self.attempt.log_folder is not None:
            trainer.add_callback(_event_files(self.attempt.log_folder, resume_from))
        if self.attempt.on_saved is not None:
            trainer.add_callback(SavingCallback(self.settings.save_seconds, self._saved))
        trainer.add_callback(ProgressCallback(self.attempt.on_progress))
        began = time.perf_counter()
        trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
        steps_took = time.perf_counter() - began
        if self.stopping is not None:
            self.stopping.restore_best()
        held_out = self.evaluate()
        with whole_parameters(model):
            if trainer.is_world_process_zero():
                merge_adapters(loaded, model)
                loaded.model.eval()
                save_checkpoint(loaded, self.output_path)
        losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
        return TrainingReport(
            num_examples=len(self.rows),
            num_dropped=self.num_dropped,
            num_targets=sum(row.num_targets for row in self.rows),
            num_steps=trainer.state.global_step,
            first_loss=losses[0][1],
            last_loss=losses[-1][1],
            seconds=time.perf_counter() - self.begin,
            micro_batch=trainer.micro_batch,
            losses=losses,
            held_out=held_out,
            step_seconds=steps_took / trainer.state.global_step if resume_from is None else None,
            lora_rank=None if model is loaded.model else model.peft_config["default"].r,
        )

    def _saved_state(self, has_adapters: bool) -> Path | None:
        """Return what training goes on from; None: it begins anew, also where another version of
        this package trained something else of the model.
        """
        saved = self.attempt.resume_from
        if saved is not None and is_of_adapters(saved) != has_adapters:
            now, before = ("adapters", "all weights") if has_adapters else ("all weights", "adapters")
            log.warning("training starts from the beginning: it is of %s, its saved state of %s", now, before)
            return None
        return saved

    def _saved(self, step: int, folder: Path) -> None:
        if self.attempt.log_folder is not None:
            shutil.copytree(self.attempt.log_folder, folder / _LOG)
        assert self.attempt.on_saved is not None
        self.attempt.on_saved(step, folder)


def _event_files(log_folder: Path, resume_from: Path | None) -> Any:
    """Return what writes TensorBoard's event files; those of a killed attempt are kept beside
    them.
    """
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    if resume_from is not None and (resume_from / _LOG).is_dir():
        shutil.copytree(resume_from / _LOG, log_folder, dirs_exist_ok=True)
    return TensorBoardCallback(SummaryWriter(str(log_folder)))


def _choose_attention(loaded: LoadedModel, settings: TrainingSettings, longest: int) -> None:
    """Take plain attention where torch's fused one is slow: backwards, in bfloat16, on a CPU. It
    keeps a matrix of all pairs of tokens, so only for short rows.
    """
    side = longest * (settings.batch_size if settings.packing else 1)
    is_slow = loaded.model.device.type == "cpu" and trains_in_half(settings)
    is_fused = getattr(loaded.model.config, "_attn_implementation", None) == "sdpa"
    if is_slow and is_fused and side <= _PLAIN_ATTENTION_TOKENS:
        loaded.model.set_attn_implementation("eager")


@contextmanager
def _training(
    parent_path: str | Path, output_path: Path, settings: TrainingSettings, attempt: Attempt
) -> Iterator[_Run]:
    begin = time.perf_counter()
    if output_path.exists():
        raise TrainingError(f"{output_path}: a checkpoint exists already; remove it or choose another folder")
    try:
        with isolated_randomness(settings.seed), tempfile.TemporaryDirectory() as scratch:
            yield _Run(settings, attempt, output_path, str(attempt.folder or scratch), begin)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "out of memory for the model and its optimizer; give a lora_rank or a larger machine"
        ) from error
    except (StorageError, OSError) as error:
        raise TrainingError(f"training stopped: {error}") from error
