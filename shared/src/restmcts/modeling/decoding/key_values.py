"""Keys and values that a model computed, kept for the sequences that begin with the same tokens,
within a budget of memory.

Only for models whose whole state is keys and values by position (plain attention, sliding windows
too); for others `holder` is None and everything is computed. Knows no texts, requests or trees.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from restmcts.modeling.decoding.forward import ModelForward
from restmcts.modeling.decoding.prefix_index import Ints, PrefixIndex, shared_beginnings

DEFAULT_KEY_VALUE_BYTES = 2**30
_FIRST_SLOTS = 1024
# A beginning shorter than this is computed anew: a forward pass of its own costs more.
_MIN_SHARED_TOKENS = 16
# Rows of one pass may differ in length until padding is this share of it.
_MAX_PADDING_SHARE = 0.25
_ALWAYS_TOGETHER_TOKENS = 256
# Their rotations change with the length of the whole text, so that nothing computed for a shorter
# one holds.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


def holder(forward: ModelForward, max_bytes: int) -> "KeyValues | None":
    """Return where the model's keys and values can be kept; None if they cannot, or not one
    token fits the budget.
    """
    layers = _probe(forward)
    if layers is None:
        return None
    num_bytes = sum(tensor.numel() * tensor.element_size() for layer in layers for tensor in layer)
    return KeyValues(forward, layers, max_bytes // num_bytes) if max_bytes >= num_bytes else None


class KeyValues:
    """The kept keys and values of one model.

    Invariants: at most `index.capacity` tokens are kept; memory is allocated as it is needed.
    `num_computed_tokens` and `num_padding_tokens` (of `extend`) only grow.
    """

    def __init__(self, forward: ModelForward, like: Sequence[Sequence[torch.Tensor]], capacity: int) -> None:
        self._forward = forward
        self.index = PrefixIndex(capacity)
        # Two tensors a layer, [slots, heads, head size]; the first dimension grows.
        self._kept = [[tensor.new_zeros((0, tensor.shape[1], tensor.shape[3])) for tensor in layer] for layer in like]
        self.num_computed_tokens = 0
        self.num_padding_tokens = 0

    def forget(self) -> None:
        """Give up all that is kept, and its memory."""
        self.index = PrefixIndex(self.index.capacity)
        self._kept = [[tensor.new_zeros((0, *tensor.shape[1:])) for tensor in layer] for layer in self._kept]

    def gather(self, rows: Sequence[Ints]) -> tuple[DynamicCache, torch.Tensor]:
        """Return a cache that holds each row's slots, right-aligned, and its mask, `[rows,
        longest]`.
        """
        longest = max(len(row) for row in rows)
        slots = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for place, row in enumerate(rows):
            slots[place, longest - len(row) :] = row
            mask[place, longest - len(row) :] = 1
        cache = DynamicCache()
        flat = torch.from_numpy(slots.reshape(-1)).to(self._forward.device)
        for number, layer in enumerate(self._kept if longest else []):
            keys, values = (t.index_select(0, flat).unflatten(0, slots.shape).transpose(1, 2) for t in layer)
            cache.update(keys, values, number)
        return cache, torch.from_numpy(mask).to(self._forward.device)

    def keep(self, cache: Any, sequences: Sequence[Ints], rows: Sequence[int], first_columns: Sequence[int]) -> None:
        """Keep what a cache holds of these sequences: token t of sequence i is in row
        `rows[i]`, column `first_columns[i] + t`.
        """
        slots, from_rows, from_columns = [], [], []
        for tokens, row, first_column in zip(sequences, rows, first_columns, strict=True):
            start, new = self.index.add(tokens)
            slots.append(new)
            from_rows.append(np.full(len(new), row))
            from_columns.append(np.arange(len(new)) + first_column + start)
        to = torch.from_numpy(np.concatenate(slots)).to(self._forward.device) if slots else None
        if to is None or not len(to):
            return
        self._grow(int(to.max()) + 1)
        row_index, column_index = (
            torch.from_numpy(np.concatenate(each)).to(self._forward.device) for each in (from_rows, from_columns)
        )
        for kept, layer in zip(self._kept, cache.layers, strict=True):
            for tensor, source in zip(kept, (layer.keys, layer.values), strict=True):
                tensor[to] = source[row_index, :, column_index]

    def extend(self, sequences: Sequence[Ints], kept: Sequence[Ints]) -> Any:
        """Run the model over what of each sequence lies behind its kept slots (at least a token),
        and keep that too.

        Returns:
            The model's output; token t of sequence i is in row i, column `t - len(kept[i])`.
        """
        news = [tokens[len(slots) :] for tokens, slots in zip(sequences, kept, strict=True)]
        lengths = np.array([len(new) for new in news])
        ids = np.full((len(news), lengths.max()), self._forward.pad_token_id, dtype=np.int64)
        for row, new in enumerate(news):
            ids[row, : len(new)] = new
        cache, mask = self.gather(kept)
        num_before = mask.shape[1]
        is_new = torch.from_numpy((np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)).to(mask.device)
        mask = torch.cat([mask, is_new], dim=1)
        output = self._forward(
            input_ids=torch.from_numpy(ids).to(mask.device),
            attention_mask=None if bool(mask.all()) else mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp_(min=0)[:, num_before:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.num_computed_tokens += int(lengths.sum())
        self.num_padding_tokens += int(ids.size - lengths.sum())
        self.keep(output.past_key_values, sequences, range(len(news)), [num_before - len(slots) for slots in kept])
        return output

    def prefill(self, sequences: Sequence[Ints], max_batch_tokens: int) -> list[int]:
        """Compute and keep all of these sequences, what several share once; return how many tokens
        were computed for each.

        A shared beginning counts for the first of those that share it.
        """
        computed = self.prefill_shared(sequences, max_batch_tokens)
        whole = [(place, len(tokens)) for place, tokens in enumerate(sequences) if len(tokens)]
        self._prefill(sequences, whole, max_batch_tokens, computed)
        return computed

    def prefill_shared(self, sequences: Sequence[Ints], max_batch_tokens: int) -> list[int]:
        """Compute and keep what several of these sequences begin with; see `prefill`."""
        computed = [0] * len(sequences)
        for level in shared_beginnings(sequences, _MIN_SHARED_TOKENS):
            self._prefill(sequences, level, max_batch_tokens, computed)
        return computed

    def _prefill(
        self, sequences: Sequence[Ints], level: Sequence[tuple[int, int]], max_batch_tokens: int, computed: list[int]
    ) -> None:
        wanted = [(place, sequences[place][:length]) for place, length in level]
        missing = [(place, tokens) for place, tokens in wanted if len(self.index.find(tokens)) < len(tokens)]
        sizes = [(len(tokens), len(self.index.find(tokens))) for _, tokens in missing]
        for batch in extension_batches(sizes, max_batch_tokens):
            chosen = [missing[number] for number in batch]
            kept = [self.index.find(tokens)[: len(tokens) - 1] for _, tokens in chosen]
            self.extend([tokens for _, tokens in chosen], kept)
            for (place, tokens), slots in zip(chosen, kept, strict=True):
                computed[place] += len(tokens) - len(slots)

    def _grow(self, num_slots: int) -> None:
        present = self._kept[0][0].shape[0]
        if num_slots <= present:
            return
        wanted = min(self.index.capacity, max(num_slots, 2 * present, _FIRST_SLOTS))
        for layer in self._kept:
            for place, tensor in enumerate(layer):
                grown = tensor.new_zeros((wanted, *tensor.shape[1:]))
                grown[:present] = tensor
                layer[place] = grown


def extension_batches(sizes: Sequence[tuple[int, int]], max_batch_tokens: int) -> Iterator[list[int]]:
    """Yield places in `sizes`, (all tokens, kept tokens), in batches that fit the budget with
    padding, and pad little.
    """
    batch: list[int] = []
    most_kept, num_new = 0, 0
    for place in sorted(range(len(sizes)), key=lambda place: (sizes[place][0] - sizes[place][1], sizes[place])):
        whole, kept = sizes[place]
        longest, rows = whole - kept, len(batch) + 1
        area = rows * longest
        uneven = area > _ALWAYS_TOGETHER_TOKENS and area - num_new - longest > _MAX_PADDING_SHARE * area
        if batch and (rows * (longest + max(most_kept, kept)) > max_batch_tokens or uneven):
            yield batch
            batch, most_kept, num_new = [], 0, 0
        batch.append(place)
        most_kept, num_new = max(most_kept, kept), num_new + longest
    if batch:
        yield batch


def _probe(forward: ModelForward) -> list[list[torch.Tensor]] | None:
    """Return the keys and values of one token by layer, `[1, heads, 1, head size]`; None if
    more than that must be remembered.
    """
    if not forward.layer_types or not forward.layer_types <= {DynamicLayer, DynamicSlidingWindowLayer}:
        return None
    rope = getattr(forward.model.config.get_text_config(), "rope_parameters", None) or {}
    if rope.get("rope_type") in _LENGTH_DEPENDENT_ROPE:
        return None
    token = torch.full((1, 1), forward.pad_token_id, device=forward.device)
    with torch.inference_mode():
        cache = forward.model(input_ids=token, past_key_values=DynamicCache(), use_cache=True).past_key_values
    layers = [[layer.keys, layer.values] for layer in cache.layers]
    return (
        layers
        if all(isinstance(tensor, torch.Tensor) and tensor.shape[2] == 1 for pair in layers for tensor in pair)
        else None
    )
