"""What people say of steps and answers: entered, removed, written to a file and read from one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import JsonObject
from restmcts.adapters.sql.state import annotations, archived_trees, trees
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import NODES, PHASES, TREES
from restmcts.adapters.sql.tables import TreeState
from restmcts.domain.labels.annotations import Annotation, annotation
from restmcts.domain.tree import ROOT, Tree
from restmcts.errors import InputError, NotFoundError

TREES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class AnnotationInTree:
    """An annotation with what it is of, for files and people.

    Attributes:
        problem: the question.
        path: the steps up to the annotated one, which is the last.
        when: it was made, in UTC.
    """

    run: str
    phase: str
    problem: str
    tree: int
    node: int
    path: list[str]
    step: str
    subject: str
    verdict: str
    note: str
    who: str
    source: str
    when: str


def annotate(
    transaction: Transaction, tree_id: int, node_id: int, given: Annotation, when: datetime | None = None
) -> None:
    """Store what a person says of a step of a labelled tree, or of the answer that ends with it;
    what the same person said of it before is replaced.

    Raises:
        InputError: if there is no such step, its tree is not labelled yet or archived, or it ends
            no solution and its answer is annotated.
    """
    tree = transaction.execute(select(TREES.c.run_id, TREES.c.state).where(TREES.c.id == tree_id)).first()
    if tree is None:
        raise NotFoundError(f"there is no tree {tree_id}")
    if tree.state != TreeState.LABELLED.value:
        raise InputError(f"tree {tree_id} is {tree.state}: trees can be annotated once they are labelled")
    which = (NODES.c.tree_id == tree_id, NODES.c.node_id == node_id)
    node = transaction.execute(select(NODES.c.final, NODES.c.verdict).where(*which)).first()
    if node is None:
        archived_trees.check_trees_are_here(transaction, [tree_id])
    if node is None or node_id == ROOT:
        raise NotFoundError(f"tree {tree_id} has no step {node_id}")
    if given.subject == "answer" and not node.final and node.verdict is None:
        raise InputError(f"step {node_id} of tree {tree_id} ends no solution: it has no answer")
    annotations.write(transaction, tree.run_id, tree_id, node_id, given, when)


def remove(transaction: Transaction, tree_id: int, annotation_id: int) -> None:
    """Remove an annotation.

    Raises:
        InputError: if the tree has no such one.
    """
    if not annotations.remove(transaction, tree_id, annotation_id):
        raise NotFoundError(f"tree {tree_id} has no annotation {annotation_id}: somebody may have removed it")


def annotations_in(transaction: Transaction, run: str) -> list[AnnotationInTree]:
    """Return the annotations of a run, in order of tree, node and entry.

    Raises:
        InputError: if there is no such run.
    """
    rows = annotations.of_run(transaction, queries.run_named(transaction, run).id)
    tree_ids = sorted({row.tree_id for row in rows})
    places: dict[int, tuple[str, str]] = {}
    loaded: dict[int, Tree] = {}
    for start in range(0, len(tree_ids), TREES_AT_ONCE):
        batch = tree_ids[start : start + TREES_AT_ONCE]
        loaded |= trees.load_trees(transaction, batch)
        places |= _places(transaction, batch)
    return [_in_tree(run, row, *places[row.tree_id], loaded[row.tree_id]) for row in rows]


def _places(transaction: Transaction, tree_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Return the phases and questions of trees."""
    statement = (
        select(TREES.c.id, PHASES.c.name, PROBLEMS.c.question)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(TREES.c.id.in_(list(tree_ids)))
    )
    return {tree_id: (phase, question) for tree_id, phase, question in transaction.execute(statement)}


def _in_tree(run: str, row: annotations.StoredAnnotation, phase: str, question: str, tree: Tree) -> AnnotationInTree:
    path = list(tree.steps_to(tree[row.node_id]))
    return AnnotationInTree(
        run=run,
        phase=phase,
        problem=question,
        tree=row.tree_id,
        node=row.node_id,
        path=path,
        step=path[-1],
        subject=row.subject,
        verdict=row.verdict,
        note=row.note,
        who=row.who,
        source=row.source,
        when=row.created_at.astimezone(UTC).isoformat(timespec="seconds"),
    )


def import_annotation(transaction: Transaction, row: JsonObject, run: str | None = None) -> None:
    """Store an annotation as `annotations_in` returns it, as a JSON object: at the step with the
    same path in a tree of the same run, phase and problem.

    Args:
        run: whose trees are annotated; None: that which the row names.

    Raises:
        InputError: if something is missing or of another type, or there is no such step.
    """
    texts = {name: _text(row, name) for name in ("phase", "problem", "subject", "verdict", "who")}
    note, path = row.get("note", ""), row.get("path")
    if not isinstance(note, str):
        raise InputError('"note" is not a text')
    if not isinstance(path, list) or not path or not all(isinstance(step, str) for step in path):
        raise InputError('"path" is not a list of steps, the annotated one last')
    given = annotation(texts["subject"], texts["verdict"], texts["who"], note, "import")
    name = run if run is not None else _text(row, "run")
    run_id = queries.run_named(transaction, name).id
    found = _step(transaction, run_id, texts["phase"], texts["problem"], path, row)
    if found is None:
        raise InputError(f"run {name} has no tree of this problem with these steps in {texts['phase']}")
    annotate(transaction, *found, given, _moment(row))


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f'"{name}" is missing, or is not a text')
    return value


def _moment(row: JsonObject) -> datetime | None:
    if "when" not in row:
        return None
    try:
        when = datetime.fromisoformat(_text(row, "when"))
        return when.astimezone(UTC) if when.tzinfo is not None else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InputError('"when" is not a time such as 2026-11-29T08:00:00+00:00') from None


def _step(
    transaction: Transaction, run_id: int, phase: str, question: str, path: list[str], row: JsonObject
) -> tuple[int, int] | None:
    """Return tree and node of a path; of several trees the one that the row names, else the
    first.
    """
    statement = (
        select(TREES.c.id)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(TREES.c.run_id == run_id, PHASES.c.name == phase, PROBLEMS.c.question == question)
    )
    tree_ids = sorted(transaction.execute(statement).scalars(), key=lambda one: (one != row.get("tree"), one))
    for tree_id, tree in trees.load_trees(transaction, tree_ids).items():
        same = [node.node_id for node in tree.nodes[1:] if node.step == path[-1] and list(tree.steps_to(node)) == path]
        if same:
            return tree_id, row["node"] if row.get("node") in same else same[0]
    return None
