"""Calls that may fail: what is tried again and for how long, and what an error of a client library
means.

No message contains a token: what servers and libraries say is cut to one line, and the token is
blotted out of it.
"""

import json
import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import httpx2
import openai
from huggingface_hub import errors as hub_errors

from restmcts.adapters.models.interruption import pause
from restmcts.errors import ModelError, RestMctsError, ServerUnavailableError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 10.0
_MESSAGE_CHARACTERS = 300
_TRANSPORT = (
    httpx2.HTTPError,
    openai.OpenAIError,
    hub_errors.TextGenerationError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_TOO_LONG = re.compile(
    r"context[ _]length|context size|maximum context|max_model_len|max_new_tokens. must be|must have less than|too (?:long|large)"
    r"|exceed\w* .{0,60}(?:token|length|context)|(?:token|length|context).{0,60} exceed",
    re.IGNORECASE,
)


class PromptTooLongError(ModelError):
    """A prompt and the tokens wanted after it do not fit the server's context."""


class NotServedError(ServerUnavailableError):
    """There is no such route or no such model at the server, now."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed call came to: the HTTP status (None: there was no whole response), a
    message, and how long to wait, if it says so.
    """

    status: int | None
    message: str
    retry_after: float | None = None

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed later: no response, a busy server or an error of
        its own.
        """
        return self.status is None or self.status in (408, 409, 425, 429) or self.status >= 500


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How a server is called.

    Attributes:
        concurrency: calls under way at once.
        timeout_seconds: of one call, from its first byte to its last.
        retry_seconds: for which a call that fails is tried again.
    """

    concurrency: int = 32
    timeout_seconds: float = 300.0
    retry_seconds: float = 60.0


def served_as(wanted: str, served: Sequence[str]) -> str | None:
    """Return the name under which a server serves a model, by its own or by the folder it was
    loaded from; None if it does not.
    """
    return next((name for name in served if wanted in (name, PurePosixPath(name).name)), None)


class Caller:
    """Makes calls of one server, again and again within `retry_seconds` of the first failure of
    each.

    Args:
        name: of the server, for messages.
        token: that no message may hold.
    """

    def __init__(self, name: str, token: str, retry_seconds: float) -> None:
        self._name = name
        self._token = token
        self._retry_seconds = retry_seconds

    def call(self, function: Callable[[], Result]) -> Result:
        """Return what the function returns.

        Raises:
            PromptTooLongError: if the server says so.
            ModelError: if the server rejects the request for another reason.
            ServerUnavailableError: if it went on failing, refuses the token or the address, or
                redirects to another host.
        """
        give_up_at: float | None = None
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                return function()
            except _TRANSPORT as error:
                if isinstance(error.__cause__, RestMctsError):
                    raise error.__cause__ from None
                failure = self._failure(error)
                if not failure.passes:
                    raise self._rejection(failure) from None
                give_up_at = give_up_at or time.monotonic() + self._retry_seconds
                seconds = max(failure.retry_after or 0.0, wait * random.uniform(0.5, 1.0))
                if time.monotonic() + seconds > give_up_at:
                    raise ServerUnavailableError(
                        f"{self._name}: {failure.message}; its requests keep waiting"
                    ) from None
                log.warning("%s: %s; again in %.1f s", self._name, failure.message, seconds)
                pause(seconds)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def models(self, function: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Return the models that a server names by the function.

        Raises:
            ServerUnavailableError: if it does not, in any way: no request is to blame.
        """
        try:
            return self.call(function)
        except ModelError as error:
            raise ServerUnavailableError(f"{error}; its requests keep waiting") from None

    def _rejection(self, failure: Failure) -> Exception:
        said = f"{self._name}: {failure.message}"
        if failure.status in (400, 413, 422) and _TOO_LONG.search(failure.message):
            return PromptTooLongError(said)
        if failure.status in (401, 403):
            return ServerUnavailableError(f"{said}; set the server's token in RESTMCTS_POLICY_TOKENS")
        if failure.status in (404, 405):
            return NotServedError(f"{said}; check the URL and that the model is served there")
        return ModelError(said)

    def _failure(self, error: Exception) -> Failure:
        response = getattr(error, "response", None)
        if isinstance(error.__cause__, hub_errors.HfHubHTTPError):
            response = error.__cause__.response
        if isinstance(response, httpx2.Response):
            message = f"status {response.status_code}: {_said(response)}"
            return Failure(response.status_code, self._shown(message), _retry_after(response))
        if isinstance(error, (openai.APITimeoutError, httpx2.TimeoutException, TimeoutError)):
            return Failure(None, "no whole answer in time")
        if isinstance(error, (openai.APIConnectionError, httpx2.TransportError, OSError)):
            reason = error.__cause__ or error
            return Failure(None, self._shown(f"no whole answer ({type(reason).__name__}: {reason})"))
        return Failure(None, self._shown(f"an answer that is not as published ({type(error).__name__}: {error})"))

    def _shown(self, message: str) -> str:
        line = " ".join(message.split())
        if self._token:
            line = line.replace(self._token, "[token]")
        return line if len(line) <= _MESSAGE_CHARACTERS else f"{line[:_MESSAGE_CHARACTERS]}…"


def _said(response: httpx2.Response) -> str:
    """Return what a server gives as reason, in the forms of OpenAI, FastAPI and
    text-generation-inference, or all of it.
    """
    try:
        found: Any = json.loads(response.text)
        while isinstance(found, dict):
            found = next((found[key] for key in ("error", "detail", "message") if key in found), str(found))
        return str(found)
    except (ValueError, RecursionError, httpx2.ResponseNotRead):
        return response.reason_phrase


def _retry_after(response: httpx2.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if given.replace(".", "", 1).isdecimal() else None
