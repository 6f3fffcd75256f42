"""The two routes of OpenAI-compatible servers: `/v1/completions`, which continues raw text, and
`/v1/chat/completions`.

Served by vLLM, SGLang, llama.cpp and `transformers serve`, which differ in what they ignore:
several samples in one call, log-probabilities, and what ended a text. Whatever a server leaves out
is None here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import openai
from huggingface_hub import InferenceClient

from restmcts.adapters.models.bounded_http import hub_calls_by, model_client
from restmcts.adapters.models.http_policy.address import ServerAddress
from restmcts.adapters.models.http_policy.completion import Ask, Completion, Completions, Token

# The clients take a token that the environment has for another host where they are given none.
NO_TOKEN = "none"
_NAMED = 10


class _OpenAIServer:
    """What both routes share: the client, and the list of models."""

    def __init__(self, address: ServerAddress, token: str, timeout_seconds: float) -> None:
        self.model = address.model
        self.loads_what_is_named = False
        self._http = model_client(address.base_url, "", timeout_seconds)
        self._client = openai.OpenAI(
            base_url=address.base_url,
            api_key=token or NO_TOKEN,
            max_retries=0,
            timeout=None,
            http_client=self._http,
        )

    def served_models(self) -> Sequence[str]:
        """Return the ids of `/v1/models`, and the folders that they were loaded from where the
        server returns them.
        """
        try:
            models = [entry.model_dump() for entry in self._client.models.list().data]
        except (openai.NotFoundError, openai.InternalServerError) as error:
            # `transformers serve` lists the hub's cache, and fails where there is none.
            if error.status_code not in (404, 500):
                raise
            return ()
        return [str(entry[key]) for entry in models for key in ("id", "root") if entry.get(key)]

    def extra_fields(self, ask: Ask) -> dict[str, Any]:
        """Return fields beyond OpenAI's: `transformers serve` takes a temperature and samples
        only where it is asked to.
        """
        return {"generation_config": '{"do_sample": true}'} if self.loads_what_is_named and ask.temperature > 0 else {}

    def close(self) -> None:
        self._client.close()


class CompletionsBackend(_OpenAIServer):
    """Raw text, continued by `/v1/completions`.

    llama.cpp leaves the token that completes the stop text out of an answer, but not out of a
    stream; where that is seen, samples that are to stop are streamed one by one.
    """

    def __init__(self, address: ServerAddress, token: str, timeout_seconds: float) -> None:
        super().__init__(address, token, timeout_seconds)
        self._returns_tokens = self._hides_stop = False

    def complete(self, ask: Ask) -> Completions:
        if not (self._hides_stop and ask.stop is not None):
            answer = self._whole(ask)
            found = completions_of(answer, ask)
            self._returns_tokens = self._returns_tokens or any(sample.tokens for sample in found.samples)
            self._hides_stop = self._returns_tokens and (self._hides_stop or _leaves_out_stop(answer, found, ask))
        return completions_of(self._streamed(ask), ask) if self._hides_stop and ask.stop is not None else found

    def _whole(self, ask: Ask) -> Mapping[str, Any]:
        answer = self._client.completions.create(
            model=self.model,
            prompt=_prompt(ask),
            n=ask.num_samples,
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            top_p=ask.top_p,
            seed=ask.seed,
            stop=[ask.stop] if ask.stop is not None else openai.omit,
            # One more, because the token that was chosen may be among them.
            logprobs=ask.num_alternatives + 1,
            extra_body=self.extra_fields(ask),
        )
        # Whatever is no JSON object comes back as it is.
        return answer.model_dump() if isinstance(answer, openai.types.Completion) else {}

    def _streamed(self, ask: Ask) -> Mapping[str, Any]:
        """Return one sample's parts put together as an answer."""
        parts = [
            part.model_dump()
            for part in self._client.completions.create(
                model=self.model,
                prompt=_prompt(ask),
                max_tokens=ask.max_tokens,
                temperature=ask.temperature,
                top_p=ask.top_p,
                seed=ask.seed,
                stop=[ask.stop] if ask.stop is not None else openai.omit,
                # The token that stops is returned by number, and named among the most probable.
                logprobs=max(ask.num_alternatives + 1, _NAMED),
                stream=True,
            )
        ]
        choices = [choice for part in parts for choice in part["choices"]]
        tokens = [token for choice in choices for token in (choice.get("logprobs") or {}).get("content") or ()]
        choice = {
            "text": "".join(choice["text"] for choice in choices),
            "finish_reason": next(choice["finish_reason"] for choice in reversed(choices)),
            "logprobs": {"content": [_renamed(token, ask.num_alternatives + 1) for token in tokens]},
        }
        usage: Mapping[str, int] = next((part["usage"] for part in reversed(parts) if part.get("usage")), {})
        return {"choices": [choice], "usage": usage, "model": parts[-1].get("model")}


def _prompt(ask: Ask) -> str | list[int]:
    return ask.text() if ask.token_ids is None else list(ask.token_ids)


