"""The policy in this process: continues partial solutions with a causal language model of the
transformers library.

Knows requests and texts; which tree they belong to, and what the steps are worth, it does not.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from restmcts.domain.requests import (
    SEPARATORS,
    STEP_SEPARATOR,
    GenerationSettings,
    ProposeSteps,
    Sample,
    StepsProposed,
)
from restmcts.domain.segmenters import CODE_LINES, SEGMENTERS, Segmenter, thought_is_open
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.decoding.continuous_batch import ContinuousBatch, QueuedRow, RowSampling
from restmcts.modeling.decoding.forward import ModelForward
from restmcts.modeling.decoding.key_values import DEFAULT_KEY_VALUE_BYTES, holder
from restmcts.modeling.decoding.prefix_index import Ints
from restmcts.modeling.decoding.stopping import Continuations, StopRules
from restmcts.modeling.decoding.token_sampling import sample_key
from restmcts.modeling.policy.seen_separator import TRIAL_QUESTIONS, TRIAL_SETTINGS, separator_in
from restmcts.modeling.prompt_rendering import PromptFormat, choose_template
from restmcts.modeling.tokenization import TextDecoder, TextEncoder
from restmcts.ports import MayBegin, always

log = logging.getLogger(__name__)
DEFAULT_BATCH_TOKENS = 32_768
# The first guess of a step's length; from then on the mean of what the policy wrote.
_FIRST_EXPECTED_TOKENS = 32.0
_KEPT_OF_EXPECTED = 0.9


class TransformersProposer:
    """A `StepProposer` over a loaded policy.

    Invariants: a sample depends on its request's seed and inputs alone, not on what it is batched
    with, nor on what was kept of earlier ones; what several prompts of a batch begin with is
    prefilled once, and not at all if its keys and values are kept; a question is never cut.
    `num_forward_passes`, `forward_seconds`, `num_prefill_tokens` (as computed, padding not counted)
    and `num_generated_tokens` only grow.

    Args:
        loaded: a policy.
        max_batch_tokens: bound on rows x (prompt + expected new tokens) of one batch; a single row
            always goes through.
        key_value_bytes: bound on the memory for keys and values that are kept between calls; 0:
            none are.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
        key_value_bytes: int = DEFAULT_KEY_VALUE_BYTES,
    ) -> None:
        if loaded.kind != "policy":
            raise ModelError(f"a {loaded.kind} model cannot propose steps; give a policy")
        self._tokenizer = loaded.tokenizer
        self._encoder = TextEncoder(loaded.tokenizer, loaded.prompts.template)
        self._written = {"auto": (loaded.prompts, self._encoder)}
        self._forward = ModelForward(loaded)
        self._batch = ContinuousBatch(self._forward, holder(self._forward, key_value_bytes), max_batch_tokens)
        self._max_context = loaded.max_context_tokens
        head = loaded.model.get_output_embeddings()
        vocabulary_size = loaded.model.config.get_text_config().vocab_size if head is None else head.weight.shape[0]
        decoder = TextDecoder(loaded.tokenizer)
        self._separator = loaded.prompts.step_separator
        self._rules = StopRules(
            decoder, STEP_SEPARATOR, _end_token_ids(loaded), vocabulary_size, keeps_text=decoder.keeps_text()
        )
        self._expected: dict[int | None, float] = {}
        self.num_generated_tokens = 0

    @property
    def num_forward_passes(self) -> int:
        """Calls of the model so far."""
        return self._forward.num_passes

    @property
    def num_prefill_tokens(self) -> int:
        """Tokens of prompts computed so far."""
        return self._batch.num_prefill_tokens

    @property
    def forward_seconds(self) -> float:
        """Wall time spent inside the model so far."""
        return self._forward.seconds

    def fits(self, question: str, request: ProposeSteps, settings: GenerationSettings) -> bool:
        """Return whether the request's prompt leaves room in the context for one step."""
        _, (prompt,), _ = self._encode([question], [request], settings.template)
        return self._room(len(prompt)) >= settings.max_step_tokens

    def spare_memory(self) -> None:
        """Forget the keys and values that are kept; what they are needed for is computed again."""
        self._batch.forget()

    def propose(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        """Return one answer per request, in order; one without samples where a partial solution
        does not fit (see `fits`).

        A sample has `ended` set when the policy gave an end token, or its last step states an
        answer. Sampled rows draw at `settings.temperature`; log-probabilities are at temperature 1.

        Raises:
            ModelError: if a question by itself does not fit, or a request asks for nothing.
        """
        answers = dict(self.stream(questions, requests, settings))
        return [answers[place] for place in range(len(requests))]

    def stream(
        self,
        questions: Sequence[str],
        requests: Sequence[ProposeSteps],
        settings: GenerationSettings,
        may_begin: MayBegin = always,
    ) -> Iterator[tuple[int, StepsProposed]]:
        """Yield the answers of `propose`, each with its request's place, when all with its prompt
        are written, or no more of them are started.

        Args:
            may_begin: as `StreamingProposer.stream` says.
        """
        self._segmenter_for(settings)
        prompt_of_request, encoded, in_thought = self._encode(questions, requests, settings.template)
        prompts = [np.array(tokens) for tokens in encoded]
        rows = list(self._rows(requests, [(place, len(prompts[place])) for place in prompt_of_request], settings))
        samples: list[dict[int, Sample]] = [{} for _ in requests]
        num_computed = [0] * len(prompts)
        num_open, num_left = Counter(row.prompt for row in rows), Counter(row.request for row in rows)
        with_prompt: dict[int, list[int]] = {prompt: [] for prompt in range(len(prompts))}
        for place, prompt in enumerate(prompt_of_request):
            with_prompt[prompt].append(place)

        def answers(prompt: int) -> Iterator[tuple[int, StepsProposed]]:
            for place in with_prompt[prompt]:
                if num_left[place]:
                    continue
                num_tokens = len(prompts[prompt])
                # The first request with a prompt pays for it. A prompt that was split over batches
                # may have cost more than itself.
                num_reused = max(num_tokens - num_computed[prompt], 0) if samples[place] else 0
                num_computed[prompt] = 0
                written = [sample for _, sample in sorted(samples[place].items())]
                if requests[place].greedy:
                    written *= requests[place].num_samples
                yield place, StepsProposed(requests[place].number, tuple(written), num_tokens, num_reused)

        for prompt in set(with_prompt) - set(num_open):
            yield from answers(prompt)
        for row, sample in self._generate(rows, prompts, in_thought, num_computed, requests, settings, may_begin):
            samples[row.request][row.sample] = sample
            num_open[row.prompt] -= 1
            num_left[row.request] -= 1
            if not num_open[row.prompt]:
                yield from answers(row.prompt)
        for prompt, count in num_open.items():
            if count:
                yield from answers(prompt)

    def _encode(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], template: str
    ) -> tuple[list[int], list[list[int]], list[bool]]:
        """Return the place of each request's prompt among the distinct ones, those, and whether
        each of them leaves a thought open.
        """
        prompts = self._prompts(template)
        encoder = self._written[template][1]
        texts = [prompts.request_text(question, request) for question, request in zip(questions, requests, strict=True)]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        places, in_thought = [distinct[text] for text in texts], [thought_is_open(text) for text in distinct]
        return places, encoder.encode_prompts(list(distinct)), in_thought

    def _prompts(self, template: str) -> PromptFormat:
        if template not in self._written:
            own = self._written["auto"][0]
            prompts = PromptFormat(choose_template(template, self._tokenizer), self._tokenizer, own.step_separator)
            self._written[template] = prompts, TextEncoder(self._tokenizer, prompts.template)
        return self._written[template][0]

    def _rows(
        self, requests: Sequence[ProposeSteps], prompts: Sequence[tuple[int, int]], settings: GenerationSettings
    ) -> Iterator[QueuedRow]:
        for place, (request, (prompt, num_prompt_tokens)) in enumerate(zip(requests, prompts, strict=True)):
            room = self._room(num_prompt_tokens)
            if room < settings.max_step_tokens:
                if not request.steps and not request.begun:
                    raise ModelError(
                        f"the question takes {num_prompt_tokens} tokens, which with a step of {settings.max_step_tokens} do not "
                        f"fit the policy's context of {self._max_context}; take one with a longer context, or shorter steps"
                    )
                continue
            max_steps = settings.max_solution_tokens if request.max_steps is None else request.max_steps
            max_tokens = min(settings.max_solution_tokens, room)
            # Where text is kept, a thought is one step however long, and any other that is too long
            # ends with its word.
            if not self._rules.keeps_text or request.critic is not None:
                max_tokens = min(max_tokens, max_steps * settings.max_step_tokens)
            if max_tokens < 1:
                raise ModelError(f"request {request.number} asks for no step or no token; ask for at least one")
            expected = self._expected.get(request.max_steps, _FIRST_EXPECTED_TOKENS)
            for sample in range(min(request.num_samples, 1) if request.greedy else request.num_samples):
                yield QueuedRow(
                    place, sample, prompt, num_prompt_tokens, max_steps, max_tokens, min(expected, max_tokens)
                )

    @torch.inference_mode()
    def _generate(
        self,
        rows: Sequence[QueuedRow],
        prompts: Sequence[Ints],
        in_thought: Sequence[bool],
        num_computed: list[int],
        requests: Sequence[ProposeSteps],
        settings: GenerationSettings,
        may_begin: MayBegin,
    ) -> Iterator[tuple[QueuedRow, Sample]]:
        """Yield each row with its sample once it is written; `num_computed`, by prompt, grows by
        the tokens that had to be computed.
        """
        if not rows:
            return
        # Prompts of one length together need no padding.
        queue = sorted(rows, key=lambda row: (row.num_prompt_tokens, row.prompt, row.request, row.sample))
        asked = [requests[row.request] for row in queue]
        num_alternatives = np.array([request.num_alternatives for request in asked])
        written = Continuations(
            self._rules.divided_by(self._segmenter_for(settings)),
            np.array([row.max_steps for row in queue]),
            np.array([row.max_tokens for row in queue]),
            settings.max_step_tokens,
            [self._start_tokens(request.begun) for request in asked],
            num_alternatives,
            np.array([-np.inf if each.min_log_prob is None else each.min_log_prob for each in asked]),
            as_lines=np.array([request.critic is not None for request in asked]),
            in_thought=[in_thought[row.prompt] for row in queue],
        )
        # One more, because the token that was chosen may be among them.
        sampling = RowSampling(
            np.array([sample_key(r.seed, row.sample) for r, row in zip(asked, queue, strict=True)], dtype=np.uint64),
            np.array([request.greedy for request in asked]),
            settings,
            num_top=int(num_alternatives.max()) + 1 if num_alternatives.any() else 0,
        )
        for place in self._batch.decode(queue, written, sampling, prompts, num_computed, may_begin):
            sample = written.sample(place)
            self.num_generated_tokens += sample.num_tokens
            yield queue[place], sample
        self._expect(rows=queue, num_tokens=written.num_tokens, requests=requests)

    def _segmenter_for(self, settings: GenerationSettings) -> Segmenter:
        """Return what divides steps: what the run says, the checkpoint, or the model's own text."""
        if self._prompts(settings.template).is_code:
            return replace(CODE_LINES, split_thoughts=settings.split_thoughts)
        segmenter = SEGMENTERS.get(settings.step_separator)
        if segmenter is None:
            if self._separator is None:
                self._separator = self._seen_separator() if self._rules.keeps_text else STEP_SEPARATOR
            segmenter = Segmenter(self._separator)
        return replace(segmenter, split_thoughts=settings.split_thoughts)

    def _seen_separator(self) -> str:
        requests = [ProposeSteps(number, (), 1, None, seed=0, greedy=True) for number in range(len(TRIAL_QUESTIONS))]
        if not self.fits(TRIAL_QUESTIONS[0], requests[0], TRIAL_SETTINGS):
            return STEP_SEPARATOR
        answers = self.propose(TRIAL_QUESTIONS, requests, TRIAL_SETTINGS)
        found = separator_in(["".join(step.text for step in each.samples[0].steps) for each in answers])
        name = next(name for name, separator in SEPARATORS.items() if separator == found)
        log.info("the policy ends its steps with a %s, as its answers to %d questions show", name, len(requests))
        return found

    def _start_tokens(self, text: str) -> list[int]:
        """Return the tokens of a given beginning, for the text of its step only: the prompt is
        encoded as a whole.
        """
        return self._encoder.encode([text])[0][len(self._encoder.prefix) :] if text else []

    def _room(self, num_prompt_tokens: int) -> int:
        return 2**31 if self._max_context is None else self._max_context - num_prompt_tokens

    def _expect(self, rows: Sequence[QueuedRow], num_tokens: Ints, requests: Sequence[ProposeSteps]) -> None:
        """Learn from what was written how long the next steps will be."""
        max_steps = [requests[row.request].max_steps for row in rows]
        for asked in set(max_steps):
            mean = float(num_tokens[[each == asked for each in max_steps]].mean())
            before = self._expected.get(asked, mean)
            self._expected[asked] = _KEPT_OF_EXPECTED * before + (1 - _KEPT_OF_EXPECTED) * mean


def _end_token_ids(loaded: LoadedModel) -> set[int]:
    named = [loaded.tokenizer.eos_token_id, loaded.model.config.get_text_config().eos_token_id]
    named.append(getattr(loaded.model.generation_config, "eos_token_id", None))
    listed = [ids if isinstance(ids, list) else [ids] for ids in named]
    return {int(token_id) for ids in listed for token_id in ids if token_id is not None}
