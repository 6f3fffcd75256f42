"""Rows that are decoded together by one causal language model: prefill once a prompt, then one
token a row at a time; rows that wait may join those that are under way.

Knows token ids and logits only: no text, no sampling, no rule for when to stop. Works over the
library's cache where the model has one that can be re-ordered; a model without is run over the
whole rows again for every token. What is kept of the keys and values of earlier rows is not
computed again.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

from restmcts.modeling.decoding.forward import ModelForward
from restmcts.modeling.decoding.key_values import KeyValues
from restmcts.modeling.decoding.prefix_index import Ints


def can_join(forward: ModelForward) -> bool:
    """Return whether rows of that model can join others that have generated more: all it remembers
    is keys and values of every place.
    """
    return forward.layer_types == {DynamicLayer}


class DecodingRows:
    """Rows with a prompt each.

    Invariants: row i continues `prompts[prompt_of_row[i]]`; rows are padded on the left, so every
    row's newest token is in the last column; `logits` is `[rows, vocabulary]` for each row's next
    token.

    Args:
        kept: where all of every prompt but its last token is kept; None: prompts are computed here.
    """

    def __init__(
        self,
        forward: ModelForward,
        prompts: Sequence[Ints],
        prompt_of_row: Sequence[int],
        kept: KeyValues | None = None,
    ) -> None:
        self._forward = forward
        lengths = np.array([len(prompt) for prompt in prompts])
        # Of each row's prompt, in the cache.
        self._first_columns = lengths.max() - lengths
        self._cache: Cache | None = None
        self._mask: torch.Tensor | None = None
        if kept is None:
            ids, mask = self._padded(prompts)
        else:
            ids = torch.from_numpy(np.array([prompt[-1:] for prompt in prompts])).to(forward.device)
            self._cache, before = kept.gather([kept.index.find(prompt[:-1]) for prompt in prompts])
            mask = torch.cat([before, torch.ones_like(ids)], dim=1)
        # Without padding no mask is needed, and attention is quicker without one.
        if not bool(mask.all()):
            self._mask = mask
        self._ids = ids
        self.logits = self._run(ids)
        self.keep(torch.tensor(prompt_of_row, device=forward.device))

    def _padded(self, prompts: Sequence[Ints]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, prompts))
        ids = np.full((len(prompts), longest), self._forward.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = prompt
            mask[row, longest - len(prompt) :] = 1
        return torch.from_numpy(ids).to(self._forward.device), torch.from_numpy(mask).to(self._forward.device)

    def save(self, kept: KeyValues, rows: Ints, sequences: Sequence[Ints]) -> None:
        """Keep the keys and values of these rows' tokens, prompt and generated ones, as far as
        they were computed.
        """
        if self._cache is None:
            return
        first = self._first_columns[rows].tolist()
        num_columns = self._cache.get_seq_length()
        computed = [tokens[: num_columns - column] for tokens, column in zip(sequences, first, strict=True)]
        kept.keep(self._cache, computed, rows.tolist(), first)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order; a row may be named more than once."""
        if rows.shape[0] == self.logits.shape[0] and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self._first_columns = self._first_columns[rows.cpu().numpy()]
        self.logits = self.logits.index_select(0, rows)
        if self._cache is None:
            self._ids = self._ids.index_select(0, rows)
        if self._mask is not None:
            self._mask = self._mask.index_select(0, rows)
        if self._cache is not None:
            self._cache.reorder_cache(rows)

    def join(self, others: "DecodingRows") -> None:
        """Go on with the rows of others too, behind these; only where `can_join`, and the others
        are not used again.
        """
        assert self._cache is not None and others._cache is not None
        self._drop_padding()
        columns, new_columns = self._cache.get_seq_length(), others._cache.get_seq_length()
        behind, new_behind = max(new_columns - columns, 0), max(columns - new_columns, 0)
        masks = pad(self._whole_mask(), (behind, 0)), pad(others._whole_mask(), (new_behind, 0))
        self._mask = torch.cat(masks)
        for layer, new in zip(self._cache.layers, others._cache.layers, strict=True):
            layer.keys = torch.cat([pad(layer.keys, (0, 0, behind, 0)), pad(new.keys, (0, 0, new_behind, 0))])
            layer.values = torch.cat([pad(layer.values, (0, 0, behind, 0)), pad(new.values, (0, 0, new_behind, 0))])
        self._first_columns = np.concatenate([self._first_columns + behind, others._first_columns + new_behind])
        self.logits = torch.cat([self.logits, others.logits])

    def _drop_padding(self) -> None:
        """Forget the columns in which no row is left."""
        assert self._cache is not None
        unused = int(self._first_columns.min())
        if self._mask is None or not unused:
            return
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]
        self._mask, self._first_columns = self._mask[:, unused:], self._first_columns - unused

    def _whole_mask(self) -> torch.Tensor:
        if self._mask is not None:
            return self._mask
        assert self._cache is not None
        return self._ids.new_ones((self.logits.shape[0], self._cache.get_seq_length()))

    def append(self, token_ids: torch.Tensor) -> None:
        """Add one token to every row, `[rows]`, and compute the logits of the next."""
        newest = token_ids.to(self._ids.device).unsqueeze(1)
        if self._mask is not None:
            self._mask = torch.cat([self._mask, torch.ones_like(newest)], dim=1)
        if self._cache is None:
            self._ids = torch.cat([self._ids, newest], dim=1)
            newest = self._ids
        self.logits = self._run(newest)

    def _run(self, ids: torch.Tensor) -> torch.Tensor:
        positions = None
        if self._mask is not None:
            positions = (self._mask.cumsum(dim=1) - 1).clamp_(min=0)[:, -ids.shape[1] :]
        output = self._forward(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=self._forward.has_cache,
            logits_to_keep=1,
        )
        if self._forward.has_cache:
            self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1]
        return logits
