"""The page of one tree, the comparison of two, and the data that their drawings are made from."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Response
from restmcts.adapters.sql.state import annotations
from restmcts.domain.labels.annotations import annotation
from restmcts.errors import InputError
from restmcts.usecases.truth.annotate import annotate, remove

from restmcts_dashboard import tree_reads
from restmcts_dashboard.pages import RowId, Token, document, page, writable
from restmcts_dashboard.source import Source

MAX_REQUESTS = 20
Text = Annotated[str, Form(max_length=10_000)]


def tree_pages(source: Source) -> APIRouter:
    """Return the routes."""
    pages = APIRouter()

    @pages.get("/trees/{tree_id}")
    def tree(tree_id: RowId) -> Response:
        with source.database.transaction() as transaction:
            shown = tree_reads.facts_of(transaction, tree_id)
            others = tree_reads.siblings(transaction, tree_id)
            before, after = tree_reads.neighbours(transaction, tree_id)
        return page("tree.html.j2", source=source, tree=shown, siblings=others, before=before, after=after)

    @pages.get("/trees/{tree_id}/data")
    def data(tree_id: RowId) -> Response:
        with source.database.transaction() as transaction:
            return document(tree_reads.read_tree(transaction, tree_id))

    @pages.get("/trees/{tree_id}/frames")
    def frames(tree_id: RowId) -> Response:
        with source.database.transaction() as transaction:
            return document(tree_reads.replayed(transaction, tree_id))

    @pages.get("/trees/{tree_id}/requests")
    def requests(tree_id: RowId, ids: Annotated[list[RowId], Query(max_length=MAX_REQUESTS)]) -> Response:
        with source.database.transaction() as transaction:
            return document(tree_reads.requests_about(transaction, tree_id, ids))

    @pages.post("/trees/{tree_id}/annotations")
    def annotate_step(
        tree_id: RowId,
        node: Annotated[RowId, Form()],
        subject: Text,
        verdict: Text,
        who: Text,
        note: Text = "",
        token: Token = "",
    ) -> Response:
        given = annotation(subject, verdict, who, note, "viewer")
        with writable(source, token).transaction() as transaction:
            annotate(transaction, tree_id, node, given)
            return document(annotations.of_tree(transaction, tree_id))

    @pages.post("/trees/{tree_id}/annotations/{annotation_id}/remove")
    def remove_annotation(tree_id: RowId, annotation_id: RowId, token: Token = "") -> Response:
        with writable(source, token).transaction() as transaction:
            remove(transaction, tree_id, annotation_id)
            return document(annotations.of_tree(transaction, tree_id))

    @pages.get("/compare")
    def compare(first: RowId, second: RowId) -> Response:
        if first == second:
            raise InputError(f"first and second are both {first}; give two trees")
        with source.database.transaction() as transaction:
            shown = [tree_reads.facts_of(transaction, tree_id) for tree_id in (first, second)]
            same = tree_reads.ask_the_same(transaction, first, second)
        return page("compare.html.j2", source=source, trees=shown, same_problem=same)

    return pages
