"""What failed: messages that could not be handled and trees that were given up, with their
reasons, to be tried again.
"""

from typing import Annotated

from fastapi import APIRouter, Response
from restmcts.adapters.sql.reads import queries, stack_queries
from restmcts.usecases import steer

from restmcts_dashboard.bad_requests import one_of
from restmcts_dashboard.pages import RowId, Token, change, page
from restmcts_dashboard.source import Source

MAX_SHOWN = 200
DONE = {
    "message": "The message was sent again.",
    "tree": "The tree begins again, under another number if its search had not ended.",
}
"""What is said after a change."""


def failure_pages(source: Source) -> APIRouter:
    """Return the routes."""
    pages = APIRouter()

    @pages.get("/failures")
    def failures(done: Annotated[str, one_of("done", DONE)] = "") -> Response:
        with source.database.transaction() as transaction:
            letters = stack_queries.list_dead_letters(transaction)
            trees = queries.failed_trees(transaction, MAX_SHOWN)
        notice = DONE.get(done, "")
        return page("failures.html.j2", source=source, letters=letters[-MAX_SHOWN:][::-1], trees=trees, notice=notice)

    @pages.post("/dead-letters/{letter_id}/retry")
    def retry_letter(letter_id: RowId, token: Token = "") -> Response:
        return change(
            source,
            token,
            lambda transaction: steer.retry_dead_letter(transaction, letter_id),
            "/failures?done=message",
        )

    @pages.post("/trees/{tree_id}/retry")
    def retry_tree(tree_id: RowId, token: Token = "") -> Response:
        return change(source, token, lambda transaction: steer.retry_tree(transaction, tree_id), "/failures?done=tree")

    return pages