class ChatBackend(_OpenAIServer):
    """A conversation, through `/v1/chat/completions`."""

    def __init__(self, address: ServerAddress, token: str, timeout_seconds: float) -> None:
        super().__init__(address, token, timeout_seconds)
        self._prefill = address.prefill
        self._chat = InferenceClient(base_url=address.base_url, api_key=token or NO_TOKEN)

    def complete(self, ask: Ask) -> Completions:
        prefill = self._prefill and ask.critic is None
        written = ask.steps + ask.begun
        messages = ask.template.chat_messages(ask.question, "" if prefill else written, ask.critic, ask.analysis)
        extra = self.extra_fields(ask)
        if prefill and written:
            messages.append({"role": "assistant", "content": written})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        with hub_calls_by(self._http):
            answer = self._chat.chat_completion(
                messages,
                model=self.model,
                n=ask.num_samples,
                max_tokens=ask.max_tokens,
                temperature=ask.temperature,
                top_p=ask.top_p,
                seed=ask.seed,
                stop=[ask.stop] if ask.stop is not None else None,
                logprobs=True,
                top_logprobs=ask.num_alternatives + 1 if ask.num_alternatives else None,
                extra_body=extra or None,
            )
        return completions_of(answer, ask, a_turn_a_step=not prefill)


def completions_of(answer: Mapping[str, Any], ask: Ask, *, a_turn_a_step: bool = False) -> Completions:
    """Return what an answer of either route holds.

    Args:
        a_turn_a_step: whether the end of a reply that could hold one step only says nothing of the
            solution's end.

    Raises:
        ValueError: if it is not such an answer.
    """
    try:
        choices = list(answer["choices"])[: ask.num_samples]
        usage = answer["usage"]
        samples = tuple(_completion(choice, usage, len(choices), ask, a_turn_a_step) for choice in choices)
        prompt_tokens = int(usage["prompt_tokens"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a field is missing or of another type: {error}") from error
    if not samples:
        raise ValueError("no choices")
    return Completions(samples, prompt_tokens, str(answer.get("model") or ""))


def _completion(
    choice: Mapping[str, Any], usage: Mapping[str, Any], num_choices: int, ask: Ask, a_turn_a_step: bool
) -> Completion:
    message = choice.get("message")
    text = str((message.get("content") if message is not None else choice["text"]) or "")
    tokens = _tokens(choice.get("logprobs"))
    if tokens is None and not text:
        tokens = ()  # of nothing there is nothing to return
    num_tokens = -(-int(usage["completion_tokens"]) // num_choices)
    if tokens is not None:
        # A server may count a token that it does not return; where it counts for one sample alone.
        num_tokens = max(len(tokens), num_tokens if num_choices == 1 else 0)
    ended = _ended(choice, text, tokens, ask.stop)
    if a_turn_a_step and ask.stop is not None and ended:
        ended = None
    return Completion(text, num_tokens, tokens, ended, choice.get("finish_reason") == "length")


def _leaves_out_stop(answer: Mapping[str, Any], found: Completions, ask: Ask) -> bool:
    """Return whether a server counts a token that stopped and does not return it, or counts one
    sample's tokens for all.
    """
    if ask.stop is None or any(sample.tokens is None for sample in found.samples):
        return False
    num_returned = sum(len(sample.tokens or ()) for sample in found.samples)
    stopped = any(choice.get("finish_reason") == "stop" for choice in answer["choices"])
    return stopped and int(answer["usage"]["completion_tokens"]) != num_returned


def _renamed(token: dict[str, Any], num_top: int) -> dict[str, Any]:
    """Return a token with the name that it has among the most probable, of which so many are
    kept.
    """
    top = token.get("top_logprobs") or ()
    name = token["token"] or next((other["token"] for other in top if other.get("id") == token.get("id")), "")
    return {**token, "token": name, "top_logprobs": top[:num_top]}


def _ended(choice: Mapping[str, Any], text: str, tokens: Sequence[Token] | None, stop: str | None) -> bool | None:
    if choice.get("finish_reason") != "stop":
        return False
    if stop is None or stop in text:
        return stop is None
    for field in ("stop_reason", "matched_stop"):  # vLLM, SGLang
        if field in choice:
            return bool(choice[field] != stop)
    if not tokens:
        return None
    # The last token that is returned contains the stop text, or is the model's end, without a name.
    return False if stop in tokens[-1].text else True if not tokens[-1].text else None


def _tokens(logprobs: Mapping[str, Any] | None) -> tuple[Token, ...] | None:
    """Return the tokens in the form of either route; None if there are none."""
    if not logprobs:
        return None
    if logprobs.get("content") is not None:
        return tuple(
            Token(
                one["token"],
                float(one["logprob"]),
                tuple((top["token"], top["logprob"]) for top in one.get("top_logprobs") or ()),
            )
            for one in logprobs["content"]
        )
    if logprobs.get("tokens") is None or logprobs.get("token_logprobs") is None:
        return None
    tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
    triples = zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
    return tuple(Token(text, float(log_prob or 0.0), tuple((top or {}).items())) for text, log_prob, top in triples)
