"""Labels: the leaves of ended trees are verified, the values of their steps are inferred, and both
are stored. With the reports, the one place that reads true answers.
"""

import logging
from collections.abc import Sequence

from restmcts.adapters.observability import metrics, tracing
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks, labelling, trees
from restmcts.adapters.sql.state.labelling import Labelled, TreeToLabel
from restmcts.adapters.sql.tables import Need
from restmcts.domain.answers.extraction import extract_answer
from restmcts.domain.labels.inferred import end_leaves
from restmcts.domain.labels.rollouts import label_steps
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.phases import SEARCH_PHASE
from restmcts.domain.tasks.task import TASKS
from restmcts.domain.tree import Node, Tree
from restmcts.errors import LEAVING, UnknownEntryError, is_retryable, reason_of
from restmcts.messages.events import TreesLabelled
from restmcts.ports import Verifier

log = logging.getLogger(__name__)

TREES_PER_TRANSACTION = 128


def label_trees(database: Database, verifier: Verifier, tree_ids: Sequence[int]) -> None:
    """Label those of the trees that have ended; the others are left as they are. A tree that cannot
    be labelled fails, with the reason, and no other.
    """
    for start in range(0, len(tree_ids), TREES_PER_TRANSACTION):
        together = tree_ids[start : start + TREES_PER_TRANSACTION]
        try:
            _label(database, verifier, together)
        except LEAVING:
            raise
        except BaseException as error:
            if is_retryable(error):
                raise
            log.warning("%d trees cannot be labelled together (%s); one by one", len(together), reason_of(error))
            for tree_id in together:
                _label_alone(database, verifier, tree_id)


def _label_alone(database: Database, verifier: Verifier, tree_id: int) -> None:
    try:
        _label(database, verifier, [tree_id])
    except LEAVING:
        raise
    except UnknownEntryError as error:
        with database.transaction() as transaction:
            for row in labelling.ended(transaction, [tree_id]):
                trees.block(transaction, [tree_id], row.run_id, row.phase_id, f"value-labeler: {reason_of(error)}")
    except BaseException as error:
        if is_retryable(error):
            raise
        with database.transaction() as transaction:
            trees.fail(transaction, {tree_id: f"it cannot be labelled: {reason_of(error)}"})
            transaction.emit(*(TreesLabelled(run_id=run_id) for run_id in trees.runs_of(transaction, [tree_id])))


def _label(database: Database, verifier: Verifier, tree_ids: Sequence[int]) -> None:
    with database.transaction() as transaction:
        rows = labelling.ended(transaction, tree_ids)
        loaded = trees.load_trees(transaction, [row.tree_id for row in rows])
    with tracing.step("label", [row.tree_id for row in rows]):
        outcomes = {row.tree_id: outcome_of(row, loaded[row.tree_id], verifier) for row in rows}
    with database.transaction() as transaction:
        still_ended = labelling.lock_ended(transaction, list(outcomes))
        labelling.save(transaction, [outcomes[tree_id] for tree_id in still_ended])
        for phase_id in sorted({row.phase_id for row in rows}):
            blocks.unblock(transaction, Need.PHASE, phase_id)
        transaction.emit(*(TreesLabelled(run_id=run_id) for run_id in sorted({row.run_id for row in rows})))
    for row in rows:
        _observe(row, outcomes[row.tree_id])


def outcome_of(row: TreeToLabel, tree: Tree, verifier: Verifier) -> Labelled:
    """Return what an ended tree (`row` is that of `labelling.ended`) came to; where its phase
    merges given solutions, the problem's is added to the tree.
    """
    phase = SEARCH_PHASE.validate_python(row.spec)
    num_searched = len(tree)
    if phase.merge_solutions and row.solution:
        steps = [ProposedStep(step, 0, 0.0) for step in row.solution]
        tree.add_path(tree.root, steps, lambda step: TASKS.get(row.kind).ends(step.text))
    is_graded_alone = phase.purpose == "evaluate"
    threshold = None if is_graded_alone else phase.search.verified_threshold
    verdicts = _verify(row, tree, end_leaves(tree, threshold), verifier)
    chosen = tree[row.chosen_node] if row.chosen_node is not None else None
    own = {node_id: verdict for node_id, verdict in verdicts.items() if node_id < num_searched}
    return Labelled(
        tree_id=row.tree_id,
        verdicts=verdicts,
        labels={} if is_graded_alone else label_steps(tree, verdicts, phase.labels),
        added=tree.nodes[num_searched:],
        answer=extract_answer("".join(tree.steps_to(chosen))) if chosen is not None else None,
        # What was not finished, for want of tokens or of time, might have become right.
        verdict=own.get(chosen.node_id, Verdict.UNDECIDED) if chosen is not None else Verdict.UNDECIDED,
        solved=Verdict.RIGHT in own.values(),
    )


def _verify(row: TreeToLabel, tree: Tree, leaves: Sequence[Node], verifier: Verifier) -> dict[int, Verdict]:
    """Return the verdicts on leaves; one that is not finished may be right, and is never wrong."""
    checks = [Check(row.question, row.answer, row.kind, "".join(tree.steps_to(leaf))) for leaf in leaves]
    verdicts = zip(leaves, verifier.verify(checks), strict=True)
    return {
        leaf.node_id: verdict if leaf.final or verdict == Verdict.RIGHT else Verdict.UNDECIDED
        for leaf, verdict in verdicts
    }


def _observe(row: TreeToLabel, outcome: Labelled) -> None:
    """Count what was labelled, and end the tree's trace."""
    metrics.TREES_LABELLED.inc()
    for verdict in outcome.verdicts.values():
        metrics.VERDICTS.labels(verdict.value).inc()
    of_tree = {"restmcts.run": row.run_id, "restmcts.verdict": outcome.verdict.value}
    tracing.whole(row.tree_id, row.started_at, row.ended_at, **of_tree)
