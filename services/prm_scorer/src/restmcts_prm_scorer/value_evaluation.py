"""Evaluate value models for a promotion: how well their values separate right steps from wrong ones
on held-out trees.

The one place of this service that reads labels; searches never see what it finds.
"""

from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import promotions, runs, trees
from restmcts.adapters.sql.tables import PhaseState
from restmcts.adapters.workers.model_cache import ModelCache
from restmcts.domain.labels.filtering import value_paths
from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.runs.phases import PROMOTION_PHASE
from restmcts.domain.runs.promotion import HeldOutStep, auc, sibling_accuracy
from restmcts.domain.stats.estimates import Figure
from restmcts.domain.tree import Tree
from restmcts.messages.commands import EvaluateValues
from restmcts.messages.events import ValuesJudged
from restmcts.ports import StepScorer
from restmcts.usecases import promote
from restmcts.usecases.blocked import blocking

LabelledTree = tuple[str, Tree, dict[int, StepLabel]]


def evaluate(database: Database, scorers: ModelCache[StepScorer], phase_id: int) -> None:
    """Decide a promotion that waits for it; if another checkpoint is promoted meanwhile, ask for
    another evaluation.
    """
    with database.transaction() as transaction:
        row = runs.phase_by_id(transaction, phase_id)
        if row is None or row.state != PhaseState.PROMOTING:
            return
        phase = PROMOTION_PHASE.validate_python(row.spec)
        candidate = runs.checkpoints_of(transaction, row.run_id)[phase.candidate]
        incumbent = promotions.promoted(transaction, row.run_id, phase.model)
        held_out = _held_out(transaction, row.run_id, phase.evidence)
    with blocking(database, phase_id):
        new = _figures(scorers, candidate.id, held_out)
        old = _figures(scorers, incumbent.id, held_out) if incumbent is not None else dict.fromkeys(new)
    with database.transaction() as transaction:
        runs.lock_run(transaction, row.run_id)
        row = runs.phase_by_id(transaction, phase_id, lock=True)
        if row is None or row.state != PhaseState.PROMOTING:
            return
        now_promoted = promotions.promoted(transaction, row.run_id, phase.model)
        if (now_promoted and now_promoted.id) != (incumbent and incumbent.id):
            transaction.emit(EvaluateValues(phase_id=phase_id))
            return
        promote.decide(transaction, row, phase, candidate, incumbent, {name: (new[name], old[name]) for name in new})
        transaction.emit(ValuesJudged(run_id=row.run_id))


def _held_out(transaction: Transaction, run_id: int, phase_name: str) -> list[LabelledTree]:
    found = []
    for batch in runs.labelled_trees(transaction, run_id, (phase_name,)):
        loaded = trees.load_trees(transaction, [row.tree_id for row in batch])
        labels = trees.load_labels(transaction, loaded)
        found += [(row.question, loaded[row.tree_id], labels[row.tree_id][1]) for row in batch]
    return found


def _figures(
    scorers: ModelCache[StepScorer], checkpoint_id: int, held_out: list[LabelledTree]
) -> dict[str, Figure | None]:
    with scorers.use(checkpoint_id) as scorer:
        steps = _held_out_steps(scorer, [tree for tree in held_out if len(tree[2]) > 1])
    return {"auc": auc(steps), "sibling accuracy": sibling_accuracy(steps)}


def _held_out_steps(scorer: StepScorer, held_out: list[LabelledTree]) -> list[list[HeldOutStep]]:
    """Return the labelled steps of each tree with the scorer's values; one request a tree."""
    paths = [value_paths(tree, labels) for _, tree, labels in held_out]
    requests = [ScoreSteps(number, (), tuple(path.steps for path in found)) for number, found in enumerate(paths)]
    answers = scorer.score([question for question, _, _ in held_out], requests)
    evaluated = []
    for (_, tree, labels), found, answer in zip(held_out, paths, answers, strict=True):
        steps: dict[int, HeldOutStep] = {}
        for path, values in zip(found, answer.values, strict=True):
            for node, value in zip(tree.lineage(tree[path.node_id])[1:], values, strict=True):
                steps[node.node_id] = HeldOutStep(node.parent_id or 0, value, labels[node.node_id].step_is_right)
        evaluated.append(list(steps.values()))
    return evaluated
