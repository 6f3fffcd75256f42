"""Implicit process rewards: how much likelier a policy finds a solution so far than the reference
that it was trained from (Yuan et al., arXiv:2412.01981, Section 3).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch

from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.scoring import Aggregation, Calibration, first_step, scored_branches, sigmoid
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.tokenization import TextEncoder
from restmcts.modeling.training.losses import IGNORED
from restmcts.modeling.training.path_training import target_log_probs
from restmcts.modeling.training.training_rows import collate, num_shared
from restmcts.modeling.value.readings import Path, Reading, token_batches
from restmcts.modeling.value.value_reading import ValueLayout


class ImplicitScorer:
    """A `StepScorer` over two policies with one tokenizer.

    The value after a step is sigmoid(beta * sum of log(policy / reference)) over the solution's
    tokens so far; what a step adds is its reward, before the sigmoid. Departure: a question's own
    tokens count in no sum, and values are in [0, 1] by the sigmoid, which is that of the paper's
    outcome loss.

    Args:
        max_batch_tokens: bound on the tokens of one forward pass, padding included; a single path
            always goes through.

    Raises:
        ModelError: if the two have other tokens.
    """

    def __init__(
        self,
        policy: LoadedModel,
        reference: LoadedModel,
        beta: float,
        max_batch_tokens: int,
        aggregation: Aggregation = "last",
        calibration: Calibration | None = None,
    ) -> None:
        if policy.tokenizer.get_vocab() != reference.tokenizer.get_vocab():
            raise ModelError(
                "format=implicit: the model and its reference have other tokens; give the one it came from"
            )
        self._models, self._beta = (policy, reference), beta
        self._prompts, self._encoder = policy.prompts, TextEncoder(policy.tokenizer, policy.prompts.template)
        self._layout = ValueLayout(policy.tokenizer, policy.prompts)
        self._max_batch_tokens, self._aggregation = max_batch_tokens, aggregation
        self._calibration = calibration or Calibration()
        limits = [model.max_context_tokens for model in self._models if model.max_context_tokens is not None]
        self._max_context = min(limits, default=None)

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; `num_scored_tokens` counts the tokens of the
        request's branches.

        Raises:
            ModelError: if a path does not fit the models' contexts.
        """
        paths = [
            [(question, request.steps + branch, first_step(request)) for branch in request.branches]
            for question, request in zip(questions, requests, strict=True)
        ]
        distinct: list[Path] = list(dict.fromkeys(path for listed in paths for path in listed))
        readings = dict(zip(distinct, map(list, self._layout.readings_of_paths(distinct)), strict=True))
        values = self._values(readings)
        answers = []
        for request, listed in zip(requests, paths, strict=True):
            num_tokens = sum(len(reading.token_ids) for path in listed for reading in readings[path])
            answers.append(scored_branches(request, [values[path] for path in listed], self._aggregation, num_tokens))
        return answers

    def _values(self, readings: Mapping[Path, list[Reading]]) -> dict[Path, list[float]]:
        asked = [(path[0], reading) for path, listed in readings.items() for reading in listed]
        prompts = dict.fromkeys(question for question, _ in asked)
        encoded = self._encoder.encode_prompts([self._prompts.question_text(question) for question in prompts])
        prompts.update(zip(prompts, encoded, strict=True))
        found: list[list[float]] = [[] for _ in asked]
        for batch in token_batches([reading for _, reading in asked], self._max_batch_tokens):
            starts = [num_shared(prompts[asked[place][0]] or [], asked[place][1].token_ids) for place in batch]
            read = self._read([asked[place][1] for place in batch], starts)
            for place, listed in zip(batch, read, strict=True):
                found[place] = listed
        in_order = iter(found)
        return {
            path: list(itertools.chain.from_iterable(next(in_order) for _ in listed))
            for path, listed in readings.items()
        }

    @torch.inference_mode()
    def _read(self, readings: Sequence[Reading], starts: Sequence[int]) -> Iterator[list[float]]:
        """Yield the values at the places of each reading, whose solution starts at that token."""
        token_ids = [reading.token_ids for reading in readings]
        if self._max_context is not None and max(map(len, token_ids)) > self._max_context:
            raise ModelError(
                f"a partial solution of {max(map(len, token_ids))} tokens does not fit the models' context of "
                f"{self._max_context}; choose models with a longer context or allow fewer steps"
            )
        # A first token has nothing before it that would predict it.
        starts = [max(start, 1) for start in starts]
        targets = [[IGNORED] * start + list(ids[start:]) for ids, start in zip(token_ids, starts, strict=True)]
        sums = [self._log_probs(model, token_ids, targets) for model in self._models]
        ratios = iter(
            (sums[0] - sums[1]).split([len(ids) - start for ids, start in zip(token_ids, starts, strict=True)])
        )
        for reading, start in zip(readings, starts, strict=True):
            so_far = next(ratios).double().cumsum(0).tolist()
            values = (sigmoid(self._beta * so_far[place - start]) for place in reading.places)
            yield [self._calibration.applied(value) for value in values]

    def _log_probs(
        self, model: LoadedModel, token_ids: Sequence[Sequence[int]], targets: Sequence[Sequence[float]]
    ) -> torch.Tensor:
        batch = collate(token_ids, targets, model.pad_token_id)
        on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
        on_device["targets"] = on_device["targets"].long()
        return target_log_probs(model.model, on_device).cpu()
