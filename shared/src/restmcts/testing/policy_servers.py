"""A server of text after the published schemas of text-generation-inference (`/generate`, `/info`,
`/tokenize`) and of OpenAI (`/v1/completions`, `/v1/chat/completions`, `/v1/models`), over a model
of characters, with faults on demand.

It replaces servers that need a GPU; what `transformers serve` can answer is tested against the
real one.
"""

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self

END = "</s>"
VOCABULARY = (*"ab12 \n", END)
_RARE = {" ": 1.0, "\n": 1.0, END: 2.0}


@dataclass(frozen=True, slots=True)
class Generated:
    """A token, its log-probability, and the most probable tokens with theirs."""

    text: str
    log_prob: float
    top: tuple[tuple[str, float], ...]


def log_probs_after(text: str, vocabulary: Sequence[str] = VOCABULARY) -> dict[str, float]:
    """Return the model's log-probabilities: a function of the last two characters."""
    return _log_probs(text[-2:], vocabulary)


def judge_log_probs(prompt: str, vocabulary: Sequence[str]) -> dict[str, float]:
    """Return those of a model that reads its whole prompt, as a judge has to."""
    return _log_probs(prompt, vocabulary)


def _log_probs(read: str, vocabulary: Sequence[str]) -> dict[str, float]:
    digests = [blake2b(f"{read}{token}".encode(errors="surrogatepass"), digest_size=1).digest() for token in vocabulary]
    logits = [digest[0] / 64 - _RARE.get(token, 0.0) for digest, token in zip(digests, vocabulary, strict=True)]
    total = math.log(sum(math.exp(logit) for logit in logits))
    return {token: logit - total for token, logit in zip(vocabulary, logits, strict=True)}


def generate(
    prompt: str,
    max_tokens: int,
    seed: int,
    temperature: float,
    stop: Sequence[str],
    num_top: int,
    log_probs_of: Callable[[str], dict[str, float]] = log_probs_after,
) -> tuple[list[Generated], str]:
    """Return tokens after a prompt and why they end: "eos_token", "stop_sequence" or "length"."""
    draw = random.Random(seed)
    tokens: list[Generated] = []
    text = ""
    while len(tokens) < max_tokens:
        log_probs = log_probs_of(prompt + text)
        ranked = sorted(log_probs.items(), key=lambda pair: -pair[1])
        weights = [math.exp(value / temperature) for value in log_probs.values()] if temperature else None
        token = draw.choices(list(log_probs), weights)[0] if weights else ranked[0][0]
        tokens.append(Generated(token, log_probs[token], tuple(ranked[:num_top])))
        if token == END:
            return tokens, "eos_token"
        text += token
        if any(text.endswith(ending) for ending in stop):
            return tokens, "stop_sequence"
    return tokens, "length"


