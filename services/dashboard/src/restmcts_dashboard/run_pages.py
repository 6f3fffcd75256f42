"""The list of runs, and the page of one run."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries, stack_queries
from restmcts.adapters.sql.rows import ListedRun
from restmcts.adapters.sql.state import promotions
from restmcts.adapters.sql.tables import TreeState

from restmcts_dashboard import charts, live, run_reads
from restmcts_dashboard.pages import RowId, page, render
from restmcts_dashboard.source import Source

TREES_ON_RUN_PAGE = 25
TREES_ON_A_PAGE = 100


def run_pages(source: Source) -> APIRouter:
    """Return the routes."""
    pages = APIRouter()
    _add_list(pages, source)
    _add_run(pages, source)
    _add_trees(pages, source)
    return pages


def _add_list(pages: APIRouter, source: Source) -> None:
    ended: dict[int, run_reads.RunView] = {}

    def view_of(transaction: Transaction, row: ListedRun) -> run_reads.RunView:
        """Return a run's numbers; those of one that has ended are read once."""
        view = ended.get(row.id) or run_reads.read_run(transaction, row.id)
        if view.forecast is None:
            ended[row.id] = view
        return view

    def list_parts() -> dict[str, str]:
        with source.database.transaction() as transaction:
            views = [view_of(transaction, row) for row in queries.list_runs(transaction)]
        return {"runs": render("part_runs.html.j2", views=views)}

    @pages.get("/")
    def runs() -> Response:
        return page("runs.html.j2", source=source, parts=_marked(list_parts()))

    @pages.get("/live")
    async def runs_live(request: Request) -> Response:
        return live.stream(request, list_parts)


def _add_run(pages: APIRouter, source: Source) -> None:
    known_quality: dict[int, float | None] = {}

    def parts(run_id: int) -> dict[str, str]:
        with source.database.transaction() as transaction:
            return _parts(transaction, source, run_reads.read_run(transaction, run_id))

    @pages.get("/runs/{run_id}")
    def run(run_id: RowId) -> Response:
        with source.database.transaction() as transaction:
            view = run_reads.read_run(transaction, run_id)
            shown = _marked(_parts(transaction, source, view))
            trees = queries.list_trees(transaction, run_id, limit=TREES_ON_RUN_PAGE)
        return page("run.html.j2", source=source, view=view, parts=shown, trees=trees, states=list(TreeState))

    @pages.get("/runs/{run_id}/live")
    async def run_live(request: Request, run_id: RowId) -> Response:
        return live.stream(request, lambda: parts(run_id))

    @pages.get("/runs/{run_id}/quality")
    def quality(run_id: RowId) -> Response:
        with source.database.transaction() as transaction:
            found = run_reads.value_quality(transaction, run_id, known_quality)
            phases = queries.phase_numbers(transaction, run_id)
        return page("part_quality.html.j2", quality=found, chart=charts.quality_chart(phases, found))


def _add_trees(pages: APIRouter, source: Source) -> None:
    @pages.get("/runs/{run_id}/trees")
    def trees(
        run_id: RowId,
        phase: str = "",
        state: str = "",
        solved: Annotated[str, Query(pattern="^(yes|no|)$")] = "",
        question: Annotated[str, Query(max_length=500)] = "",
        after: RowId = 0,
    ) -> Response:
        asked: dict[str, Any] = {"phase": phase or None, "state": state or None, "question": question, "after": after}
        asked["solved"] = {"yes": True, "no": False}.get(solved)
        with source.database.transaction() as transaction:
            row = run_reads.run_row(transaction, run_id)
            phases = queries.phase_numbers(transaction, run_id)
            found = queries.list_trees(transaction, run_id, limit=TREES_ON_A_PAGE + 1, **asked)
        more = found[TREES_ON_A_PAGE - 1].id if len(found) > TREES_ON_A_PAGE else None
        asked["solved"] = solved
        shown: dict[str, Any] = {"run": row, "phases": phases, "states": list(TreeState), "asked": asked}
        return page("trees.html.j2", source=source, trees=found[:TREES_ON_A_PAGE], more=more, **shown)


def _parts(transaction: Transaction, source: Source, view: run_reads.RunView) -> dict[str, str]:
    workers = {
        "requests": stack_queries.open_requests(transaction),
        "jobs": stack_queries.training_jobs(transaction),
        "outbox_seconds": stack_queries.outbox_age_seconds(transaction),
        "num_dead_letters": stack_queries.num_dead_letters(transaction),
        "queues": source.queue_lengths(),
    }
    lineage = {
        "checkpoints": queries.list_checkpoints(transaction, view.run.id),
        "promotions": promotions.history(transaction, view.run.id),
        "decisions": [phase for phase in view.phases if phase.kind == "gate" and phase.state == "done"],
        "datasets": {row.phase: row for row in queries.list_datasets(transaction, view.run.id)},
    }
    drawn = {"accuracy": charts.accuracy_chart(view.phases), "loss": charts.loss_chart(view.phases)}
    by_step = {name: charts.step_losses_chart(view.phases, kind) for kind, name in charts.KINDS.items()}
    return {
        "summary": render("part_summary.html.j2", view=view, source=source),
        "phases": render("part_phases.html.j2", view=view),
        "charts": render("part_charts.html.j2", **drawn, by_step=by_step),
        "workers": render("part_workers.html.j2", view=view, **workers),
        "lineage": render("part_lineage.html.j2", **lineage),
    }


def _marked(parts: dict[str, str]) -> dict[str, Markup]:
    """Return rendered parts as what they are, HTML whose values are escaped."""
    return {name: Markup(html) for name, html in parts.items()}
