"""The page of a run."""

from shlex import quote
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import end_quality, queries, stack_queries
from restmcts.adapters.sql.reads.tree_counts import share_solved
from restmcts.adapters.sql.reads.truth import unchecked_runs
from restmcts.adapters.sql.state import promotions
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import TreeState
from restmcts.errors import NotFoundError
from restmcts.reporting.run_origins import RunOrigin
from restmcts.reporting.truth import MARK
from restmcts.reporting.value_warnings import end_warnings
from sqlalchemy import select

from restmcts_dashboard import live
from restmcts_dashboard.bad_requests import check_one_of, one_of
from restmcts_dashboard.pages import RowId, marked, page, render
from restmcts_dashboard.runs import charts, run_reads
from restmcts_dashboard.runs.annotation_reads import newest_annotations
from restmcts_dashboard.runs.problem_reads import OUTCOMES, read_outcome, read_problems
from restmcts_dashboard.runs.training_rows import ROWS_ON_A_PAGE, read_page
from restmcts_dashboard.source import Source

TREES_ON_RUN_PAGE = 25
MAX_FLIPS = 25
TREES_ON_A_PAGE = 100
MAX_PAGE = 1_000_000


def run_pages(source: Source) -> APIRouter:
    """Return the routes."""
    pages = APIRouter()
    _add_run(pages, source)
    _add_trees(pages, source)
    _add_problems(pages, source)
    _add_training_rows(pages, source)
    return pages


def _add_run(pages: APIRouter, source: Source) -> None:
    known_quality: dict[int, end_quality.EndQuality | None] = {}

    def parts(run_id: int, x: charts.Across) -> dict[str, str]:
        with source.database.transaction() as transaction:
            return _parts(transaction, source, run_reads.read_run(transaction, run_id, source.use), x)

    def check(run_id: int) -> None:
        with source.database.transaction() as transaction:
            queries.run_by_id(transaction, run_id)

    @pages.get("/runs/{run_id}")
    def run(run_id: RowId, x: charts.Across = "iteration") -> Response:
        with source.database.transaction() as transaction:
            view = run_reads.read_run(transaction, run_id, source.use)
            shown = marked(_parts(transaction, source, view, x))
            trees = queries.list_trees(transaction, run_id, limit=TREES_ON_RUN_PAGE)
            origin = RunOrigin(view.run, view.times.started, transaction.place)
        asked: dict[str, Any] = {"states": list(TreeState), "x": x, "origin": origin}
        return page("run.html.j2", source=source, view=view, parts=shown, trees=trees, **asked)

    @pages.get("/runs/{run_id}/live")
    async def run_live(request: Request, run_id: RowId, x: charts.Across = "iteration") -> Response:
        await run_in_threadpool(check, run_id)
        return live.stream(request, lambda: parts(run_id, x))

    @pages.get("/runs/{run_id}/quality")
    def quality(run_id: RowId) -> Response:
        check(run_id)
        with source.database.transaction() as transaction:
            found = end_quality.value_quality(transaction, run_id, known_quality)
            phases = queries.phase_numbers(transaction, run_id)
            mark = _mark(transaction, run_id)
        return page(
            "part_quality.html.j2",
            quality=found,
            warnings=end_warnings({name: one.auc for name, one in found.items()}, mark),
            chart=charts.quality_chart(phases, {name: one.auc for name, one in found.items()}, mark),
            mark=mark,
        )


def _mark(transaction: Transaction, run_id: int) -> str:
    return MARK if unchecked_runs(transaction, [run_id]) else ""


def _add_trees(pages: APIRouter, source: Source) -> None:
    @pages.get("/runs/{run_id}/trees")
    def trees(
        run_id: RowId,
        phase: str = "",
        state: Annotated[str, one_of("state", list(TreeState))] = "",
        solved: Annotated[str, one_of("solved", ("yes", "no"))] = "",
        question: Annotated[str, Query(max_length=500)] = "",
        after: Annotated[RowId, Query(ge=0)] = 0,
    ) -> Response:
        asked: dict[str, Any] = {"phase": phase or None, "state": state or None, "question": question, "after": after}
        asked["solved"] = {"yes": True, "no": False}.get(solved)
        with source.database.transaction() as transaction:
            row = queries.run_by_id(transaction, run_id)
            phases = queries.phase_numbers(transaction, run_id)
            check_one_of("phase", phase, [one.name for one in phases if one.kind == "search"])
            found = queries.list_trees(transaction, run_id, limit=TREES_ON_A_PAGE + 1, **asked)
            mark = _mark(transaction, run_id)
        more = found[TREES_ON_A_PAGE - 1].id if len(found) > TREES_ON_A_PAGE else None
        asked["solved"] = solved
        shown: dict[str, Any] = {"run": row, "phases": phases, "states": list(TreeState), "asked": asked, "mark": mark}
        return page("trees.html.j2", source=source, trees=found[:TREES_ON_A_PAGE], more=more, **shown)


