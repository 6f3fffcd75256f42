"""Value models in our loop: the loss of each objective, and the held-out problems that say when
to stop.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from restmcts.domain.problems import question_digest
from restmcts.domain.runs.training_settings import TrainingSettings, ValueObjective
from restmcts.modeling.training.losses import IGNORED, summed_pair_loss, summed_value_loss
from restmcts.modeling.training.sharding import part, part_of, whole_of
from restmcts.modeling.training.training_loop import Attempt, StepLoop, training_arguments
from restmcts.modeling.training.training_rows import ReadingPairRow, TokenRow, ValueExample, collate, collate_packed
from restmcts.modeling.value.value_reading import ValueReader

_BEST_WEIGHTS, _BEST_STATE = "best.safetensors", "best.json"


class ValueTrainer(StepLoop, Trainer):  # type: ignore[misc]
    """The loss of an objective at the places where values are read; `reader` reads the model
    that is trained.
    """

    def __init__(
        self,
        reader: ValueReader,
        model: Any,
        rows: Sequence[Any],
        objective: ValueObjective,
        settings: TrainingSettings,
        folder: str,
        attempt: Attempt,
    ) -> None:
        optimizer = self.set_up_loop(model, rows, settings, attempt)
        self._reader, self._objective = reader, objective
        arguments = TrainingArguments(**training_arguments(rows, settings, folder, attempt))
        super().__init__(model=model, args=arguments, train_dataset=rows, optimizers=(optimizer, None))

    def collate_rows(self, rows: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return the tensors of a forward pass: paths, below them the chosen sides of pairs, and
        then the rejected ones; `gaps`, `[pairs]`.
        """
        pairs = [row for row in rows if isinstance(row, ReadingPairRow)]
        paths = [row for row in rows if not isinstance(row, ReadingPairRow)]
        read = paths + [_marked(row, side) for side in ("chosen", "rejected") for row in pairs]
        token_ids, targets = [row.token_ids for row in read], [row.targets for row in read]
        if self._settings.packing and self._reader.reads_every_step:
            batch = collate_packed(token_ids, targets)
        else:
            batch = collate(token_ids, targets, self._reader.pad_token_id)
        return {**batch, "gaps": torch.tensor([row.gap for row in pairs])}

    def share_of_loss(self, inputs: dict[str, torch.Tensor], num_targets: float) -> torch.Tensor:
        """Return the loss of one forward pass, divided by the targets of the step."""
        if self._settings.trainable == "head":
            # What is read later has no dropout either.
            self._reader.trunk.eval()
        wanted = inputs["targets"] != IGNORED
        outputs = self._reader.values_at(
            inputs["input_ids"], inputs.get("attention_mask"), wanted, inputs.get("position_ids")
        )
        gaps = inputs["gaps"]
        num_paths = len(outputs) - 2 * len(gaps)
        valued, compared = outputs[:num_paths], outputs[num_paths:]
        loss = summed_value_loss(valued, inputs["targets"][wanted][:num_paths], self._objective)
        if len(gaps):
            chosen, rejected = compared.chunk(2)
            loss = loss + summed_pair_loss(chosen, rejected, gaps, self._objective)
        return loss / num_targets


def _marked(row: ReadingPairRow, side: str) -> TokenRow:
    reading = getattr(row, side)
    targets: list[float] = [IGNORED] * len(reading.token_ids)
    targets[reading.places[-1]] = 1.0
    return TokenRow(reading.token_ids, targets)


def split_by_problem(
    examples: Sequence[ValueExample], validation_share: float
) -> tuple[list[ValueExample], list[ValueExample]]:
    """Return the examples to learn from and those held out. The question alone decides, so no
    training ever sees a held-out one.
    """
    held_out = {
        question: int(question_digest(question)[:8], 16) / 16**8 < validation_share
        for question in {example.question for example in examples}
    }
    return [e for e in examples if not held_out[e.question]], [e for e in examples if held_out[e.question]]


class EarlyStopping(TrainerCallback):  # type: ignore[misc]
    """Looks at held-out examples now and then, keeps the weights that did best, and ends a run
    that no longer gets better.
    """

    def __init__(
        self,
        model: Any,
        evaluate: Callable[[], dict[str, float]],
        log: Callable[[dict[str, float]], None],
        every_steps: int,
        patience: int,
    ) -> None:
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._model, self._evaluate, self._log = model, evaluate, log
        self._every_steps, self._patience = every_steps, patience
        self._best: dict[str, torch.Tensor] = {}
        self._best_loss = float("inf")
        self._num_worse = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look, keep the weights if they are the best so far, and stop where patience is at its
        end.
        """
        if state.global_step % self._every_steps and state.global_step < state.max_steps:
            return
        self._model.eval()
        metrics = self._evaluate()
        should_log = control.should_log  # which logging these figures would take away from the step's own loss
        self._log({f"eval_{name}": value for name, value in metrics.items()})
        control.should_log = should_log
        loss = metrics["loss"]
        self._num_worse = 0 if loss < self._best_loss else self._num_worse + 1
        if not self._num_worse:
            self._best_loss = loss
            self._best = {name: part(one.detach()).to("cpu", copy=True) for name, one in self._parameters.items()}
        control.should_training_stop = control.should_training_stop or self._num_worse >= self._patience

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the best weights beside a saved state."""
        whole = {name: whole_of(best, self._parameters[name]).cpu() for name, best in self._best.items()}
        if state.is_world_process_zero:
            folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
            if whole:
                save_file(whole, folder / _BEST_WEIGHTS)
            (folder / _BEST_STATE).write_text(json.dumps({"loss": self._best_loss, "num_worse": self._num_worse}))

    def load(self, folder: Path) -> None:
        """Go on from what was written beside a saved state."""
        state = json.loads((folder / _BEST_STATE).read_text())
        self._best_loss, self._num_worse = state["loss"], state["num_worse"]
        if (folder / _BEST_WEIGHTS).is_file():
            whole = load_file(folder / _BEST_WEIGHTS)
            self._best = {name: part_of(one, self._parameters[name]).cpu() for name, one in whole.items()}

    @torch.no_grad()
    def restore_best(self) -> None:
        """Put the best weights back into the model."""
        for name, best in self._best.items():
            part(self._parameters[name]).copy_(best)
