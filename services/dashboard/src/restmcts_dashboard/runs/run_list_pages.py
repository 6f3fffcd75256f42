"""The list of runs, runs side by side, and what people may do to runs of the list."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.run_lines import KnownWork, run_lines
from restmcts.adapters.sql.reads.truth import unchecked_runs
from restmcts.errors import InputError
from restmcts.reporting.run_states import WAITING
from restmcts.reporting.truth import marked as marked_with
from restmcts.usecases import steer

from restmcts_dashboard import live
from restmcts_dashboard.bad_requests import one_of
from restmcts_dashboard.pages import RowId, Token, change, marked, page, render
from restmcts_dashboard.runs import charts, run_reads
from restmcts_dashboard.runs.run_list import (
    SORTS,
    RunQuery,
    found_runs,
    have_other_test_problems,
    shown_lines,
    side_by_side,
)
from restmcts_dashboard.source import Source

MAX_COMPARED = 8
MAX_FORECASTS = 20
STATES = ("running", WAITING, "blocked", "paused", "done", "failed", "cancelled")
_ORDERS = [sign + name for name in SORTS for sign in ("", "-")]


def asked(
    text: Annotated[str, Query(max_length=200)] = "",
    state: Annotated[str, one_of("state", STATES)] = "",
    archived: bool = False,
    sort: Annotated[str, one_of("sort", _ORDERS)] = "-started",
    number: Annotated[int, Query(alias="page", ge=0, le=10_000)] = 0,
) -> RunQuery:
    """Return what the address asks for."""
    return RunQuery(text, state, archived, sort, number)


Asked = Annotated[RunQuery, Depends(asked)]


def run_list_pages(source: Source) -> APIRouter:
    """Return the routes."""
    pages = APIRouter()
    known: KnownWork = {}

    def parts(query: RunQuery) -> dict[str, str]:
        with source.database.transaction() as transaction:
            found = found_runs(shown_lines(run_lines(transaction, known), source.use), query)
            under_way = [line.run.id for line in found.lines if line.run.state == "running"][:MAX_FORECASTS]
            views = {run_id: run_reads.read_run(transaction, run_id) for run_id in under_way}
            unchecked = unchecked_runs(transaction, [line.run.id for line in found.lines])
            now = transaction.now()
        shown: dict[str, Any] = {"found": found, "query": query, "views": views, "unchecked": unchecked, "now": now}
        return {"runs": render("part_runs.html.j2", source=source, **shown)}

    @pages.get("/")
    def runs(query: Asked) -> Response:
        return page("runs.html.j2", source=source, parts=marked(parts(query)), query=query, states=STATES)

    @pages.get("/live")
    async def runs_live(request: Request, query: Asked) -> Response:
        return live.stream(request, lambda: parts(query))

    _add_comparison(pages, source)
    return pages


def _add_comparison(pages: APIRouter, source: Source) -> None:
    @pages.get("/runs/compare")
    def compare(
        run: Annotated[list[RowId], Query(max_length=MAX_COMPARED)] = [],  # noqa: B006
        x: charts.Across = "iteration",
    ) -> Response:
        chosen = list(dict.fromkeys(run))
        if len(chosen) < 2:
            raise InputError("tick two or more runs of the list to compare them")
        with source.database.transaction() as transaction:
            use = source.use
            views = [run_reads.read_run(transaction, run_id, use) for run_id in chosen]
            lines = {line.run.id: line for line in shown_lines(run_lines(transaction), use)}
        drawn = charts.compared_charts({str(marked_with(view.run.name, view.mark)): view.phases for view in views}, x)
        differing, equal = side_by_side([view.run.config for view in views])
        shown: dict[str, Any] = {"views": views, "lines": [lines[view.run.id] for view in views], "charts": drawn}
        shown["differ"] = have_other_test_problems([view.run.config for view in views])
        shown["unchecked"] = {view.run.id for view in views if view.mark}
        return page("compare_runs.html.j2", source=source, differing=differing, equal=equal, x=x, **shown)

    @pages.post("/runs/{run_id}/archive")
    def archive(run_id: RowId, token: Token = "", undo: bool = False) -> Response:
        with source.database.transaction() as transaction:
            name = queries.run_by_id(transaction, run_id).name
        return change(
            source,
            token,
            lambda transaction: steer.archive(transaction, name, archived=not undo),
            f"/runs/{run_id}",
        )
