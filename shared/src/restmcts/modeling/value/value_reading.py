"""Where in a text a value is read, and how it is read there: shared by scoring and training, so
that both mean the same.

A causal classifier with a linear `score` head gives the value of every step of a path in one pass,
since nothing it reads at a step's end depends on what follows. Any other classifier is asked once a
prefix. Knows no requests and no datasets.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import nn

from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.prompt_rendering import PromptFormat
from restmcts.modeling.tokenization import TextEncoder
from restmcts.modeling.value.readings import Path, Reading, token_places


class StepReader(ABC):
    """A model's forward pass and the reading of its values.

    Attributes:
        trunk: of the model, which gives hidden states.
        reads_every_step: whether the values of all steps come from one pass, as what is read
            depends on nothing behind it.
    """

    trunk: Any
    reads_every_step = True

    def __init__(self, loaded: LoadedModel, trunk: Any) -> None:
        self.trunk = trunk
        self._loaded = loaded
        self.pad_token_id = loaded.pad_token_id

    @abstractmethod
    def readings_of_paths(self, paths: Sequence[Path]) -> Iterator[list[Reading]]:
        """Yield what to run of each path for the values after its steps `first`, `first` + 1,
        ...
        """

    @abstractmethod
    def values_of_states(self, states: torch.Tensor) -> torch.Tensor:
        """Return the values that are read in the trunk's last hidden states, `[N, hidden]`:
        `[N]`, float32, in [0, 1] but for a value model's own error.
        """

    def values(self, readings: Sequence[Reading]) -> torch.Tensor:
        """Return the values at all places of the readings in their order, `[places]`, float32
        and not clamped.
        """
        device = self._loaded.device
        lengths = torch.tensor([len(reading.token_ids) for reading in readings])
        longest = int(lengths.max())
        padded = np.full((len(readings), longest), self.pad_token_id, dtype=np.int64)
        is_read = np.zeros((len(readings), longest), dtype=np.bool_)
        for row, reading in enumerate(readings):
            padded[row, : len(reading.token_ids)] = reading.token_ids
            is_read[row, reading.places] = True
        ids, places = torch.from_numpy(padded), torch.from_numpy(is_read)
        mask = (torch.arange(longest) < lengths.unsqueeze(1)).long() if int(lengths.min()) < longest else None
        return self.values_at(ids.to(device), None if mask is None else mask.to(device), places.to(device))

    def values_at(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        places: torch.Tensor,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the values where `places`, `[B, T]`, is true, row by row, `[places]`; rows are
        padded on the right.
        """
        positions = {} if position_ids is None else {"position_ids": position_ids}
        states = self.trunk(input_ids=ids, attention_mask=mask, use_cache=False, **positions).last_hidden_state
        return self.values_of_states(states[places])


class ValueLayout:
    """How the texts of a value model are written, and where its values are read; knows its
    tokenizer and prompts alone.

    Args:
        reads_every_step: whether one text gives the values of all steps; else each step has a text.
    """

    def __init__(self, tokenizer: Any, prompts: PromptFormat, *, reads_every_step: bool = True) -> None:
        self._prompts = prompts
        self._encoder = TextEncoder(tokenizer, prompts.template)
        self._reads_every_step = reads_every_step

    def readings_of_paths(self, paths: Sequence[Path]) -> Iterator[list[Reading]]:
        """Yield one reading a path, or one a step where the model or the tokenizer does not
        allow it.
        """
        ends = [self._step_ends(question, steps) for question, steps, _ in paths]
        texts = [self._prompts.text(question, steps) for question, steps, _ in paths]
        encoded = self._encoder.encode_prompts_with_ends(texts) if self._reads_every_step else None
        for place, (question, steps, first) in enumerate(paths):
            numbers = list(range(first, len(steps) + 1))
            places = token_places(encoded[place], [ends[place][n - 1] for n in numbers]) if encoded else None
            if encoded and places:
                yield [Reading(encoded[place].token_ids, places, numbers)]
            else:
                yield [self._whole_prefix(question, steps[:n]) for n in numbers]

    def _step_ends(self, question: str, steps: Sequence[str]) -> list[int]:
        start = len(self._prompts.question_text(question))
        return list(accumulate(map(len, steps), initial=start))[1:]

    def _whole_prefix(self, question: str, steps: Sequence[str]) -> Reading:
        (ids,) = self._encoder.encode_prompts([self._prompts.text(question, steps)])
        if not self._reads_every_step:
            ids = ids + self._encoder.suffix
        return Reading(ids, [len(ids) - 1], [len(steps)])


class ValueReader(StepReader):
    """The reading of a value model; with `raw`, of what its head gives before any sigmoid.

    The library's own pooling is not used for a linear head: it looks for the last token that is not
    the pad token's id, which fails where a text ends in that id.
    """

    def __init__(self, loaded: LoadedModel, *, raw: bool = False) -> None:
        super().__init__(loaded, loaded.model.base_model)
        self.model = loaded.model
        self._takes_sigmoid = loaded.value_scale == "logit" and not raw
        head = getattr(loaded.model, "score", None)
        self.reads_every_step = isinstance(head, nn.Linear) and not loaded.model.config.is_encoder_decoder
        self._layout = ValueLayout(loaded.tokenizer, loaded.prompts, reads_every_step=self.reads_every_step)

    def readings(self, question: str, steps: Sequence[str], first: int) -> list[Reading]:
        """Return what to run for the values after steps `first`, `first` + 1, ... of one path."""
        return next(self.readings_of_paths([(question, steps, first)]))

    def readings_of_paths(self, paths: Sequence[Path]) -> Iterator[list[Reading]]:
        """Yield one reading a path, or one a step where the model or the tokenizer does not
        allow it.
        """
        return self._layout.readings_of_paths(paths)

    def values_at(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        places: torch.Tensor,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the values where `places` is true; of a model that is asked once a prefix, one
        a row.
        """
        if self.reads_every_step:
            return super().values_at(ids, mask, places, position_ids)
        if mask is None:
            mask = torch.ones_like(ids)
        pooled: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits[:, 0].float()
        return self._on_scale(pooled)

    def values_of_states(self, states: torch.Tensor) -> torch.Tensor:
        """Return what a linear head reads in hidden states."""
        head = self.model.score
        bias = None if head.bias is None else head.bias.float()
        return self._on_scale(nn.functional.linear(states.float(), head.weight.float(), bias).squeeze(-1))

    def _on_scale(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.sigmoid() if self._takes_sigmoid else outputs
