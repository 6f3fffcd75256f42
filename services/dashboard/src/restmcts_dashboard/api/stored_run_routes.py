"""Routes for what comes after a run of the caller's project is stored: more iterations, copies and
tags, each recorded in the transaction that makes it.
"""

from dataclasses import replace

from fastapi import APIRouter, Response
from restmcts.adapters.sql.reads import queries
from restmcts.domain.text import check_name
from restmcts.errors import InputError
from restmcts.usecases import steer
from restmcts.usecases.create import extend_run
from restmcts.usecases.requested.answers import CreatedDocument, ExtendedDocument, TagsDocument
from restmcts.usecases.requested.runs import store_requested
from restmcts.usecases.requested.stored_runs import extension_of, stored_spec
from restmcts.usecases.stored_sets import stored_problem_sets

from restmcts_dashboard.api.access import Runner
from restmcts_dashboard.api.answers import answer
from restmcts_dashboard.api.bodies import CloneBody, ExtensionBody, TagsBody
from restmcts_dashboard.api.new_runs import check_size, cloned_run

routes = APIRouter(tags=["runs"])
MAX_COPIED = 50_000
MAX_COPIED_CHARACTERS = 2**27
"""Problems of a run that is cloned, and their characters: they are in memory at once."""


@routes.post("/runs/{name}/extend", response_model=ExtendedDocument)
def extend(visit: Runner, name: str, body: ExtensionBody) -> Response:
    """Give a run more iterations: what it has done stays, and it goes on from its last models."""
    detail = body.model_dump()
    with visit.changing("run.extend", name, detail) as transaction:
        visit.lock_run(transaction, name)
        run = visit.run(transaction, name)
        check_size(stored_spec(run).model_copy(update={"iterations": body.iterations}))
        extension = replace(extension_of(run, body.iterations), max_tokens=body.max_tokens)
        added = extend_run(transaction, name, extension)
        return answer(ExtendedDocument(name, body.iterations, list(added)))


@routes.post("/runs/{name}/clone", response_model=CreatedDocument, status_code=201)
def clone(visit: Runner, name: str, body: CloneBody) -> Response:
    """Store a new run with the problems of a run, and its settings but for those that are given."""
    with visit.reading() as transaction:
        run = visit.run(transaction, name)
        num_problems = sum(one.num_problems for one in queries.list_problem_sets(transaction, run.id))
        if num_problems > MAX_COPIED:
            raise InputError(f"run {name} has {num_problems:,} problems: over HTTP at most {MAX_COPIED:,} are copied")
        if (num_characters := queries.num_characters(transaction, run.id)) > MAX_COPIED_CHARACTERS:
            raise InputError(
                f"the problems of run {name} have {num_characters:,} characters: over HTTP at most "
                f"{MAX_COPIED_CHARACTERS:,} are copied"
            )
        sets = stored_problem_sets(transaction, run.id)
    new = cloned_run(run, sets, body, visit.caller.project)
    with visit.changing("run.clone", new.name, {"of": name}) as transaction:
        created = store_requested(transaction, new)
    state = "paused" if new.paused else "running"
    return answer(CreatedDocument(new.name, created.run_id, state, dict(created.num_problems)), 201)


@routes.post("/runs/{name}/tags", response_model=TagsDocument)
def tag(visit: Runner, name: str, body: TagsBody) -> Response:
    """Give a run tags, or take them away."""
    tags = [check_name(one.strip(), "tag") for one in body.tags]
    with visit.changing("run.tag", name, {"tags": tags, "remove": body.remove}) as transaction:
        visit.lock_run(transaction, name)
        return answer(TagsDocument(name, steer.tag(transaction, name, tags, removed=body.remove)))
