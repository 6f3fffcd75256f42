"""Forward passes of one model, counted and timed. Knows token ids and tensors only."""

import inspect
import time
from typing import Any

import torch
from transformers.cache_utils import Cache

from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.decoding.half_attention import use_half_attention


class ModelForward:
    """Forward passes of one model, counted and timed (seconds of wall time until the device is
    done).

    Args:
        loaded: whose device and pad token are used.
        module: of it, to run instead of the whole model.
    """

    def __init__(self, loaded: LoadedModel, module: Any = None) -> None:
        use_half_attention(loaded)
        self.model = loaded.model if module is None else module
        self.device = loaded.device
        self.pad_token_id = loaded.pad_token_id
        self.num_passes = 0
        self.seconds = 0.0
        self._accepted = frozenset(inspect.signature(self.model.forward).parameters)
        # Of the cache that the model makes for itself; empty: it makes none.
        self.layer_types = self._probe_cache()

    @property
    def has_cache(self) -> bool:
        """Whether the model remembers what it has read."""
        return bool(self.layer_types)

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

    def _probe_cache(self) -> frozenset[type]:
        # Asked by running it: signatures promise caches that some families never fill.
        if "past_key_values" not in self._accepted:
            return frozenset()
        with torch.inference_mode():
            token = torch.full((1, 1), self.pad_token_id, device=self.device)
            cache = getattr(self.model(input_ids=token, use_cache=True), "past_key_values", None)
        return frozenset(map(type, cache.layers)) if isinstance(cache, Cache) else frozenset()
