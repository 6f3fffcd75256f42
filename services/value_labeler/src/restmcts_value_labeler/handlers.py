"""Verify ended trees, infer the values of their steps, and write training data. The one place
that reads true answers.
"""

from collections.abc import Sequence
from typing import Any

from restmcts.adapters.observability import metrics, tracing
from restmcts.adapters.sql import labelling, runs, trees
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.labelling import Labelled
from restmcts.adapters.sql.tables import PhaseState
from restmcts.domain.answers.extraction import extract_answer, states_answer
from restmcts.domain.labels.inferred import end_leaves
from restmcts.domain.labels.rollouts import label_steps
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.phases import SEARCH_PHASE, TRAINING_PHASE
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.tree import Node, Tree
from restmcts.messages.commands import LabelTrees, WriteDataset
from restmcts.messages.events import DatasetWritten, TreesLabelled
from restmcts.ports import ArtifactStore, Verifier

from restmcts_value_labeler.datasets import write_dataset

TREES_PER_TRANSACTION = 128


class ValueLabelerHandlers:
    """Handlers of the queue `labels`."""

    def __init__(self, database: Database, artifacts: ArtifactStore, verifier: Verifier) -> None:
        self._database = database
        self._artifacts = artifacts
        self._verifier = verifier

    def label_trees(self, message: LabelTrees) -> None:
        """Label those of the trees that have ended; the others are left as they are."""
        for start in range(0, len(message.tree_ids), TREES_PER_TRANSACTION):
            self._label(message.tree_ids[start : start + TREES_PER_TRANSACTION])

    def _label(self, tree_ids: Sequence[int]) -> None:
        with self._database.transaction() as transaction:
            rows = labelling.ended(transaction, tree_ids)
            loaded = trees.load_trees(transaction, [row.tree_id for row in rows])
        with tracing.step("label", [row.tree_id for row in rows]):
            outcomes = {row.tree_id: self._judge(row, loaded[row.tree_id]) for row in rows}
        with self._database.transaction() as transaction:
            labelling.save(
                transaction, [outcomes[tree_id] for tree_id in labelling.lock_ended(transaction, list(outcomes))]
            )
            transaction.emit(*(TreesLabelled(run_id=run_id) for run_id in sorted({row.run_id for row in rows})))
        for row in rows:
            _tell(row, outcomes[row.tree_id])

    def _judge(self, row: Any, tree: Tree) -> Labelled:
        phase = SEARCH_PHASE.validate_python(row.spec)
        num_searched = len(tree)
        if phase.merge_solutions and row.solution:
            steps = [ProposedStep(step, 0, 0.0) for step in row.solution]
            tree.add_path(tree.root, steps, lambda step: states_answer(step.text))
        gate = (
            phase.search.end_gate
            if isinstance(phase.search, MctsStarSettings) and phase.purpose != "evaluate"
            else None
        )
        verdicts = self._verify(row, tree, end_leaves(tree, gate))
        chosen = tree[row.chosen_node] if row.chosen_node is not None else None
        own = {node_id: verdict for node_id, verdict in verdicts.items() if node_id < num_searched}
        return Labelled(
            tree_id=row.tree_id,
            verdicts=verdicts,
            labels={} if phase.purpose == "evaluate" else label_steps(tree, verdicts, phase.labels),
            added=tree.nodes[num_searched:],
            answer=extract_answer("".join(tree.steps_to(chosen))) if chosen is not None else None,
            verdict=own.get(chosen.node_id, Verdict.WRONG) if chosen is not None else Verdict.WRONG,
            solved=Verdict.RIGHT in own.values(),
        )

    def _verify(self, row: Any, tree: Tree, leaves: Sequence[Node]) -> dict[int, Verdict]:
        checks = [Check(row.question, row.answer, row.kind, "".join(tree.steps_to(leaf))) for leaf in leaves]
        return dict(zip((leaf.node_id for leaf in leaves), self._verifier.verify(checks), strict=True))

    def write_dataset(self, message: WriteDataset) -> None:
        """Write the data of a training phase as one artifact; again only if it is not there."""
        with self._database.transaction() as transaction:
            row = runs.phase_by_id(transaction, message.phase_id)
            known = runs.dataset_of(transaction, message.phase_id)
        if row is None or row.state != PhaseState.WRITING:
            return
        if known is None:
            phase = TRAINING_PHASE.validate_python(row.spec)
            artifact, card = write_dataset(self._database, self._artifacts, row.run_id, phase)
            with self._database.transaction() as transaction:
                if runs.dataset_of(transaction, message.phase_id) is None:
                    runs.add_dataset(transaction, message.phase_id, phase.kind, artifact.uri, artifact.digest, card)
        with self._database.transaction() as transaction:
            transaction.emit(DatasetWritten(run_id=row.run_id))


def _tell(row: Any, outcome: Labelled) -> None:
    """Count what was labelled, and end the tree's trace."""
    metrics.TREES_LABELLED.inc()
    for verdict in outcome.verdicts.values():
        metrics.VERDICTS.labels(verdict.value).inc()
    tracing.whole(
        row.tree_id,
        row.started_at,
        row.ended_at,
        **{"restmcts.run": row.run_id, "restmcts.verdict": outcome.verdict.value},
    )
