"""The HTTP API of a stack, asked by the secret of a project's token. The secret is sent to the
address that RESTMCTS_API_URL names, and to no other: redirects are not followed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from pydantic import TypeAdapter, ValidationError
from restmcts.domain.text import valid_text
from restmcts.errors import InputError, NotFoundError, RestMctsError, StorageError
from restmcts.reporting.plain_text import shortened
from restmcts.settings import ApiSettings

from restmcts_cli.arguments.connection import api_settings

PREFIX = "/api/v1"
CONNECT_SECONDS = 10.0
READ_SECONDS = 300.0
"""A server draws puzzles, or stores many problems, while the command waits."""

MAX_ANSWER_BYTES = 2**28
CHUNK_BYTES = 2**16
PART_BYTES = 2**20
MAX_REASON = 1000
MAX_REFUSAL_BYTES = 2**16
NO_PAGE = ("Not Found", "There is no such page.")
"""What a server says of an address that it does not know."""

T = TypeVar("T")


class Api:
    """The API of a stack as one project sees it."""

    def __init__(self, settings: ApiSettings) -> None:
        """Connect to nothing yet.

        Raises:
            InputError: if there is no token, or it cannot be one.
        """
        token = settings.api_token.get_secret_value()
        if not token:
            raise InputError(
                "setting RESTMCTS_API_TOKEN: it is not set; give the secret that `restmcts projects token add` showed"
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InputError("setting RESTMCTS_API_TOKEN: it contains what no token does; copy it again")
        self.place = settings.api_url
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }

    def get(self, kind: type[T], *path: str, **query: object) -> T:
        """Return what is at a path, as a value of that type; of the query what is None is left out.

        Raises:
            InputError: if the API refuses to answer; it says why.
            StorageError: if it cannot be reached, or answers what it should not.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask(kind, "GET", path, given, None)

    def post(self, kind: type[T], *path: str, body: object = None, **query: object) -> T:
        """Send a body as JSON, and return the answer as `get` does.

        Raises:
            InputError: if the API refuses what is asked for; it says why.
            StorageError: if it cannot be reached, or answers what it should not.
        """
        return self._ask(kind, "POST", path, query, json.dumps(body, allow_nan=False))

    def delete(self, *path: str) -> None:
        """Delete what is at a path.

        Raises:
            InputError: if the API refuses that; it says why.
            StorageError: if it cannot be reached.
        """
        with self._opened("DELETE", path, {}, None):
            pass

    def parts(self, *path: str) -> Iterator[bytes]:
        """Yield the bytes of what is at a path as they come, 1 MiB at most at a time.

        Raises:
            InputError: if the API refuses to answer; it says why.
            StorageError: if it cannot be reached, or breaks off.
        """
        with self._opened("GET", path, {}, None) as response:
            yield from response.stream(PART_BYTES, decode_content=False)

    def _ask(self, kind: type[T], method: str, path: tuple[str, ...], query: Mapping[str, Any], body: str | None) -> T:
        with self._opened(method, path, query, body) as response:
            data = _body(response, MAX_ANSWER_BYTES)
        if len(data) > MAX_ANSWER_BYTES:
            raise StorageError(f"{self.place} answers more than {MAX_ANSWER_BYTES:,} bytes: check RESTMCTS_API_URL")
        try:
            return TypeAdapter(kind).validate_python(json.loads(data))
        except (ValidationError, ValueError, RecursionError) as error:
            raise StorageError(
                f"{self.place} answers what this version does not understand: check RESTMCTS_API_URL, and that both are "
                "of one version of restmcts"
            ) from error

    @contextmanager
    def _opened(
        self, method: str, path: tuple[str, ...], query: Mapping[str, Any], body: str | None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Yield an answer that is no refusal; its body is read within."""
        written = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
        _check_address(path, query)
        address = f"{self.place}{PREFIX}/{'/'.join(quote(part, safe='') for part in path)}"
        address += f"?{urlencode(written)}" if written else ""
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        seconds = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        try:
            with (
                urllib3.PoolManager(timeout=seconds, retries=False) as pool,
                pool.request(
                    method, address, body=body, headers=headers, redirect=False, preload_content=False
                ) as answer,
            ):
                if not 200 <= answer.status < 300:
                    raise self._refusal(answer.status, _reason(_body(answer, MAX_REFUSAL_BYTES)))
                yield answer
        except urllib3.exceptions.HTTPError as error:
            raise StorageError(
                f"{self.place} does not answer ({shortened(str(error), MAX_REASON)}): check RESTMCTS_API_URL and the "
                "network, and whether the dashboard of the stack is running"
            ) from error

    def _refusal(self, status: int, reason: str) -> RestMctsError:
        if status == 401:
            return InputError(
                f"{self.place} does not accept RESTMCTS_API_TOKEN: it is wrong, or was revoked; whoever administers the "
                "project gives out another"
            )
        if 300 <= status < 400:
            return InputError(
                f"{self.place} answers that it is elsewhere ({status}): name that address as RESTMCTS_API_URL; the token "
                "is sent to no other"
            )
        if status == 404 and (not reason or reason in NO_PAGE):
            return InputError(
                f"{self.place} serves no API: a dashboard serves it where RESTMCTS_API_ENABLED is true; check "
                "RESTMCTS_API_URL"
            )
        if status == 413:
            return InputError(f"{self.place} does not accept so much at once: a problem may be too long")
        if status < 500:
            return (NotFoundError if status == 404 else InputError)(reason or f"{self.place} refuses this ({status})")
        return StorageError(f"{self.place} cannot do this now: {reason or status}; try again")


def _body(response: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
    """Return what a server answers; of more than is taken, a little more than that."""
    data = bytearray()
    for part in response.stream(CHUNK_BYTES, decode_content=False):
        data += part
        if len(data) > max_bytes:
            break
    return bytes(data)


def _check_address(path: tuple[str, ...], query: Mapping[str, Any]) -> None:
    """Refuse what no address can contain, or what would be another address."""
    for part in (*path, *map(str, query.values())):
        valid_text(part, "address")
    named = next((part for part in path if part in ("", ".", "..") or "/" in part), None)
    if named is not None:
        raise NotFoundError(f"nothing can be named {named!r} over HTTP")


def _reason(data: bytes) -> str:
    """Return why a server refused something, as text that a terminal only shows."""
    text = data.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text if not text.lstrip().startswith("<") else ""
    reason = found.get("reason", "") if isinstance(found, dict) else found
    return shortened(str(reason), MAX_REASON)


def over_http(workdir: Path | None) -> Api | None:
    """Return the API that a command asks; None where it has a work folder or a database.

    Raises:
        InputError: if the settings of the API cannot be used.
    """
    settings = api_settings(workdir)
    return Api(settings) if settings is not None else None
