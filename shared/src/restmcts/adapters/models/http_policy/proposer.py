"""The policy behind HTTP as a `StepProposer`: calls side by side, samples put together, and steps
accepted only from the right model.

A server is asked what it serves before and after every batch; steps that another model may have
written are thrown away.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from restmcts.adapters.models.http_policy.address import ServerAddress
from restmcts.adapters.models.http_policy.calling import (
    Caller,
    NotServedError,
    PromptTooLongError,
    ServerLimits,
    served_as,
)
from restmcts.adapters.models.http_policy.completion import Ask, Backend, Completions
from restmcts.adapters.models.http_policy.openai_api import ChatBackend, CompletionsBackend
from restmcts.adapters.models.http_policy.tgi import TgiBackend
from restmcts.adapters.models.http_policy.writing import Writing
from restmcts.adapters.models.interruption import carried
from restmcts.domain.prompts import PromptTemplate, template_named
from restmcts.domain.requests import (
    SEPARATORS,
    STEP_SEPARATOR,
    GenerationSettings,
    ProposeSteps,
    Sample,
    StepsProposed,
    derive_seed,
)
from restmcts.errors import InputError, ModelError, ServerUnavailableError
from restmcts.ports import MayBegin, always

# What servers take: torch and numpy seed with 32 bits, JSON numbers are signed in some.
_MAX_SEED = 2**31
REQUESTS_A_CALL = 8
"""Requests that are answered together, for each call that may be under way."""
_BACKENDS: dict[str, Callable[[ServerAddress, str, float], Backend]] = {
    "openai": CompletionsBackend,
    "chat": ChatBackend,
    "tgi": TgiBackend,
}


@dataclass(slots=True)
class _Written:
    """What became of a request: its samples by number, and the tokens of its prompt."""

    samples: dict[int, Sample]
    num_prompt_tokens: int = 0
    fits: bool = True


class PromptWriter(Protocol):
    """Writes prompts as a model's own tokenizer does, where that is at hand."""

    def template(self, chosen: str) -> PromptTemplate:
        """Return the wording of the template that a run has chosen."""
        ...

    def separator(self, settings: GenerationSettings) -> str:
        """Return the text that ends a step."""
        ...

    def token_ids(self, question: str, request: ProposeSteps, template: str, written: str) -> tuple[int, ...]:
        """Return a request's prompt, and behind it what is written for it already."""
        ...


