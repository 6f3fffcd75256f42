"""What an evaluation reads: samples that were drawn once, and what every tree of a phase came
to. No true answers.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import JsonObject, columns
from restmcts.adapters.sql.state import archived_trees, trees
from restmcts.adapters.sql.state.requests import PROBLEMS, REQUESTS
from restmcts.adapters.sql.state.trees import NODES, PHASES, TREES
from restmcts.adapters.sql.tables import RequestKind, RequestState
from restmcts.domain.requests import Response, StepsProposed, ToolAnswered
from restmcts.domain.runs.phase_search import tool_use
from restmcts.domain.runs.phases import SEARCH_PHASE, SearchPhase
from restmcts.domain.search.sample_pool import PoolSettings, SamplePool, samples_with_calls
from restmcts.domain.tasks.task import TASKS
from restmcts.messages.wire import load_response


def sample_pools(
    transaction: Transaction, run_id: int, phase_name: str, problem_id: int | None = None
) -> dict[int, SamplePool]:
    """Return the samples of a phase by problem id, in the order in which its searches took
    them; of one problem if named.

    Raises:
        InputError: if the trees of the run are archived.
    """
    archived_trees.check_run_is_here(transaction, run_id)
    spec = select(PHASES.c.spec).where(PHASES.c.run_id == run_id, PHASES.c.name == phase_name)
    phase = SEARCH_PHASE.validate_python(transaction.execute(spec).scalar_one())
    kinds = [RequestKind.PROPOSE.value, *([RequestKind.CALL.value] if phase.tools.max_calls else [])]
    is_received = (REQUESTS.c.tree_id == TREES.c.id) & (REQUESTS.c.state == RequestState.APPLIED.value)
    statement = (
        select(TREES.c.problem_id, TREES.c.seed, PROBLEMS.c.kind.label("problem_kind"))
        .add_columns(REQUESTS.c.kind, REQUESTS.c.answer, REQUESTS.c.elapsed_seconds)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .outerjoin(REQUESTS, is_received & REQUESTS.c.kind.in_(kinds))
        .where(PHASES.c.run_id == run_id, PHASES.c.name == phase_name)
        .order_by(TREES.c.id, REQUESTS.c.applied_order)
    )
    if problem_id is not None:
        statement = statement.where(TREES.c.problem_id == problem_id)
    found: dict[int, list[tuple[Response, float]]] = defaultdict(list)
    searched: dict[int, tuple[str, int]] = {}
    for row in transaction.execute(statement):
        received = found[row.problem_id]
        searched[row.problem_id] = (row.problem_kind, row.seed)
        if row.answer is not None:
            received.append((load_response(row.kind, row.answer), row.elapsed_seconds or 0.0))
    return {key: _pool(phase, *searched[key], received) for key, received in found.items()}


def _pool(phase: SearchPhase, kind: str, seed: int, received: Sequence[tuple[Response, float]]) -> SamplePool:
    answers = [(one, seconds) for one, seconds in received if isinstance(one, StepsProposed | ToolAnswered)]
    num_prompt_tokens = next((one.num_prompt_tokens for one, _ in answers if isinstance(one, StepsProposed)), 0)
    tools = tool_use(kind, phase.tools)
    if tools is not None:
        assert isinstance(phase.search, PoolSettings)
        samples = samples_with_calls(phase.search, phase.budget, seed, TASKS.get(kind).ends, tools, answers)
        return SamplePool(samples, num_prompt_tokens, tuple(answers))
    drawn = [(sample, seconds) for one, seconds in answers if isinstance(one, StepsProposed) for sample in one.samples]
    single = ((StepsProposed(0, (sample,), num_prompt_tokens), seconds) for sample, seconds in drawn)
    return SamplePool(tuple(sample for sample, _ in drawn), num_prompt_tokens, tuple(single))


def responses(transaction: Transaction, tree_id: int) -> list[tuple[Response, float]]:
    """Return what a tree's search received, with the seconds since its first request, in the
    order in which it received it.
    """
    rows = trees.applied(transaction, tree_id)
    return [(load_response(row.kind, row.answer), row.elapsed_seconds or 0.0) for row in rows]


_ELSEWHERE = ("spec", "position", "problem_kind", "depth", "model_value")


@dataclass(frozen=True, slots=True)
class EvaluatedTree:
    """What a tree of an evaluation came to and has spent.

    Attributes:
        spec: of its phase.
        position: of its problem.
        depth: of its chosen node, which has the `model_value`; None where it has chosen none.
    """

    id: int
    problem_id: int
    seed: int
    state: str
    tokens: int
    prompt_tokens: int
    reused_tokens: int
    scored_tokens: int
    model_calls: int
    nodes: int
    seconds: float
    answer: str | None
    verdict: str | None
    solved: bool | None
    spec: JsonObject
    position: int
    problem_kind: str
    depth: int | None
    model_value: float | None


def first_failure(transaction: Transaction, run_id: int) -> str:
    """Return why the first of a run's trees that failed did, or "" if none did."""
    failed = select(TREES.c.error).join(PHASES, PHASES.c.id == TREES.c.phase_id)
    failed = failed.where(PHASES.c.run_id == run_id, TREES.c.error.is_not(None)).order_by(TREES.c.id).limit(1)
    return transaction.execute(failed).scalar() or ""


def tree_rows(transaction: Transaction, run_id: int, phase_name: str) -> list[EvaluatedTree]:
    """Return the trees of a phase in order of problem, each with its phase's spec and its
    chosen node's depth and model value.

    Raises:
        InputError: if the trees of the run are archived.
    """
    archived_trees.check_run_is_here(transaction, run_id)
    chosen = NODES.alias("chosen")
    statement = (
        select(*columns(EvaluatedTree, TREES, besides=_ELSEWHERE))
        .add_columns(PHASES.c.spec, PROBLEMS.c.position, PROBLEMS.c.kind.label("problem_kind"))
        .add_columns(chosen.c.depth, chosen.c.model_value)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .outerjoin(chosen, (chosen.c.tree_id == TREES.c.id) & (chosen.c.node_id == TREES.c.chosen_node))
        .where(PHASES.c.run_id == run_id, PHASES.c.name == phase_name)
        .order_by(PROBLEMS.c.position)
    )
    return transaction.rows(EvaluatedTree, statement)
