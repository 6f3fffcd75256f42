"""The engine vLLM: a server that this process starts, whose weights are those that requests ask
for.

Prompts are token ids that the checkpoint's own tokenizer wrote, so that both engines ask the same.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from restmcts.adapters.models.engines import ENGINES, VLLM, Engine
from restmcts.adapters.models.http_policy.address import ServerAddress
from restmcts.adapters.models.http_policy.calling import ServerLimits
from restmcts.adapters.models.http_policy.proposer import HttpProposer, separator_of
from restmcts.adapters.models.vllm_server.process import SERVED_NAME, vllm_program
from restmcts.adapters.models.vllm_server.serving import asked_of_weights, server_limits, server_settings
from restmcts.adapters.models.vllm_server.weights import VllmServer, Weights
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.prompts import TEMPLATES, PromptTemplate
from restmcts.domain.requests import STEP_SEPARATOR, GenerationSettings, ProposeSteps, StepsProposed
from restmcts.errors import InputError
from restmcts.ports import ArtifactStore, MayBegin, StepProposer, always
from restmcts.settings import load_vllm_server_settings

REQUESTS_AT_ONCE = 256
"""Answered together: what is lost when the server dies, and asked again."""
WHOLE_PROMPTS = "--no-enable-chunked-prefill"
"""vLLM's CPU build (0.32) dies of a request with a seed whose prompt it reads in parts, as it does
where many come at once.
"""
MEMORY_SHARE = 0.6
"""Of a GPU; what is left is the value model's."""


class VllmEngine(Engine):
    """Weights of a folder, an artifact or the hub, on a vLLM server of this process's own."""

    def __init__(self) -> None:
        self._server: VllmServer | None = None

    def checked(self, uri: str) -> str:
        """Raise InputError: nobody names this engine's server."""
        raise InputError(
            f"{uri}: the engine vllm starts its own server, with --engine vllm; for one that runs write "
            "openai+http://HOST:PORT/v1?model=NAME"
        )

    def open(self, uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings) -> StepProposer:
        """Return the policy; the server gets its weights when it is asked."""
        path = str(local_path(uri, artifacts))
        own = load_vllm_server_settings()
        prompts = TokenizedPrompts(path, settings.template, settings.trust_remote_code)
        if self._server is None:
            arguments = WHOLE_PROMPTS if settings.device == "cpu" else ""
            self._server = VllmServer(server_settings(own, settings, arguments, memory_share=MEMORY_SHARE))
        weights = Weights(uri, path, settings.dtype)
        return VllmProposer(self._server, weights, prompts, server_limits(own, settings))

    def check(self) -> None:
        """Raise ModelError if there is no vLLM."""
        vllm_program(load_vllm_server_settings().vllm_command)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()
            self._server = None


class TokenizedPrompts:
    """Prompts as a checkpoint's tokenizer and template write them.

    Raises:
        InputError: if there is no such template.
        ModelError: if the tokenizer is not there, or is broken.
    """

    def __init__(self, path: str, template: str, trust_remote_code: bool) -> None:
        from restmcts.modeling.policy.stored_prompts import load_prompts

        self._tokenizer, self._own = load_prompts(path, template=template, trust_remote_code=trust_remote_code)
        self._written: dict[str, Any] = {}

    def template(self, chosen: str) -> PromptTemplate:
        """Return the wording of the template that a run has chosen."""
        name = self._prompts(chosen)[0].template.value
        return TEMPLATES["plain" if name == "chat" else name]

    def separator(self, settings: GenerationSettings) -> str:
        """Return what ends a step: what is asked for, else what the checkpoint learnt."""
        learnt = self._own.step_separator
        if settings.step_separator == "auto" and learnt is not None:
            return learnt
        return separator_of(settings)

    def token_ids(self, question: str, request: ProposeSteps, template: str, written: str) -> tuple[int, ...]:
        """Return a request's prompt with what is written behind it, as token ids."""
        prompts, encoder = self._prompts(template)
        begun = dataclasses.replace(request, begun="")
        text = prompts.request_text(question, begun) + request.begun + written
        return tuple(encoder.encode_prompts([text])[0])

    def _prompts(self, template: str) -> Any:
        from restmcts.modeling.prompt_rendering import PromptFormat, choose_template
        from restmcts.modeling.tokenization import TextEncoder

        if template not in self._written:
            chosen = self._own.template if template == "auto" else choose_template(template, self._tokenizer)
            prompts = PromptFormat(chosen, self._tokenizer, STEP_SEPARATOR)
            self._written[template] = prompts, TextEncoder(self._tokenizer, chosen)
        return self._written[template]


class VllmProposer:
    """A `StepProposer` over a server that is started anew when it dies.

    Answers are accepted only where the server had this policy's weights before and after.
    """

    def __init__(
        self,
        server: VllmServer,
        weights: Weights,
        prompts: TokenizedPrompts,
        limits: ServerLimits,
    ) -> None:
        self._server = server
        self._weights = weights
        self._prompts = prompts
        self._limits = limits
        self._asked: tuple[str, HttpProposer] | None = None

    def close(self) -> None:
        """Give up the connections; the server stays."""
        if self._asked is not None:
            self._asked[1].close()
            self._asked = None

    def propose(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        """Return one answer per request, in order; see `HttpProposer.propose`."""
        answers = dict(self.stream(questions, requests, settings))
        return [answers[place] for place in range(len(requests))]

    def stream(
        self,
        questions: Sequence[str],
        requests: Sequence[ProposeSteps],
        settings: GenerationSettings,
        may_begin: MayBegin = always,
    ) -> Iterator[tuple[int, StepsProposed]]:
        """Yield the answers of `propose`, each with its request's place, some at a time.

        Args:
            may_begin: as `StreamingProposer.stream` says.
        """
        for begin in range(0, len(requests), REQUESTS_AT_ONCE):
            if begin and not may_begin():
                return
            part = slice(begin, begin + REQUESTS_AT_ONCE)
            ask = partial(self._answers, questions=questions[part], requests=requests[part], settings=settings)
            yield from enumerate(asked_of_weights(self._server, self._weights, ask), start=begin)

    def _answers(
        self, url: str, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        return self._client(url).propose(questions, requests, settings)

    def _client(self, url: str) -> HttpProposer:
        if self._asked is None or self._asked[0] != url:
            self.close()
            address = ServerAddress("openai", f"{url}/v1", SERVED_NAME)
            self._asked = url, HttpProposer(address, "", self._limits, self._prompts)
        return self._asked[1]


ENGINES.add(VLLM, VllmEngine())
