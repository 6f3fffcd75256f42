"""The web application: routes, headers, and errors as pages."""

import time
from pathlib import Path

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from restmcts.adapters.observability import metrics
from restmcts.errors import InputError, NotFoundError, RestMctsError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restmcts_dashboard.api.app import API_PREFIX, create_api
from restmcts_dashboard.bad_requests import in_words
from restmcts_dashboard.failure_pages import failure_pages
from restmcts_dashboard.pages import HEADERS, check_origin, check_query, document, page
from restmcts_dashboard.runs.run_list_pages import run_list_pages
from restmcts_dashboard.runs.run_pages import run_pages
from restmcts_dashboard.source import Source
from restmcts_dashboard.tree_pages import tree_pages

STATIC = Path(__file__).parent / "static"


class Headers:
    """Adds the headers that every answer bears; what is static may be kept by browsers, nothing
    else may.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                metrics.PAGE_SECONDS.labels(str(message["status"])).observe(time.monotonic() - started)
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def create_app(source: Source) -> FastAPI:
    """Return the dashboard of a source."""
    checks = [Depends(check_query), Depends(check_origin)]
    app = FastAPI(title="restmcts", docs_url=None, redoc_url=None, openapi_url=None, dependencies=checks)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(source.names), www_redirect=False)
    app.add_middleware(Headers)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    if source.serves_api:
        app.mount(API_PREFIX, create_api(source), name="api")
    for router in (run_list_pages(source), run_pages(source), tree_pages(source), failure_pages(source)):
        app.include_router(router)

    @app.get("/healthz")
    def health() -> Response:
        with source.database.transaction():
            return Response("ok\n", media_type="text/plain")

    def failure(request: Request, status: int, title: str, reason: str) -> Response:
        if request.headers.get("accept") == "application/json":
            return document({"reason": reason}, status)
        return page("error.html.j2", status, source=source, title=title, reason=reason)

    @app.exception_handler(RestMctsError)
    def on_error(request: Request, error: RestMctsError) -> Response:
        for kind, status, title in ((NotFoundError, 404, "Not found"), (InputError, 400, "Bad request")):
            if isinstance(error, kind):
                return failure(request, status, title, str(error))
        return failure(request, 503, "Something is wrong", str(error))

    @app.exception_handler(RequestValidationError)
    def on_bad_request(request: Request, error: RequestValidationError) -> Response:
        return failure(request, 400, "Bad request", in_words(error.errors()[0]))

    @app.exception_handler(HTTPException)
    def on_http_error(request: Request, error: HTTPException) -> Response:
        title = {400: "Bad request", 403: "Not allowed"}.get(error.status_code)
        shown = (title, str(error.detail)) if title else (str(error.detail), "There is no such page.")
        return failure(request, error.status_code, *shown)

    return app
