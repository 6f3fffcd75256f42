"""What people say of the trees of a run, as its page lists it."""

from dataclasses import dataclass
from datetime import datetime

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import columns
from restmcts.adapters.sql.state.annotations import ANNOTATIONS
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.runs import ORIGINAL, original
from restmcts.adapters.sql.state.trees import NODES, TREES
from sqlalchemy import select

MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class ListedAnnotation:
    """An annotation with the problem of its tree and the step that it is of."""

    tree_id: int
    node_id: int
    subject: str
    verdict: str
    note: str
    who: str
    created_at: datetime
    step: str | None
    question: str


def newest_annotations(transaction: Transaction, run_id: int) -> list[ListedAnnotation]:
    """Return the annotations of a run, the newest first, at most `MAX_LISTED`; without
    the text of their steps where these are archived.
    """
    at_node = (NODES.c.tree_id == ANNOTATIONS.c.tree_id) & (NODES.c.node_id == ANNOTATIONS.c.node_id)
    _, question = original(PROBLEMS)
    statement = (
        select(*columns(ListedAnnotation, ANNOTATIONS, besides=("step", "question")), NODES.c.step, question)
        .outerjoin(NODES, at_node)
        .join(TREES, TREES.c.id == ANNOTATIONS.c.tree_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .outerjoin(ORIGINAL, ORIGINAL.c.id == PROBLEMS.c.derived_from)
        .where(ANNOTATIONS.c.run_id == run_id)
        .order_by(ANNOTATIONS.c.id.desc())
        .limit(MAX_LISTED)
    )
    return transaction.rows(ListedAnnotation, statement)
