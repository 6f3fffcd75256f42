"""Routes that change the runs of a caller's project; what is changed is recorded in the same
transaction.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.truth import source_of_verdicts
from restmcts.domain.runs.spec_plan import TRAIN
from restmcts.usecases import steer
from restmcts.usecases.create import enqueue_problems
from restmcts.usecases.requested.answers import AddedDocument, CreatedDocument, StateDocument
from restmcts.usecases.requested.runs import store_requested

from restmcts_dashboard.api.access import Runner, Visit
from restmcts_dashboard.api.answers import answer
from restmcts_dashboard.api.bodies import ProblemsBody, ResumeBody, RunBody, problems_in
from restmcts_dashboard.api.new_runs import new_run

routes = APIRouter(tags=["runs"])


@routes.post("/runs", response_model=CreatedDocument, status_code=201)
def create_run(visit: Runner, body: RunBody) -> Response:
    """Store a run under the project's quotas; the workers start it at once, unless it is paused or
    has no problems yet.
    """
    new = new_run(body, visit.caller.project)
    with visit.changing("run.create", new.name, {"method": new.method}) as transaction:
        created = store_requested(transaction, new)
    state = "paused" if new.paused else "running"
    return answer(CreatedDocument(new.name, created.run_id, state, dict(created.num_problems)), 201)


@routes.post("/runs/{name}/problems", response_model=AddedDocument)
def add_problems(
    visit: Runner,
    name: str,
    body: ProblemsBody,
    set_name: Annotated[str, Query(alias="set", description="The problem set of the run.")] = TRAIN,
) -> Response:
    """Add problems to a set of a run, before the phase that searches it starts: all of them, or
    none.
    """
    with visit.reading() as transaction:
        run = visit.run(transaction, name)
    needs_answers = set_name != TRAIN or source_of_verdicts(run.config) is None
    problems = problems_in(body.problems, "problems", needs_answers=needs_answers)
    with visit.changing("problems.add", name, {"set": set_name, "problems": len(problems)}) as transaction:
        visit.lock_run(transaction, name)
        return answer(AddedDocument(name, enqueue_problems(transaction, name, set_name, problems)))


@routes.post("/runs/{name}/pause", response_model=StateDocument)
def pause(visit: Runner, name: str) -> Response:
    """Start nothing new in a run; a training that is in progress ends first."""
    return _steered(visit, name, "run.pause", steer.pause)


@routes.post("/runs/{name}/resume", response_model=StateDocument)
def resume(visit: Runner, name: str, body: ResumeBody | None = None) -> Response:
    """Let a paused run go on; one that has spent its token budget needs a larger one."""
    max_tokens = body.max_tokens if body is not None else None
    change = partial(steer.resume, max_tokens=max_tokens)
    return _steered(visit, name, "run.resume", change, {"max_tokens": max_tokens})


@routes.post("/runs/{name}/cancel", response_model=StateDocument)
def cancel(visit: Runner, name: str) -> Response:
    """End a run permanently; its results are kept."""
    return _steered(visit, name, "run.cancel", steer.cancel)


def _steered(
    visit: Visit,
    name: str,
    action: str,
    change: Callable[[Transaction, str], None],
    detail: dict[str, int | None] | None = None,
) -> Response:
    with visit.changing(action, name, detail) as transaction:
        visit.lock_run(transaction, name)
        change(transaction, name)
        return answer(StateDocument(name, visit.run(transaction, name).state))
