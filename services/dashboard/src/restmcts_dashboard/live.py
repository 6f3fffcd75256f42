"""Server-sent events: the parts of a page that changed, as HTML, until whoever looks goes away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from restmcts.errors import RestMctsError

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_SIGNS = 15.0

Parts = Callable[[], Mapping[str, str]]
"""The parts of a page by the id of their element."""


def stream(request: Request, parts: Parts) -> Response:
    """Return a stream that sends each part once, and again whenever it has changed."""
    return StreamingResponse(
        _events(request, parts), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(request: Request, parts: Parts) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    silent = 0.0
    while not await request.is_disconnected():
        try:
            now = await run_in_threadpool(parts)
        except RestMctsError as error:
            yield f"event: trouble\ndata: {json.dumps(str(error))}\n\n"
            now = sent
        changed = {name: html for name, html in now.items() if sent.get(name) != html}
        if changed:
            sent |= changed
            yield f"event: parts\ndata: {json.dumps(changed)}\n\n"
        silent = 0.0 if changed else silent + SECONDS_BETWEEN_LOOKS
        if silent >= SECONDS_BETWEEN_SIGNS:
            silent = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
