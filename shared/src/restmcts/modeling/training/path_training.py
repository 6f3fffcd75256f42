"""Policies on weighted steps, in our loop: the losses of restmcts.domain.learning.losses.

What a step's weight means, the loss says; where weights come from, nothing here knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from itertools import islice
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from restmcts.domain.learning.losses import ClippedRatioLoss, LikelihoodLoss, Loss, PreferenceLoss
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import TrainingError
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.tokenization import TextEncoder
from restmcts.modeling.training.losses import IGNORED
from restmcts.modeling.training.training_loop import Attempt, StepLoop, training_arguments
from restmcts.modeling.training.training_rows import PathRow, end_tokens, num_shared, pad
from restmcts.modeling.training.tree_packing import PathTree, collate_trees, path_trees

_LARGE_VOCABULARY = 4096


@dataclass(frozen=True, slots=True)
class PathExample:
    """A question and a path of steps, each with what it teaches; None where it teaches nothing.

    `finished` says whether the path ends a solution, whose end token then goes with its last step.
    """

    question: str
    steps: tuple[str, ...]
    weights: tuple[float | None, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class PathPair:
    """A chosen step and a rejected one after the same steps."""

    chosen: PathRow
    rejected: PathRow

    num_steps = 1

    @property
    def num_targets(self) -> int:
        return min(self.chosen.num_targets, self.rejected.num_targets)

    @property
    def num_tokens(self) -> int:
        return max(self.chosen.num_tokens, self.rejected.num_tokens)


def path_rows(loaded: LoadedModel, examples: Sequence[PathExample], loss: Loss) -> list[PathRow] | list[PathPair]:
    """Return one row an example, or one a pair of neighbours where the loss compares them.

    A token belongs to the step in which its text begins to differ from that of the steps before.

    Raises:
        TrainingError: if the loss compares pairs, and the examples are none.
    """
    encoder, text = TextEncoder(loaded.tokenizer, loaded.prompts.template), loaded.prompts.text
    prefixes = [text(one.question, one.steps[:length]) for one in examples for length in range(len(one.steps) + 1)]
    encoded = iter(encoder.encode(prefixes))
    rows = []
    for example in examples:
        ids_of = [next(encoded) for _ in range(len(example.steps) + 1)]
        row = _path_row(ids_of, end_tokens(loaded) if example.finished else [], example.weights, loss)
        rows.append(replace(row, question=example.question))
    return _pairs(rows) if isinstance(loss, PreferenceLoss) else rows


def _path_row(ids_of: list[list[int]], end: list[int], weights: Sequence[float | None], loss: Loss) -> PathRow:
    ids = ids_of[-1] + end
    # Nothing predicts the first token.
    starts = [max(num_shared(prefix, ids), 1) for prefix in ids_of[:-1]] + [len(ids)]
    targets, of_token = [IGNORED] * len(ids), [0.0] * len(ids)
    for weight, start, stop in zip(weights, starts, starts[1:], strict=False):
        if weight:
            share = weight / (stop - start) if isinstance(loss, ClippedRatioLoss) and stop > start else weight
            targets[start:stop], of_token[start:stop] = ids[start:stop], [share] * (stop - start)
    return PathRow(ids, targets, of_token, sum(bool(weight) for weight in weights))


def _pairs(rows: Sequence[PathRow]) -> list[PathPair]:
    pairs = [PathPair(*pair) for pair in zip(rows[::2], rows[1::2], strict=False)]
    whole = all(max(one.chosen.weights) > 0 > min(one.rejected.weights) for one in pairs)
    if not whole or len(rows) % 2:
        raise TrainingError("the data are no pairs of a chosen step and a rejected one; write them again")
    return pairs


def packed_as_trees(loaded: LoadedModel, rows: Sequence[Any]) -> list[PathTree]:
    """Return paths as the trees of their problems.

    Raises:
        TrainingError: if the rows are pairs, or the model does not compute a tree as it does its
            paths: some do not follow the attention mask (windows, states, relative places).
    """
    way_out = "leave tree_packing out"
    if isinstance(rows[0], PathPair):
        raise TrainingError(f"pairs cannot be packed as trees; {way_out}")
    trees = path_trees(rows)
    widest = max(trees, key=lambda tree: sum(map(len, tree.places)) - tree.num_tokens)
    if not _computes_trees(loaded, widest):
        raise TrainingError(f"this model does not compute a tree as it does its paths; {way_out}")
    return trees


@torch.no_grad()
def _computes_trees(loaded: LoadedModel, tree: PathTree) -> bool:
    loaded.model.eval()
    batches = collate_trees([tree], as_bool=_masks_are_bool(loaded)), _padded(tree.paths, loaded.pad_token_id)
    on_device = [{name: one.to(loaded.model.device) for name, one in batch.items()} for batch in batches]
    try:
        packed, alone = (target_log_probs(loaded.model, batch) for batch in on_device)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError):  # a mask of this form is nothing to the model
        return False
    return torch.allclose(packed, alone, atol=1e-3)


def _masks_are_bool(loaded: LoadedModel) -> bool:
    return bool(getattr(loaded.model.config, "_attn_implementation", None) == "sdpa")


class PathTrainer(StepLoop, Trainer):  # type: ignore[misc]
    """A loss over weighted steps. `model` is what is trained: the loaded model, or adapters around
    it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model: Any,
        rows: Sequence[Any],
        loss: Loss,
        settings: TrainingSettings,
        folder: str,
        attempt: Attempt,
    ) -> None:
        optimizer = self.set_up_loop(model, rows, settings, attempt)
        self._loss, self._pad_token_id = loss, loaded.pad_token_id
        self._masks_are_bool = _masks_are_bool(loaded)
        arguments = TrainingArguments(**training_arguments(rows, settings, folder, attempt))
        super().__init__(model=model, args=arguments, train_dataset=rows, optimizers=(optimizer, None))
        if _asks_for_old(loss, rows):
            self._rows = list(self._with_old_log_probs(rows))

    @torch.no_grad()
    def _with_old_log_probs(self, rows: Sequence[Any]) -> Iterator[Any]:
        """Yield the rows with the log-probabilities under the model as it is now: before a saved
        state is loaded that is the one that training began with.
        """
        self.model.eval()
        for start in range(0, len(rows), self.micro_batch):
            part = rows[start : start + self.micro_batch]
            batch = {name: one.to(self.args.device) for name, one in self.collate_rows(part).items()}
            with self.compute_loss_context_manager():
                log_probs = self.with_model(partial(target_log_probs, self.model, batch))
            found = iter(log_probs.tolist())
            known = [replace(one, old_log_probs=list(islice(found, one.num_targets))) for one in _sides(part)]
            if isinstance(part[0], PathPair):
                yield from map(PathPair, known[: len(part)], known[len(part) :])
            elif isinstance(part[0], PathTree):
                sides = iter(known)
                yield from (replace(tree, paths=tuple(islice(sides, len(tree.paths)))) for tree in part)
            else:
                yield from known

    def normaliser(self, rows: Sequence[Any]) -> float:
        """Return what the summed loss of a step is divided by."""
        if isinstance(self._loss, LikelihoodLoss):
            positive = sum(row.positive_weight for row in rows)
            return float(positive or sum(row.total_weight for row in rows))
        return float(sum(row.num_steps for row in rows))

    def collate_rows(self, rows: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return the tensors of a forward pass; of pairs the chosen sides, and below them the
        rejected ones.
        """
        sides = _sides(rows)
        if isinstance(rows[0], PathTree):
            batch = collate_trees(rows, as_bool=self._masks_are_bool)
        else:
            batch = _packed(sides) if self._settings.packing else _padded(sides, self._pad_token_id)
        row_of = [place for place, row in enumerate(sides) for _ in range(row.num_targets)]
        batch["row_of"] = torch.tensor(row_of)
        if sides[0].old_log_probs:
            batch["old_log_probs"] = torch.tensor([one for row in sides for one in row.old_log_probs])
        return batch

    def share_of_loss(self, inputs: dict[str, torch.Tensor], num_targets: float) -> torch.Tensor:
        """Return the loss of one forward pass, divided by the normaliser of the step."""
        log_probs = target_log_probs(self.model, inputs)
        weights = inputs["weights"]
        if "targets" in inputs:
            weights = weights[inputs["targets"] != IGNORED]
        old, row_of = inputs.get("old_log_probs"), inputs["row_of"]
        return summed_path_loss(self._loss, log_probs, old, weights, row_of) / num_targets


def _sides(rows: Sequence[Any]) -> list[PathRow]:
    if rows and isinstance(rows[0], PathPair):
        return [*(row.chosen for row in rows), *(row.rejected for row in rows)]
    if rows and isinstance(rows[0], PathTree):
        return [path for tree in rows for path in tree.paths]
    return list(rows)


def _padded(rows: Sequence[PathRow], pad_token_id: int) -> dict[str, torch.Tensor]:
    batch = {
        "input_ids": pad([row.token_ids for row in rows], pad_token_id, "int64"),
        "targets": pad([row.targets for row in rows], IGNORED, "int64"),
        "weights": pad([row.weights for row in rows], 0.0, "float32"),
    }
    if len({row.num_tokens for row in rows}) > 1:
        batch["attention_mask"] = pad([[1] * row.num_tokens for row in rows], 0, "int64")
    return batch


def _packed(rows: Sequence[PathRow]) -> dict[str, torch.Tensor]:
    """Return the rows laid end to end; from `position_ids`, which begin anew, the library keeps
    them apart. No row's first token is a target.
    """
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row.token_ids]]),
        "targets": torch.tensor([[target for row in rows for target in row.targets]]),
        "weights": torch.tensor([[weight for row in rows for weight in row.weights]]),
        "position_ids": torch.tensor([[place for row in rows for place in range(row.num_tokens)]]),
    }


def _asks_for_old(loss: Loss, rows: Sequence[Any]) -> bool:
    return not isinstance(loss, LikelihoodLoss) or any(min(row.weights) < 0.0 for row in rows)


def _logits_at(model: Any, known: dict[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """Return the logits at some places of all rows, `[rows, places, vocabulary]`."""
    if reads_large_vocabulary(model):
        logits: torch.Tensor = model(**known, use_cache=False, logits_to_keep=places).logits
        return logits
    return model(**known, use_cache=False).logits[:, places]  # type: ignore[no-any-return]


def reads_large_vocabulary(model: Any) -> bool:
    """Return whether logits of all places would cost a share of the forward pass worth saving, and
    the model can leave some out.
    """
    inner = getattr(model, "module", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    can_leave_out = "logits_to_keep" in signature(type(inner).forward).parameters
    return can_leave_out and inner.config.get_text_config().vocab_size >= _LARGE_VOCABULARY


def target_log_probs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the log-probability of every target token, row by row, `[targets]`, float32."""
    names = ("input_ids", "attention_mask", "position_ids")
    known: dict[str, torch.Tensor] = {name: batch[name] for name in names if name in batch}
    if "readers" in batch:
        places, reads = batch["readers"].unique(return_inverse=True)
        logits = _logits_at(model, known, places)
        read, wanted = logits[0, reads], batch["target_ids"]
    else:
        targets = batch["targets"][:, 1:]
        is_target = targets != IGNORED
        places = is_target.any(0).nonzero().squeeze(-1)
        logits = _logits_at(model, known, places)
        read, wanted = logits[is_target[:, places]], targets[is_target]
    found: torch.Tensor = read.float().log_softmax(-1).gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
    return found


def summed_path_loss(
    loss: Loss, log_probs: torch.Tensor, old: torch.Tensor | None, weights: torch.Tensor, row_of: torch.Tensor
) -> torch.Tensor:
    """Return the summed loss of a forward pass, a scalar; all arguments are `[targets]`.

    Args:
        old: log-probabilities under the policy that training began with; None where no weight of a
            `LikelihoodLoss` is negative.
        row_of: the row of each target; of pairs, the first half of the rows is chosen.
    """
    if isinstance(loss, LikelihoodLoss):
        return _likelihood(loss, log_probs, old, weights)
    assert old is not None
    if isinstance(loss, ClippedRatioLoss):
        ratio = (log_probs - old).exp()
        clipped = ratio.clamp(1.0 - loss.low, 1.0 + loss.high)
        return -torch.minimum(ratio * weights, clipped * weights).sum()
    assert isinstance(loss, PreferenceLoss)
    return _preference(loss, log_probs, old, weights, row_of)


def _likelihood(
    loss: LikelihoodLoss, log_probs: torch.Tensor, old: torch.Tensor | None, weights: torch.Tensor
) -> torch.Tensor:
    total = -(weights.clamp(min=0.0) * log_probs).sum()
    if old is None:
        return total
    log_ratio = log_probs - old
    pushed = weights.clamp(max=0.0).abs() * (log_ratio >= -loss.max_fall)
    return total + (pushed * log_ratio.exp().clamp(max=loss.max_ratio)).sum()


def _preference(
    loss: PreferenceLoss, log_probs: torch.Tensor, old: torch.Tensor, weights: torch.Tensor, row_of: torch.Tensor
) -> torch.Tensor:
    num_rows = int(row_of.max()) + 1

    def by_row(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(num_rows, device=values.device).index_add(0, row_of, values)

    counts = by_row(torch.ones_like(log_probs))
    gains_chosen, gains_rejected = by_row(log_probs - old).chunk(2)
    gaps = (by_row(weights) / counts).chunk(2)[0]
    likelihood = (by_row(log_probs) / counts).chunk(2)[0]
    preferred = torch.nn.functional.logsigmoid(loss.beta * (gains_chosen - gains_rejected))
    return -(gaps * preferred + loss.supervised * likelihood).sum()
