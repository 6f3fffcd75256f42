"""The value model in this process: V of every step of every branch, read by a sequence classifier
with one output.

Knows requests and texts; neither trees nor true answers.
"""

import itertools
import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.scoring import Aggregation, first_step, scored_branches
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.decoding.forward import ModelForward
from restmcts.modeling.decoding.key_values import DEFAULT_KEY_VALUE_BYTES, KeyValues, extension_batches, holder
from restmcts.modeling.value.readings import Reading, token_batches
from restmcts.modeling.value.value_reading import StepReader, ValueReader

DEFAULT_BATCH_TOKENS = 32_768
_Path = tuple[str, tuple[str, ...], int]


class TransformersScorer:
    """A `StepScorer` over a loaded value model.

    Invariants: a value depends on its own path alone, not on its batch, the padding side, the steps
    that follow, or what is kept of earlier ones; a text is never cut; what is calibrated is each
    step's value, before a whole solution's score is made of them. `num_forward_passes`,
    `forward_seconds`, `num_computed_tokens` (padding not counted) and `num_padding_tokens` only
    grow.

    Args:
        loaded: a value model.
        max_batch_tokens: bound on the tokens of one forward pass, padding included; a single path
            always goes through.
        key_value_bytes: bound on the memory for keys and values that are kept between calls; 0:
            none are.
        reader: of a process reward model in another format; None: of a value model.
        aggregation: of the steps' values to a whole solution's score.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
        key_value_bytes: int = DEFAULT_KEY_VALUE_BYTES,
        reader: StepReader | None = None,
        aggregation: Aggregation = "last",
    ) -> None:
        if loaded.kind != "value":
            raise ModelError(f"a {loaded.kind} model cannot score steps; give a value model")
        self._reader = reader or ValueReader(loaded)
        self._max_context, self._calibration = loaded.max_context_tokens, loaded.calibration
        self._max_batch_tokens = max_batch_tokens
        self._aggregation = aggregation
        self._forward = ModelForward(loaded, self._reader.trunk)
        self._kept = holder(self._forward, key_value_bytes) if self._reader.reads_every_step else None
        self.num_forward_passes = 0
        self.forward_seconds = 0.0
        self.num_computed_tokens = 0
        self.num_padding_tokens = 0

    def spare_memory(self) -> None:
        """Forget the keys and values that are kept; what they are needed for is computed again."""
        if self._kept is not None:
            self._kept.forget()

    def fits(self, question: str, request: ScoreSteps) -> bool:
        """Return whether every branch of the request lies within the model's context."""
        found = self._reader.readings_of_paths(_paths(question, request))
        return all(self._within(reading) for readings in found for reading in readings)

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; `num_scored_tokens` counts the tokens of the
        request's branches.

        Raises:
            ModelError: if a path does not fit the model's context (see `fits`), or a value is not a
                number.
        """
        paths_of_requests = [_paths(question, request) for question, request in zip(questions, requests, strict=True)]
        paths = list(dict.fromkeys(path for listed in paths_of_requests for path in listed))
        readings_of_path = dict(zip(paths, self._reader.readings_of_paths(paths), strict=True))
        flat = [reading for listed in readings_of_path.values() for reading in listed]
        self._check_context(flat)
        in_order = iter(zip(*self._values(flat), strict=True))
        values_of_path: dict[_Path, tuple[float, ...]] = {}
        num_computed: dict[_Path, int] = {}
        for path, readings in readings_of_path.items():
            read = [next(in_order) for _ in readings]
            values_of_path[path] = tuple(value for values, _ in read for value in values)
            num_computed[path] = sum(count for _, count in read)
        answers = []
        for request, listed in zip(requests, paths_of_requests, strict=True):
            num_tokens = sum(len(reading.token_ids) for path in listed for reading in readings_of_path[path])
            # The first request with a path pays for it.
            num_reused = num_tokens - sum(num_computed.pop(path, 0) for path in listed)
            values = [values_of_path[path] for path in listed]
            answers.append(scored_branches(request, values, self._aggregation, num_tokens, num_reused))
        return answers

    def _check_context(self, readings: Sequence[Reading]) -> None:
        for reading in readings:
            if not self._within(reading):
                raise ModelError(
                    f"a partial solution of {len(reading.token_ids)} tokens does not fit the value model's context of "
                    f"{self._max_context}; choose a model with a longer context or allow fewer steps"
                )

    @torch.inference_mode()
    def _values(self, readings: Sequence[Reading]) -> tuple[list[list[float]], list[int]]:
        """Return each reading's values, and how many tokens were computed for it."""
        begin = time.perf_counter()
        if self._kept is None:
            counts = [len(reading.token_ids) for reading in readings]
            values = self._values_without_reuse(readings)
        else:
            values, counts = self._values_with_reuse(self._kept, readings)
        self.forward_seconds += time.perf_counter() - begin
        self.num_computed_tokens += sum(counts)
        if not all(map(math.isfinite, itertools.chain.from_iterable(values))):
            raise ModelError("the value model gave a value that is not a number; its checkpoint is broken, use another")
        if self._calibration is not None:
            values = [[self._calibration.applied(value) for value in listed] for listed in values]
        return values, counts

    def _values_without_reuse(self, readings: Sequence[Reading]) -> list[list[float]]:
        values: list[list[float]] = [[] for _ in readings]
        for batch in token_batches(readings, self._max_batch_tokens):
            flat = iter(self._reader.values([readings[place] for place in batch]).clamp(0.0, 1.0).tolist())
            self.num_forward_passes += 1
            for place in batch:
                values[place] = [next(flat) for _ in readings[place].places]
        return values

    def _values_with_reuse(self, kept: KeyValues, readings: Sequence[Reading]) -> tuple[list[list[float]], list[int]]:
        kept.index.tick()
        passes, padding = self._forward.num_passes, kept.num_padding_tokens
        values: list[list[float]] = [[] for _ in readings]
        tokens = [np.array(reading.token_ids[: reading.places[-1] + 1]) for reading in readings]
        # From its first place on, a reading needs the model's states themselves.
        before = [ids[: reading.places[0]] for ids, reading in zip(tokens, readings, strict=True)]
        counts = kept.prefill_shared(before, self._max_batch_tokens)
        sizes = [(len(ids), len(kept.index.find(known))) for ids, known in zip(tokens, before, strict=True)]
        for batch in extension_batches(sizes, self._max_batch_tokens):
            slots = [kept.index.find(before[place]) for place in batch]
            states = kept.extend([tokens[place] for place in batch], slots).last_hidden_state
            rows = [row for row, place in enumerate(batch) for _ in readings[place].places]
            columns = [
                at - len(found) for place, found in zip(batch, slots, strict=True) for at in readings[place].places
            ]
            flat = iter(self._reader.values_of_states(states[rows, columns]).clamp(0.0, 1.0).tolist())
            for place, found in zip(batch, slots, strict=True):
                values[place] = [next(flat) for _ in readings[place].places]
                counts[place] += len(tokens[place]) - len(found)
        self.num_forward_passes += self._forward.num_passes - passes
        self.num_padding_tokens += kept.num_padding_tokens - padding
        return values, counts

    def _within(self, reading: Reading) -> bool:
        return self._max_context is None or len(reading.token_ids) <= self._max_context


def _paths(question: str, request: ScoreSteps) -> list[_Path]:
    return [(question, request.steps + branch, first_step(request)) for branch in request.branches]