def _add_problems(pages: APIRouter, source: Source) -> None:
    @pages.get("/runs/{run_id}/problems")
    def problems(
        run_id: RowId,
        of: Annotated[str, Query(max_length=200)] = "",
        outcome: Annotated[str, one_of("outcome", OUTCOMES)] = "",
        question: Annotated[str, Query(max_length=500)] = "",
        number: Annotated[int, Query(alias="page", ge=0, le=MAX_PAGE)] = 0,
    ) -> Response:
        with source.database.transaction() as transaction:
            row = queries.run_by_id(transaction, run_id)
            table = read_problems(transaction, run_id, of, outcome, question, number)
            shown: dict[str, Any] = {
                "run": row,
                "table": table,
                "mark": _mark(transaction, run_id),
                "outcomes": OUTCOMES,
            }
        asked = {"of": table.group, "outcome": outcome, "question": question, "page": number}
        return page("problems.html.j2", source=source, asked=asked, **shown)


def _add_training_rows(pages: APIRouter, source: Source) -> None:
    @pages.get("/runs/{run_id}/data/{phase}")
    def training_rows(
        run_id: RowId, phase: str, number: Annotated[int, Query(alias="page", ge=0, le=MAX_PAGE)] = 0
    ) -> Response:
        with source.database.transaction() as transaction:
            row = queries.run_by_id(transaction, run_id)
            data = next((one for one in queries.list_datasets(transaction, run_id) if one.phase == phase), None)
        if data is None:
            raise NotFoundError(f"run {row.name} has no training data of {phase!r}")
        if source.artifacts is None:
            raise NotFoundError(
                "this dashboard has no account of the bucket (RESTMCTS_S3_ACCESS_KEY); "
                f"`restmcts datasets show {quote(row.name)} {phase}{source.database.place}` prints rows"
            )
        rows = read_page(source.artifacts, data, number)
        last = max(data.num_rows - 1, 0) // ROWS_ON_A_PAGE
        return page("training_rows.html.j2", source=source, run=row, data=data, rows=rows, number=number, last=last)


def _parts(
    transaction: Transaction, source: Source, view: run_reads.RunView, x: charts.Across = "iteration"
) -> dict[str, str]:
    workers = {
        "requests": stack_queries.open_requests(transaction),
        "jobs": stack_queries.training_jobs(transaction),
        "outbox_seconds": stack_queries.outbox_age_seconds(transaction),
        "num_dead_letters": stack_queries.num_dead_letters(transaction),
        "queues": source.queue_lengths(),
    }
    lineage = {
        "run": view.run,
        "checkpoints": queries.list_checkpoints(transaction, view.run.id),
        "promotions": promotions.history(transaction, view.run.id),
        "decisions": [phase for phase in view.phases if phase.kind == "gate" and phase.state == "done"],
        "step_values": {one.name: one.result.get("num_targets") for one in view.phases if one.kind == "train-value"},
        "datasets": {row.phase: row for row in queries.list_datasets(transaction, view.run.id)},
    }
    collecting = (PHASES.c.run_id == view.run.id) & (PHASES.c.spec["purpose"].as_string() == "collect")
    solved = share_solved(transaction, TREES.c.phase_id.in_(select(PHASES.c.id).where(collecting)))
    outcome = read_outcome(transaction, view.run.id, view.phases)
    said = newest_annotations(transaction, view.run.id) if view.annotations is not None else []
    drawn = {"accuracy": charts.accuracy_chart(view.phases, x, view.mark), "loss": charts.loss_chart(view.phases)}
    by_step = {name: charts.step_losses_chart(view.phases, kind) for kind, name in charts.KINDS.items()}
    return {
        "summary": render("part_summary.html.j2", view=view, source=source, outcome=outcome, solved=solved),
        "truth": render("part_truth.html.j2", flipped=view.truth.flipped if view.truth else (), most=MAX_FLIPS),
        "phases": render("part_phases.html.j2", view=view),
        "charts": render("part_charts.html.j2", **drawn, by_step=by_step, mark=view.mark, x=x),
        "workers": render("part_workers.html.j2", view=view, **workers),
        "annotations": render(
            "part_annotations.html.j2", run=view.run, annotated=view.annotations, rows=said, source=source
        ),
        "lineage": render("part_lineage.html.j2", **lineage),
    }
