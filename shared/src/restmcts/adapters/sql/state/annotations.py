"""What people say of steps and answers: written, removed and counted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, delete, func, insert, select

from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import Columns, columns
from restmcts.adapters.sql.state import archived_trees
from restmcts.adapters.sql.state.trees import NODES
from restmcts.adapters.sql.tables import AnnotationRow
from restmcts.domain.labels.annotations import Agreed, Annotation, AnnotationCounts, agreed_verdict
from restmcts.domain.problems import Verdict

ANNOTATIONS = table_of(AnnotationRow)


@dataclass(frozen=True, slots=True)
class StoredAnnotation:
    """An annotation with its place."""

    id: int
    tree_id: int
    node_id: int
    subject: str
    verdict: str
    note: str
    who: str
    source: str
    created_at: datetime


def write(
    transaction: Transaction, run_id: int, tree_id: int, node_id: int, given: Annotation, when: datetime | None = None
) -> None:
    """Write an annotation; what the same person said of the same thing before is replaced.

    Args:
        when: it was made; None: now.
    """
    key: Columns = {"tree_id": tree_id, "node_id": node_id, "subject": given.subject, "who": given.who}
    transaction.execute(delete(ANNOTATIONS).where(*(ANNOTATIONS.c[name] == value for name, value in key.items())))
    row = {**key, "run_id": run_id, "verdict": given.verdict, "note": given.note, "source": given.source}
    transaction.execute(insert(ANNOTATIONS).values(**row, **({"created_at": when} if when is not None else {})))


def remove(transaction: Transaction, tree_id: int, annotation_id: int) -> bool:
    """Remove an annotation of a tree; return whether there was one."""
    which = (ANNOTATIONS.c.tree_id == tree_id, ANNOTATIONS.c.id == annotation_id)
    return bool(transaction.execute(delete(ANNOTATIONS).where(*which)).rowcount)


def of_tree(transaction: Transaction, tree_id: int) -> list[StoredAnnotation]:
    """Return the annotations of a tree, in order of node and entry."""
    return _where(transaction, [tree_id])


def of_run(transaction: Transaction, run_id: int) -> list[StoredAnnotation]:
    """Return the annotations of a run, in order of tree, node and entry."""
    tree_ids = select(ANNOTATIONS.c.tree_id).where(ANNOTATIONS.c.run_id == run_id).distinct()
    return _where(transaction, list(transaction.execute(tree_ids).scalars()))


def _where(transaction: Transaction, tree_ids: Sequence[int]) -> list[StoredAnnotation]:
    statement = select(*columns(StoredAnnotation, ANNOTATIONS)).where(ANNOTATIONS.c.tree_id.in_(list(tree_ids)))
    return transaction.rows(
        StoredAnnotation, statement.order_by(ANNOTATIONS.c.tree_id, ANNOTATIONS.c.node_id, ANNOTATIONS.c.id)
    )


def agreed(transaction: Transaction, tree_ids: Sequence[int]) -> dict[int, Agreed]:
    """Return what people agree on in trees, by tree; those of which nobody says anything are left
    out.
    """
    said: dict[tuple[int, str, int], list[str]] = defaultdict(list)
    for row in _where(transaction, tree_ids):
        said[row.tree_id, row.subject, row.node_id].append(row.verdict)
    found: dict[int, dict[str, dict[int, bool]]] = defaultdict(lambda: {"step": {}, "answer": {}})
    for (tree_id, subject, node_id), verdicts in said.items():
        is_right = agreed_verdict(verdicts)
        if is_right is not None:
            found[tree_id][subject][node_id] = is_right
    return {tree_id: Agreed(by_subject["step"], by_subject["answer"]) for tree_id, by_subject in found.items()}


def counts(transaction: Transaction, run_id: int) -> AnnotationCounts | None:
    """Return how much people have said of a run; None: nothing."""
    of_step = case((ANNOTATIONS.c.subject == "step", 1), else_=0)
    statement = select(
        func.count(),
        func.sum(of_step),
        func.count(ANNOTATIONS.c.tree_id.distinct()),
        func.count(ANNOTATIONS.c.who.distinct()),
    ).where(ANNOTATIONS.c.run_id == run_id)
    num, num_steps, num_trees, num_people = transaction.execute(statement).one()
    if not num:
        return None
    num_compared, alike = compared(transaction, run_id)
    return AnnotationCounts(int(num_steps), num - int(num_steps), num_trees, num_people, num_compared, alike)


def compared(transaction: Transaction, run_id: int) -> tuple[int, int]:
    """Return of how many answers people's verdicts and the run's own are known, and alike."""
    archived = archived_trees.numbers_of(transaction, run_id)
    if archived is not None:
        num_compared, num_alike = archived.compared
        return num_compared, num_alike
    at_node = (NODES.c.tree_id == ANNOTATIONS.c.tree_id) & (NODES.c.node_id == ANNOTATIONS.c.node_id)
    statement = (
        select(ANNOTATIONS.c.tree_id, ANNOTATIONS.c.node_id, ANNOTATIONS.c.verdict, NODES.c.verdict.label("own"))
        .join(NODES, at_node)
        .where(
            ANNOTATIONS.c.run_id == run_id,
            ANNOTATIONS.c.subject == "answer",
            NODES.c.verdict.in_([Verdict.RIGHT.value, Verdict.WRONG.value]),
        )
    )
    said: dict[tuple[int, int, bool], list[str]] = defaultdict(list)
    for tree_id, node_id, verdict, own in transaction.execute(statement):
        said[tree_id, node_id, own == Verdict.RIGHT.value].append(verdict)
    pairs = [(own, agreed_verdict(verdicts)) for (_, _, own), verdicts in said.items()]
    known = [(own, found) for own, found in pairs if found is not None]
    return len(known), sum(own == found for own, found in known)
