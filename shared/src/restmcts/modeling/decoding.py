"""Rows that are decoded in lockstep by one causal language model: prefill once a prompt, then one token a row at a time.

Knows token ids and logits only: no text, no sampling, no rule for when to stop. Works over the library's cache where the model has
one that can be re-ordered; a model without is run over the whole rows again for every token.
"""

import inspect
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from restmcts.modeling.checkpoints import LoadedModel


class ModelForward:
    """Forward passes of one model, counted and timed (seconds of wall time until the device is done)."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.model = loaded.model
        self.device = loaded.device
        self.pad_token_id = loaded.pad_token_id
        self.num_passes = 0
        self.seconds = 0.0
        self._accepted = frozenset(inspect.signature(loaded.model.forward).parameters)
        self.has_cache = self._probe_cache()

    def __call__(self, **inputs: Any) -> Any:
        """Run the model on the inputs that it accepts; those that are None are left out."""
        begin = time.perf_counter()
        given = {name: value for name, value in inputs.items() if value is not None and name in self._accepted}
        output = self.model(**given, return_dict=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.num_passes += 1
        self.seconds += time.perf_counter() - begin
        return output

    def _probe_cache(self) -> bool:
        # Asked by running it: signatures promise caches that some families never fill.
        if "past_key_values" not in self._accepted:
            return False
        with torch.inference_mode():
            token = torch.full((1, 1), self.pad_token_id, device=self.device)
            return isinstance(getattr(self.model(input_ids=token, use_cache=True), "past_key_values", None), Cache)


class LockstepRows:
    """Rows with a prompt each, all at the same number of generated tokens.

    Invariants: row i continues `prompts[prompt_of_row[i]]`; prompts are padded on the left, so every row's newest token is in the
    last column; `logits` is `[rows, vocabulary]` for each row's next token.
    """

    def __init__(self, forward: ModelForward, prompts: Sequence[Sequence[int]], prompt_of_row: Sequence[int]) -> None:
        self._forward = forward
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        longest = int(lengths.max())
        padded = np.full((len(prompts), longest), forward.pad_token_id, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            padded[row, longest - len(prompt) :] = prompt
        # Without padding no mask is needed, and attention is quicker without one.
        self._mask: torch.Tensor | None = None
        if int(lengths.min()) < longest:
            self._mask = (torch.arange(longest) >= (longest - lengths).unsqueeze(1)).long().to(forward.device)
        self._ids = torch.from_numpy(padded).to(forward.device)
        self._cache: Cache | None = None
        self.logits = self._run(self._ids)
        self.keep(torch.tensor(prompt_of_row, device=forward.device))

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order; a row may be named more than once."""
        if rows.shape[0] == self.logits.shape[0] and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self.logits = self.logits.index_select(0, rows)
        self._ids = self._ids.index_select(0, rows)
        if self._mask is not None:
            self._mask = self._mask.index_select(0, rows)
        if self._cache is not None:
            self._cache.reorder_cache(rows)  # type: ignore[arg-type]

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
