"""What failed: messages that could not be handled and trees that were given up, with their
reasons, to be tried again.
"""

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries, stack_queries
from restmcts.errors import InputError
from restmcts.usecases import steer

from restmcts_dashboard.pages import RowId, page
from restmcts_dashboard.source import Source

MAX_SHOWN = 200

Token = Annotated[str, Form(max_length=500)]


def failure_pages(source: Source) -> APIRouter:
    """Return the routes."""
    pages = APIRouter()

    @pages.get("/failures")
    def failures(done: str = "") -> Response:
        with source.database.transaction() as transaction:
            letters = stack_queries.list_dead_letters(transaction)
            trees = queries.failed_trees(transaction, MAX_SHOWN)
        notice = {
            "message": "The message was sent again.",
            "tree": "The tree begins again, under another number if its search had not ended.",
        }.get(done, "")
        return page("failures.html.j2", source=source, letters=letters[-MAX_SHOWN:][::-1], trees=trees, notice=notice)

    def change(token: str, what: Callable[[Transaction], None], done: str) -> Response:
        if source.writable is None or not source.token:
            raise InputError(
                "this dashboard only reads: it was started without RESTMCTS_DASHBOARD_TOKEN, or on a work folder"
            )
        if not hmac.compare_digest(token.encode(), source.token.encode()):
            return page(
                "error.html.j2", 403, source=source, title="Not allowed", reason="That is not the dashboard's token."
            )
        with source.writable.transaction() as transaction:
            what(transaction)
        return RedirectResponse(f"/failures?done={done}", 303)

    @pages.post("/dead-letters/{letter_id}/retry")
    def retry_letter(letter_id: RowId, token: Token = "") -> Response:
        return change(token, lambda transaction: steer.retry_dead_letter(transaction, letter_id), "message")

    @pages.post("/trees/{tree_id}/retry")
    def retry_tree(tree_id: RowId, token: Token = "") -> Response:
        return change(token, lambda transaction: steer.retry_tree(transaction, tree_id), "tree")

    return pages