class HttpProposer:
    """A `StepProposer` over a policy server.

    Invariants: a sample depends on its request's seed and inputs, as far as the server keeps to
    seeds; a question is never cut; no more than `concurrency` calls are under way.

    Args:
        token: of the server; empty: none.
        writes: writes prompts in place of the address's template.
    """

    def __init__(
        self, address: ServerAddress, token: str, limits: ServerLimits, writes: PromptWriter | None = None
    ) -> None:
        self._address = address
        self._writes = writes
        self._backend = _BACKENDS[address.protocol](address, token, limits.timeout_seconds)
        self._caller = Caller(f"policy server {address.base_url}", token, limits.retry_seconds)
        self._concurrency = address.concurrency or limits.concurrency
        # Several samples in one call, until the server is seen to give fewer, or not to count their
        # tokens one by one.
        self._shares_calls = address.protocol != "tgi"

    def close(self) -> None:
        """Give up the connections."""
        self._backend.close()

    def propose(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        """Return one answer per request, in order; one without samples where a partial solution
        does not fit the context.

        Where the server returns no log-probabilities, they are 0.

        Raises:
            ModelError: if a question alone does not fit, or the server cannot do what a search
                needs.
            ServerUnavailableError: if the server is down, or serves another model; the requests may
                wait.
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
        """Yield the answers of `propose`, each with its request's place, some at a time: only
        when the server is seen to serve the same model before and after.

        Args:
            may_begin: as `StreamingProposer.stream` says.
        """
        size = REQUESTS_A_CALL * self._concurrency
        for begin in range(0, len(requests), size):
            if begin and not may_begin():
                return
            part = slice(begin, begin + size)
            yield from enumerate(self._answers(questions[part], requests[part], settings), start=begin)

    def _answers(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        self._check_model()
        written = [_Written({}) for _ in requests]
        stopped = threading.Event()

        def work(place: int, samples: range) -> None:
            if not stopped.is_set():
                self._write(questions[place], requests[place], settings, samples, written[place])

        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="policy-server") as pool:
            parts = [(place, part) for place, request in enumerate(requests) for part in self._parts(request)]
            futures = [pool.submit(carried(work), place, part) for place, part in parts]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                stopped.set()
        for future in futures:
            future.result()
        self._check_model()
        return [_answer(request, found) for request, found in zip(requests, written, strict=True)]

    def _parts(self, request: ProposeSteps) -> list[range]:
        """Return the samples of each piece of work; those of one piece begin with one call."""
        count = min(request.num_samples, 1) if request.greedy else request.num_samples
        return [range(count)] if self._shares_calls else [range(sample, sample + 1) for sample in range(count)]

    def _write(
        self, question: str, request: ProposeSteps, settings: GenerationSettings, samples: range, written: _Written
    ) -> None:
        place = samples.start
        is_code = self._template(settings.template).is_code
        separator = STEP_SEPARATOR if is_code else self._separator(settings)
        while place < samples.stop and written.fits:
            writings = [Writing(request, settings, separator, is_code=is_code)]
            first = self._call(question, request, settings, writings[0], place, samples.stop - place, written)
            if first is None:
                return
            writings += [Writing(request, settings, separator, is_code=is_code) for _ in first.samples[1:]]
            for number, (writing, completion) in enumerate(zip(writings, first.samples, strict=True), start=place):
                writing.add(completion)
                while not writing.complete:
                    more = self._call(question, request, settings, writing, number, 1, written)
                    if more is None:
                        break
                    writing.add(more.samples[0])
                written.samples[number] = writing.sample()
            place += len(writings)

    def _call(
        self,
        question: str,
        request: ProposeSteps,
        settings: GenerationSettings,
        writing: Writing,
        sample: int,
        num_samples: int,
        written: _Written,
    ) -> Completions | None:
        """Return continuations of what is written, at least one; None if the context has no
        room for a step.
        """
        max_tokens = writing.max_tokens
        template, is_step = self._template(settings.template), request.critic is None
        while True:
            ask = Ask(
                template=template,
                question=template.wording.with_hint(question, request.analysis) if is_step else question,
                steps="".join(request.steps),
                critic=request.critic,
                analysis="" if is_step else request.analysis,
                begun=request.begun + writing.text,
                num_samples=num_samples if self._shares_calls else 1,
                max_tokens=max_tokens,
                seed=derive_seed(request.seed, sample, writing.text) % _MAX_SEED,
                temperature=0.0 if request.greedy else settings.temperature,
                top_p=settings.top_p,
                stop=writing.stop,
                num_alternatives=request.num_alternatives,
                token_ids=self._token_ids(question, request, settings, writing.text),
            )
            try:
                found = self._caller.call(partial(self._backend.complete, ask)).cleaned()
            except PromptTooLongError as error:
                if max_tokens > settings.max_step_tokens:
                    max_tokens = max(max_tokens // 2, settings.max_step_tokens)
                    continue
                if not request.steps and not request.begun and not writing.text:
                    raise ModelError(f"the question does not fit the context: {error}") from None
                written.fits = bool(writing.text)
                return None
            self._check_writer(found)
            if not writing.text:
                written.num_prompt_tokens = found.num_prompt_tokens
            if len(found.samples) < ask.num_samples or found.samples[0].tokens is None:
                self._shares_calls = False
            return found if found.samples[0].tokens is not None or len(found.samples) == 1 else _first(found)

    def _token_ids(
        self, question: str, request: ProposeSteps, settings: GenerationSettings, written: str
    ) -> tuple[int, ...] | None:
        if self._writes is None:
            return None
        return self._writes.token_ids(question, request, settings.template, written)

    def _separator(self, settings: GenerationSettings) -> str:
        return separator_of(settings) if self._writes is None else self._writes.separator(settings)

    def _template(self, chosen: str) -> PromptTemplate:
        """Return the template that a run has chosen; "auto" and, for chat servers, "chat" leave
        it to the address.
        """
        if self._writes is not None:
            return self._writes.template(chosen)
        if chosen == "chat" and self._address.protocol != "chat":
            raise ModelError(
                f"{self._address.uri}: raw text has no chat template; use chat+http, or another prompt template"
            )
        return template_named(self._address.template if chosen in ("auto", "chat") else chosen)

    def _check_model(self) -> None:
        """See that the server serves the model whose steps are wanted.

        Raises:
            ServerUnavailableError: if it does not, or does not answer.
        """
        wanted = self._address.model
        if self._backend.loads_what_is_named:
            return
        served = self._caller.models(self._backend.served_models)
        name = served_as(wanted, served)
        if name is not None:
            self._backend.model = name
        elif not self._loads_what_is_named():
            names = ", ".join(dict.fromkeys(served)) or "none that it names"
            raise ServerUnavailableError(
                f"policy server {self._address.base_url} serves {names}; requests for {wanted} wait"
            )

    def _loads_what_is_named(self) -> bool:
        """Return whether the server lists no such model but answers as it (`transformers serve`
        loads what a request names).
        """
        if self._address.protocol == "tgi":
            return False
        ask = Ask(template_named("raw"), "1", "", None, "", 1, 1, 0, 0.0, 1.0, None, 0)
        try:
            found = self._caller.call(partial(self._backend.complete, ask))
        except (ModelError, NotServedError):
            return False
        self._backend.loads_what_is_named = found.model.partition("@")[0] == self._address.model and "@" in found.model
        return self._backend.loads_what_is_named

    def _check_writer(self, found: Completions) -> None:
        if self._backend.loads_what_is_named and found.model.partition("@")[0] != self._address.model:
            raise ServerUnavailableError(
                f"policy server {self._address.base_url} answered as {found.model}, not {self._address.model}"
            )


def _first(found: Completions) -> Completions:
    """Return the first sample alone: the others' tokens were counted together with its own."""
    return Completions(found.samples[:1], found.num_prompt_tokens, found.model)


def _answer(request: ProposeSteps, written: _Written) -> StepsProposed:
    samples = [written.samples[number] for number in sorted(written.samples)]
    copies = request.num_samples if request.greedy else 1
    return StepsProposed(
        request.number, tuple(sample for sample in samples for _ in range(copies)), written.num_prompt_tokens
    )


def separator_of(settings: GenerationSettings) -> str:
    """Return what ends a step, which a server gets as its stop text.

    Raises:
        InputError: if that is seen only from what comes behind a step.
    """
    if settings.step_separator != "auto" and settings.step_separator not in SEPARATORS:
        raise InputError(
            f"generation.step_separator is {settings.step_separator}: a model behind HTTP ends its steps at a text that it is "
            f"given; choose {' or '.join(SEPARATORS)}, or run the model in process"
        )
    return SEPARATORS.get(settings.step_separator, STEP_SEPARATOR)
