"""The value model in this process: V of every step of every branch, read by a sequence classifier with one output.

Knows requests and texts; neither trees nor true answers.
"""

import time
from collections.abc import Sequence

import torch

from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.value_reading import Reading, ValueReader, token_batches

DEFAULT_BATCH_TOKENS = 32_768
_Path = tuple[str, tuple[str, ...], int]


class TransformersScorer:
    """A `StepScorer` over a loaded value model.

    Invariants: a value depends on its own path alone, not on its batch, the padding side or the steps that follow; a text is never
    cut. `num_forward_passes`, `forward_seconds` and `num_computed_tokens` (padding not counted, a path asked for twice counted
    once) only grow.

    Args:
        loaded: a value model.
        max_batch_tokens: bound on the tokens of one forward pass, padding included; a single path always goes through.
    """

    def __init__(self, loaded: LoadedModel, max_batch_tokens: int = DEFAULT_BATCH_TOKENS) -> None:
        if loaded.kind != "value":
            raise ModelError(f"a {loaded.kind} model cannot score steps; give a value model")
        self._reader = ValueReader(loaded)
        self._max_context = loaded.max_context_tokens
        self._max_batch_tokens = max_batch_tokens
        self.num_forward_passes = 0
        self.forward_seconds = 0.0
        self.num_computed_tokens = 0

    def fits(self, question: str, request: ScoreSteps) -> bool:
        """Return whether every branch of the request lies within the model's context."""
        paths = [(question, request.steps + branch, len(request.steps) + 1) for branch in request.branches]
        return all(self._within(reading) for readings in self._reader.readings_of_paths(paths) for reading in readings)

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; `num_scored_tokens` counts the tokens of the request's branches as run.

        Raises:
            ModelError: if a path does not fit the model's context (see `fits`), or a value is not a number.
        """
        paths_of_requests: list[list[_Path]] = [
            [(question, request.steps + branch, len(request.steps) + 1) for branch in request.branches]
            for question, request in zip(questions, requests, strict=True)
        ]
        paths = list(dict.fromkeys(path for listed in paths_of_requests for path in listed))
        readings_of_path = dict(zip(paths, self._reader.readings_of_paths(paths), strict=True))
        values_of_path = self._values_of_paths(readings_of_path)
        return [
            StepsScored(
                request.number,
                tuple(values_of_path[path] for path in listed),
                sum(len(reading.token_ids) for path in listed for reading in readings_of_path[path]),
            )
            for request, listed in zip(requests, paths_of_requests, strict=True)
        ]

    @torch.inference_mode()
    def _values_of_paths(self, readings_of_path: dict[_Path, list[Reading]]) -> dict[_Path, tuple[float, ...]]:
        readings = [reading for listed in readings_of_path.values() for reading in listed]
        for reading in readings:
            if not self._within(reading):
                raise ModelError(
                    f"a partial solution of {len(reading.token_ids)} tokens does not fit the value model's context of "
                    f"{self._max_context}; choose a model with a longer context or allow fewer steps"
                )
        values: list[list[float]] = [[] for _ in readings]
        for batch in token_batches(readings, self._max_batch_tokens):
            flat = iter(self._run([readings[place] for place in batch]))
            for place in batch:
                values[place] = [next(flat) for _ in readings[place].places]
        in_order = iter(values)
        return {path: tuple(value for _ in listed for value in next(in_order)) for path, listed in readings_of_path.items()}

    def _run(self, readings: list[Reading]) -> list[float]:
        begin = time.perf_counter()
        values = self._reader.values(readings)
        finite = bool(torch.isfinite(values).all())
        self.forward_seconds += time.perf_counter() - begin
        self.num_forward_passes += 1
        self.num_computed_tokens += sum(len(reading.token_ids) for reading in readings)
        if not finite:
            raise ModelError("the value model gave a value that is not a number; its checkpoint is broken, use another")
        clamped: list[float] = values.clamp(0.0, 1.0).tolist()
        return clamped

    def _within(self, reading: Reading) -> bool:
        return self._max_context is None or len(reading.token_ids) <= self._max_context
