"""What an evaluation reads: samples that were drawn once, and what every tree of a phase came
to. No true answers.
"""

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import JsonObject, columns
from restmcts.adapters.sql.state import trees
from restmcts.adapters.sql.state.requests import PROBLEMS, REQUESTS
from restmcts.adapters.sql.state.trees import NODES, PHASES, TREES
from restmcts.adapters.sql.tables import RequestKind, RequestState
from restmcts.domain.requests import Response, Sample, StepsProposed
from restmcts.domain.search.sample_pool import SamplePool
from restmcts.messages.wire import load_response


def sample_pools(
    transaction: Transaction, run_id: int, phase_name: str, problem_id: int | None = None
) -> dict[int, SamplePool]:
    """Return the samples of a phase by problem id, in the order in which its searches took
    them; of one problem if named.
    """
    statement = (
        select(TREES.c.problem_id, REQUESTS.c.answer, REQUESTS.c.elapsed_seconds)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .outerjoin(
            REQUESTS,
            (REQUESTS.c.tree_id == TREES.c.id)
            & (REQUESTS.c.kind == RequestKind.PROPOSE.value)
            & (REQUESTS.c.state == RequestState.APPLIED.value),
        )
        .where(PHASES.c.run_id == run_id, PHASES.c.name == phase_name)
        .order_by(TREES.c.id, REQUESTS.c.applied_order)
    )
    if problem_id is not None:
        statement = statement.where(TREES.c.problem_id == problem_id)
    samples: dict[int, list[tuple[Sample, float]]] = defaultdict(list)
    num_prompt_tokens: dict[int, int] = {}
    for row in transaction.execute(statement):
        drawn = samples[row.problem_id]
        if row.answer is not None:
            response = load_response(RequestKind.PROPOSE, row.answer)
            assert isinstance(response, StepsProposed)
            drawn += [(sample, row.elapsed_seconds or 0.0) for sample in response.samples]
            num_prompt_tokens[row.problem_id] = response.num_prompt_tokens
    return {
        key: SamplePool(
            tuple(sample for sample, _ in drawn), num_prompt_tokens.get(key, 0), tuple(moment for _, moment in drawn)
        )
        for key, drawn in samples.items()
    }


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
    """
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
