"""The API as an application of its own: its routes, its document, and errors as reasons."""

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from restmcts.errors import InputError, NotFoundError, RestMctsError, UnstorableError
from starlette.exceptions import HTTPException

from restmcts_dashboard.api.answers import Reason, answer
from restmcts_dashboard.api.artifact_routes import routes as artifact_routes
from restmcts_dashboard.api.bodies import MAX_BODY_BYTES, wrong_in_words
from restmcts_dashboard.api.project_routes import routes as project_routes
from restmcts_dashboard.api.run_changes import routes as run_changes
from restmcts_dashboard.api.run_routes import routes as run_routes
from restmcts_dashboard.api.stored_run_routes import routes as stored_run_routes
from restmcts_dashboard.pages import check_query
from restmcts_dashboard.source import Source

API_PREFIX = "/api/v1"
UNAVAILABLE = "the database, or the store of artifacts, does not answer; try again"


def create_api(source: Source) -> FastAPI:
    """Return the API of a source that serves it."""
    api = FastAPI(
        title="restmcts",
        version="1",
        description="Runs of a project, by a token of the project: `Authorization: Bearer SECRET`.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(check_query)],
        max_body_size=MAX_BODY_BYTES,
        responses={"4XX": {"model": Reason, "description": "Refused, with the reason."}},
    )
    api.state.source = source
    for routes in (project_routes, run_routes, run_changes, stored_run_routes, artifact_routes):
        api.include_router(routes)
    api.add_exception_handler(RestMctsError, _on_error)
    api.add_exception_handler(RequestValidationError, _on_bad_request)
    api.add_exception_handler(HTTPException, _on_http_error)
    return api


def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, InputError | UnstorableError):
        return answer(Reason(str(error)), 404 if isinstance(error, NotFoundError) else 400)
    return answer(Reason(UNAVAILABLE), 503)


def _on_bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(Reason(wrong_in_words(error.errors()[0])), 400)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = answer(Reason(str(error.detail)), error.status_code)
    found.headers.update(error.headers or {})
    return found
