"""Routes that show runs of a caller's project: their phases, problems and trees."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.truth import unchecked_runs
from restmcts.adapters.sql.rows import (
    JsonObject,
    ListedRun,
    ListedTree,
    ProblemSet,
    StoredRun,
    TreeWithNodes,
)
from restmcts.adapters.sql.state import blocks, projects, token_budget
from restmcts.adapters.sql.tables import TreeState
from restmcts.errors import InputError, NotFoundError
from restmcts.reporting.truth import MARK
from restmcts.usecases.requested.answers import RunDocument
from restmcts.usecases.requested.stored_runs import stored_spec

from restmcts_dashboard.api.access import Reader, Visit
from restmcts_dashboard.api.answers import answer
from restmcts_dashboard.api.bodies import MAX_LISTED, Number

routes = APIRouter(tags=["runs"])


@routes.get("/runs", response_model=list[ListedRun])
def list_runs(visit: Reader) -> Response:
    """List the project's runs, the newest first."""
    with visit.reading() as transaction:
        own = projects.runs_of(transaction, visit.caller.project_id)
        return answer([row for row in queries.list_runs(transaction) if row.name in own])


@routes.get("/runs/{name}", response_model=RunDocument)
def show_run(visit: Reader, name: str) -> Response:
    """Show a run, and its phases with their numbers."""
    with visit.reading() as transaction:
        return answer(_document(transaction, visit.run(transaction, name)))


def _document(transaction: Transaction, run: StoredRun) -> RunDocument:
    phases = queries.phase_numbers(transaction, run.id)
    return RunDocument(
        run=run.name,
        method=run.method,
        state=run.state,
        error=run.error,
        seed=run.seed,
        created_at=run.created_at,
        finished_at=run.finished_at,
        trees=sum(phase.num_trees for phase in phases),
        tokens=sum(phase.tokens for phase in phases),
        max_tokens=run.max_tokens,
        tokens_spent=token_budget.spent(transaction, run.id) if run.max_tokens is not None else None,
        promoted={row.kind: row.name for row in queries.list_checkpoints(transaction, run.id) if row.promoted},
        blocked=blocks.blocks_of(transaction, run.id) if run.state == blocks.BLOCKED else [],
        mark=MARK if unchecked_runs(transaction, [run.id]) else "",
        phases=phases,
    )


@routes.get("/runs/{name}/spec", response_model=JsonObject)
def show_spec(visit: Reader, name: str) -> Response:
    """Return the run as a run file that makes the same run again, as JSON."""
    with visit.reading() as transaction:
        run = visit.run(transaction, name)
    return answer(stored_spec(run).model_dump(mode="json"))


@routes.get("/runs/{name}/problems", response_model=list[ProblemSet])
def list_problem_sets(visit: Reader, name: str) -> Response:
    """List the run's problem sets, each with how many problems it has and one of its questions."""
    with visit.reading() as transaction:
        return answer(queries.list_problem_sets(transaction, visit.run(transaction, name).id))


@routes.get("/runs/{name}/trees", response_model=list[ListedTree])
def list_trees(
    visit: Reader,
    name: str,
    phase: Annotated[str | None, Query(description="Only trees of this phase.")] = None,
    state: Annotated[TreeState | None, Query(description="Only trees in this state.")] = None,
    solved: Annotated[bool | None, Query(description="Only trees with, or without, a right end.")] = None,
    after: Annotated[Number, Query(description="Only trees with a higher number.")] = 0,
    limit: Annotated[int, Query(description="Trees listed at most.", ge=1, le=MAX_LISTED)] = 20,
) -> Response:
    """List trees of the run in order of creation, without their nodes."""
    with visit.reading() as transaction:
        run = visit.run(transaction, name)
        phases = [one.name for one in queries.phase_numbers(transaction, run.id)]
        if phase is not None and phase not in phases:
            raise InputError(f"run {name} has no phase {phase!r}; it has {', '.join(phases)}")
        in_state = state.value if state is not None else None
        found = queries.list_trees(
            transaction, run.id, phase=phase, state=in_state, solved=solved, after=after, limit=limit
        )
        return answer(found)


@routes.get("/runs/{name}/trees/{tree_id}", response_model=TreeWithNodes)
def show_tree(visit: Reader, name: str, tree_id: Number) -> Response:
    """Show a tree with its nodes: their texts, values and verdicts."""
    with visit.reading() as transaction:
        run = visit.run(transaction, name)
        return answer(_tree(visit, transaction, tree_id, run.name))


@routes.get("/trees/{tree_id}", response_model=TreeWithNodes)
def show_tree_by_number(visit: Reader, tree_id: Number) -> Response:
    """Show a tree with its nodes, whichever run of the project it is of."""
    with visit.reading() as transaction:
        return answer(_tree(visit, transaction, tree_id))


def _tree(visit: Visit, transaction: Transaction, tree_id: int, run: str | None = None) -> TreeWithNodes:
    try:
        found = queries.tree_without_nodes(transaction, tree_id).run
    except NotFoundError:
        found = None
    is_own = found is not None and projects.project_of_run(transaction, found) == visit.caller.project_id
    if not is_own or (run is not None and found != run):
        raise NotFoundError(
            f"{f'run {run}' if run is not None else f'project {visit.caller.project}'} has no tree {tree_id}"
        )
    return queries.tree_with_nodes(transaction, tree_id)
