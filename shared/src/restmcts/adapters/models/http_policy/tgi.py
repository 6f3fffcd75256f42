"""text-generation-inference: `/generate` through InferenceClient, `/info` for what is served,
`/tokenize` to count a prompt.

It returns one sample a call (`best_of` gives the best of them, and at most two by default), so n
samples are n calls.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from huggingface_hub import InferenceClient, TextGenerationOutput

from restmcts.adapters.models.bounded_http import hub_calls_by, model_client
from restmcts.adapters.models.http_policy.address import ServerAddress
from restmcts.adapters.models.http_policy.completion import Ask, Completion, Completions, Token
from restmcts.adapters.models.http_policy.openai_api import NO_TOKEN

_COUNTED_PROMPTS_KEPT = 1024


class TgiBackend:
    """Raw text, continued by `/generate`."""

    def __init__(self, address: ServerAddress, token: str, timeout_seconds: float) -> None:
        self.model = address.model
        self.loads_what_is_named = False
        self._http = model_client(address.base_url, token, timeout_seconds)
        # A bare URL would be posted to as it is.
        self._client = InferenceClient(f"{address.base_url}/generate", token=token or NO_TOKEN)
        self._count = lru_cache(_COUNTED_PROMPTS_KEPT)(self._num_tokens)

    def complete(self, ask: Ask) -> Completions:
        prompt = ask.text()
        sampled = ask.temperature > 0
        with hub_calls_by(self._http):
            answer = self._client.text_generation(
                prompt,
                details=True,
                return_full_text=False,
                max_new_tokens=ask.max_tokens,
                do_sample=sampled,
                temperature=ask.temperature if sampled else None,
                top_p=ask.top_p if sampled and ask.top_p < 1 else None,
                seed=ask.seed,
                stop=[ask.stop] if ask.stop is not None else None,
                top_n_tokens=ask.num_alternatives + 1 if ask.num_alternatives else None,
            )
        return Completions((_completion(answer),), self._count(prompt), "")

    def served_models(self) -> Sequence[str]:
        """Return the model id of `/info`: the folder or the name with which the server was
        started.
        """
        response = self._http.get("/info").raise_for_status()
        return [str(response.json().get("model_id") or "")]

    def close(self) -> None:
        self._http.close()

    def _num_tokens(self, prompt: str) -> int:
        return len(self._http.post("/tokenize", json={"inputs": prompt}).raise_for_status().json())


def _completion(answer: TextGenerationOutput) -> Completion:
    """Return what an answer holds.

    Raises:
        ValueError: if it has no details.
    """
    details = answer.details
    if details is None or details.tokens is None:
        raise ValueError("no details")
    tokens = [Token("" if one.special else one.text, one.logprob) for one in details.tokens]
    # The library leaves lists within lists as they came.
    for place, tops in enumerate(details.top_tokens or ()):
        top = tuple((other["text"], other["logprob"]) for other in tops if not other["special"])
        tokens[place] = replace(tokens[place], top=top)
    reason = details.finish_reason
    return Completion(
        answer.generated_text, details.generated_tokens, tuple(tokens), reason == "eos_token", reason == "length"
    )
