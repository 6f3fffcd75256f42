"""How pages are made: templates that escape everything, numbers for people, and the headers
that come with every answer.
"""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from shlex import quote
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import AfterValidator
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.domain.text import escaped_text
from restmcts.reporting.figures import NONE, decimal, duration, gain, percent, rows_in_words, spent_in_words

from restmcts_dashboard.bad_requests import check_names
from restmcts_dashboard.runs.run_list import seconds_of, short_policy
from restmcts_dashboard.runs.run_reads import clock
from restmcts_dashboard.source import Source

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STATE_SIGNS = {
    **dict.fromkeys(("running", "searching", "writing", "training", "gating"), "▶"),
    **dict.fromkeys(("done", "labelled"), "✓"),
    **{"paused": "❚❚", "cancelled": "■", "failed": "✗", "blocked": "!", "ended": "■", "skipped": "–"},
}
VERDICT_SIGNS = {"right": "✓", "wrong": "✗", "undecided": "?", "unsure": "?"}
_MAX_ID = 2**63 - 1


def _row_id(number: int) -> int:
    if abs(number) > _MAX_ID:
        raise HTTPException(400, f"{number} is not an id: ids end at {_MAX_ID}.")
    return number


RowId = Annotated[int, AfterValidator(_row_id)]
"""An id that a database can be asked for."""

Token = Annotated[str, Form(max_length=500)]
"""What allows a change."""


def check_query(request: Request) -> None:
    """Refuse a query that no database can be asked, or that a page has no use for.

    Raises:
        HTTPException: 400, if a name or a value of it contains NUL.
        InputError: if the page has no parameter of a name, or it is given more often than the page
            reads it.
    """
    for name, value in request.query_params.multi_items():
        if "\0" in name + value:
            raise HTTPException(400, f"The query contains a NUL character, in {escaped_text(name)!r}.")
    check_names(request.query_params.multi_items(), request.scope["route"].dependant)


def check_origin(request: Request) -> None:
    """Refuse a change that another site's page asks for in a visitor's browser.

    Browsers say where a request comes from (`Sec-Fetch-Site`, on plain HTTP `Origin`); what is no
    browser says neither, and no stranger steers it.

    Raises:
        HTTPException: 403, if it comes from elsewhere.
    """
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = site in ("same-origin", "none") if site else origin is None or urlsplit(origin).netloc == request.url.netloc
    if not own:
        raise HTTPException(403, "The change was asked for by a page of another site.")


def count(number: float | None) -> str:
    return NONE if number is None else f"{number:,.0f}"


_TEMPLATES = Environment(
    loader=PackageLoader("restmcts_dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"percent": percent, "count": count, "decimal": decimal, "duration": duration, "clock": clock}
_TEMPLATES.filters |= {"rows_in_words": rows_in_words, "spent_in_words": spent_in_words}
_TEMPLATES.filters |= {"short_policy": short_policy, "seconds_of": seconds_of, "gain": gain, "shell": quote}
_TEMPLATES.globals |= {"state_signs": STATE_SIGNS, "verdict_signs": VERDICT_SIGNS}


def render(template: str, **values: object) -> str:
    """Return a template as HTML; every value is escaped. A model may write lone surrogates,
    which UTF-8 cannot encode.
    """
    return _TEMPLATES.get_template(template).render(values).encode("utf-8", "replace").decode()


def page(template: str, status: int = 200, **values: object) -> Response:
    """Return a whole page."""
    return HTMLResponse(render(template, **values), status)


def marked(parts: Mapping[str, str]) -> dict[str, Markup]:
    """Return rendered parts as what they are, HTML whose values are escaped."""
    return {name: Markup(html) for name, html in parts.items()}


def writable(source: Source, token: str) -> Database:
    """Return the database to write to, for somebody who has the token.

    Raises:
        HTTPException: 403, if this dashboard only reads, or that is not the token.
    """
    if source.writable is None or not source.token:
        raise HTTPException(403, "This dashboard only reads: it was started without RESTMCTS_DASHBOARD_TOKEN.")
    if not hmac.compare_digest(token.encode(errors="replace"), source.token.encode()):
        raise HTTPException(403, "That is not the dashboard's token.")
    return source.writable


def change(source: Source, token: str, what: Callable[[Transaction], None], then: str) -> Response:
    """Make a change for somebody who has the token, and go to another page.

    Raises:
        HTTPException: 403, if this dashboard only reads, or that is not the token.
    """
    with writable(source, token).transaction() as transaction:
        what(transaction)
    return RedirectResponse(then, 303)


def document(value: object, status: int = 200) -> Response:
    """Return JSON, dataclasses as objects; lone surrogates are written as escapes."""
    text = json.dumps(value, default=_jsonable, separators=(",", ":"), allow_nan=False)
    return Response(text, status, media_type="application/json")


def _jsonable(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return str(value)