@dataclass
class PolicyServer:
    """The server; use as a context manager.

    Attributes:
        model: the name that it serves.
        faults: of the next generating requests, first first: a status ("429", "500"), "drop",
            "half", "garbage" or "slow".
        max_context: characters of prompt and new tokens together.
        honours_n: whether several samples come in one answer.
        port: 0: any that is free.
        returns_tokens: whether the routes of OpenAI return log-probabilities.
        authorizations: the headers of all requests so far.
        bodies: of all generating requests so far.
        num_generated: tokens so far.
        max_at_once: most generating requests under way together.
        on_request: called when one comes.
        log_probs_of: the model: log-probabilities of the next token after a text.
        like_llama_cpp: whether the token that stops is returned in streams alone, nothing is
            returned of an empty text, special tokens have no name, tokens are counted for the first
            sample alone, and what ended a text is not said.
    """

    model: str = "tiny"
    faults: list[str] = field(default_factory=list)
    max_context: int = 2000
    honours_n: bool = True
    returns_tokens: bool = True
    slow_seconds: float = 2.0
    port: int = 0
    authorizations: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    num_generated: int = 0
    max_at_once: int = 0
    on_request: Callable[[], None] = lambda: None
    log_probs_of: Callable[[str], dict[str, float]] = log_probs_after
    like_llama_cpp: bool = False
    _at_once: int = 0
    _lock: Any = field(default_factory=Lock)

    def __enter__(self) -> Self:
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"owner": self}))
        self._http.daemon_threads = True
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._http.server_address[1]}"

    def uri(self, protocol: str, query: str = "") -> str:
        """Return the URI of this server for one protocol."""
        path = "" if protocol == "tgi" else "/v1"
        return f"{protocol}+http://{self.host}{path}?model={self.model}{query}"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return the status and the document that a route gives."""
        route = {"/generate": _tgi, "/v1/completions": _completion, "/v1/chat/completions": _chat}.get(path)
        return route(self, body) if route is not None else (404, {"error": "no such route"})

    def next_fault(self) -> str:
        with self._lock:
            return self.faults.pop(0) if self.faults else ""

    def enter(self, change: int) -> None:
        with self._lock:
            self._at_once += change
            self.max_at_once = max(self.max_at_once, self._at_once)


class _Handler(BaseHTTPRequestHandler):
    owner: PolicyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.owner.authorizations.append(self.headers.get("Authorization", ""))
        if self.path == "/info":
            self._send(200, {"model_id": f"/data/{self.owner.model}", "max_total_tokens": self.owner.max_context})
        elif self.path == "/v1/models":
            model = {"id": self.owner.model, "object": "model", "created": 0, "owned_by": "test"}
            self._send(200, {"object": "list", "data": [model]})
        else:
            self._send(404, {"error": "no such route"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.authorizations.append(self.headers.get("Authorization", ""))
        if self.path == "/tokenize":
            self._send(200, [{"id": ord(letter), "text": letter, "start": 0, "stop": 1} for letter in body["inputs"]])
            return
        if self.path == "/update_weights_from_disk":  # as SGLang does: the path is the name from then on
            self.owner.model = body["model_path"]
            self._send(200, {"success": True, "message": "Succeeded to update model weights."})
            return
        self.owner.bodies.append(body)
        self.owner.on_request()
        self.owner.enter(1)
        try:
            self._answer(self.owner.next_fault(), body)
        finally:
            self.owner.enter(-1)

    def _answer(self, fault: str, body: dict[str, Any]) -> None:
        if fault == "slow":
            time.sleep(self.owner.slow_seconds)
        if fault == "drop":
            self.close_connection = True
            return
        if fault.isdigit():
            # A careless server may show what it was sent.
            said = f"fault {fault} for {self.headers.get('Authorization', '')}"
            self._send(int(fault), {"error": said}, {"Retry-After": "0"} if fault == "429" else {})
            return
        if fault == "garbage":
            self._send(200, "not a completion")
            return
        status, document = self.owner.answer(self.path, body)
        self.owner.num_generated += _num_tokens(document)
        self._send(status, document, half=fault == "half", streams=bool(body.get("stream")))

    def _send(
        self,
        status: int,
        document: Any,
        headers: dict[str, str] | None = None,
        *,
        half: bool = False,
        streams: bool = False,
    ) -> None:
        content = json.dumps(document).encode()
        if streams:
            content = b"data: " + content + b"\n\ndata: [DONE]\n\n"
        self.send_response(status)
        for name, value in {
            "Content-Type": "text/event-stream" if streams else "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked has given up
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _num_tokens(document: Any) -> int:
    if not isinstance(document, dict):
        return 0
    return int(
        document.get("usage", {}).get("completion_tokens", 0) or document.get("details", {}).get("generated_tokens", 0)
    )


def _tgi(server: PolicyServer, body: dict[str, Any]) -> tuple[int, Any]:
    given = body["parameters"]
    top_p, sampled = given.get("top_p"), given.get("do_sample")
    if top_p is not None and not 0 < top_p < 1:
        return 422, {"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"}
    num_prompt, limit = len(body["inputs"]), given["max_new_tokens"]
    if num_prompt + limit > server.max_context:
        said = (
            f"`inputs` tokens + `max_new_tokens` must be <= {server.max_context}. Given: {num_prompt} `inputs` tokens"
        )
        return 422, {"error": f"Input validation error: {said}", "error_type": "validation"}
    num_top = given.get("top_n_tokens") or 0
    temperature = (given.get("temperature") or 1.0) if sampled else 0.0
    stop = given.get("stop") or []
    tokens, reason = generate(body["inputs"], limit, given["seed"], temperature, stop, num_top, server.log_probs_of)

    def shown(text: str, log_prob: float) -> dict[str, Any]:
        return {
            "id": sum(text.encode(errors="surrogatepass")),
            "text": text,
            "logprob": log_prob,
            "special": text == END,
        }

    details: dict[str, Any] = {
        "finish_reason": reason,
        "generated_tokens": len(tokens),
        "seed": given["seed"],
        "prefill": [],
        "tokens": [shown(token.text, token.log_prob) for token in tokens],
    }
    if num_top:
        details["top_tokens"] = [[shown(text, log_prob) for text, log_prob in token.top] for token in tokens]
    return 200, {"generated_text": "".join(token.text for token in tokens if token.text != END), "details": details}


def _completion(server: PolicyServer, body: dict[str, Any]) -> tuple[int, Any]:
    def choice(text: str, tokens: Sequence[Generated]) -> dict[str, Any]:
        listed = {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.log_prob for token in tokens],
            "top_logprobs": [dict(token.top) for token in tokens],
        }
        return {"text": text, "logprobs": listed if server.returns_tokens else None}

    if server.like_llama_cpp:
        return _llama_cpp(server, body)
    return _openai(server, body, body["prompt"], body.get("logprobs") or 0, choice)


def _llama_cpp(server: PolicyServer, body: dict[str, Any]) -> tuple[int, Any]:
    """Return the answer or the events of llama.cpp's server, as observed."""
    stop, num_top, streams = body.get("stop") or [], body["logprobs"], body.get("stream")
    choices, counts = [], []
    for index in range(body.get("n") or 1):
        tokens, reason = generate(
            body["prompt"], body["max_tokens"], body["seed"] + index, body["temperature"], stop, num_top
        )
        counts.append(len(tokens))
        ids = {name: place for place, name in enumerate(VOCABULARY)}
        stops = reason == "stop_sequence"
        content: list[dict[str, Any]] = [
            {
                "id": ids[token.text],
                "token": "" if token.text == END or (stops and place == len(tokens) - 1) else token.text,
                "logprob": token.log_prob,
                "top_logprobs": [
                    {"id": ids[name], "token": "" if name == END else name, "logprob": value}
                    for name, value in token.top
                ],
            }
            for place, token in enumerate(tokens)
        ]
        shown = content if streams or not stops else content[:-1]
        text = "".join(token["token"] for token in shown)
        finish = "length" if reason == "length" else "stop"
        logprobs = {"content": shown} if shown else None
        choices.append({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": counts[0], "total_tokens": 0}
    answer = {"id": "1", "object": "text_completion", "created": 0, "model": server.model, "usage": usage}
    return 200, {**answer, "choices": choices}


def _chat(server: PolicyServer, body: dict[str, Any]) -> tuple[int, Any]:
    def choice(text: str, tokens: Sequence[Generated]) -> dict[str, Any]:
        content = [
            {
                "token": token.text,
                "logprob": token.log_prob,
                "top_logprobs": [{"token": text, "logprob": log_prob} for text, log_prob in token.top],
            }
            for token in tokens
        ]
        listed = {"content": content} if server.returns_tokens else None
        return {"message": {"role": "assistant", "content": text}, "logprobs": listed}

    prompt = "\n".join(turn["content"] for turn in body["messages"])
    if not body.get("continue_final_message"):
        prompt += "\n"
    return _openai(server, body, prompt, body.get("top_logprobs") or 0, choice)


def _openai(
    server: PolicyServer,
    body: dict[str, Any],
    prompt: str,
    num_top: int,
    choice: Callable[[str, Sequence[Generated]], dict[str, Any]],
) -> tuple[int, Any]:
    if body["model"] != server.model:
        return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
    if len(prompt) + body["max_tokens"] > server.max_context:
        said = f"This model's maximum context length is {server.max_context} tokens. However, your prompt has {len(prompt)}."
        return 400, {"error": {"message": said, "code": 400}}
    choices, num_tokens = [], 0
    for index in range(body["n"] if server.honours_n else 1):
        stop = body.get("stop") or []
        seed, temperature = body["seed"] + index, body["temperature"]
        tokens, reason = generate(prompt, body["max_tokens"], seed, temperature, stop, num_top, server.log_probs_of)
        text = "".join(token.text for token in tokens if token.text != END)
        ending = next((ending for ending in stop if reason == "stop_sequence" and text.endswith(ending)), None)
        one = choice(text.removesuffix(ending) if ending else text, tokens)
        reason = "length" if reason == "length" else "stop"
        choices.append({**one, "index": index, "finish_reason": reason, "stop_reason": ending})
        num_tokens += len(tokens)
    usage = {"prompt_tokens": len(prompt), "completion_tokens": num_tokens, "total_tokens": len(prompt) + num_tokens}
    return 200, {
        "id": "1",
        "object": "completion",
        "created": 0,
        "model": server.model,
        "choices": choices,
        "usage": usage,
    }
