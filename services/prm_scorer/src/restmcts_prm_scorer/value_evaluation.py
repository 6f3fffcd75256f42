"""Evaluate value models for a promotion: how well their values separate right steps from wrong ones
on held-out trees, and on labelled solutions where the run has some.

The one place of this service that reads labels; searches never see what it finds. It takes a few
trees at a time, so that requests have their turn with the models in between.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from restmcts.adapters.models.interruption import InterruptedCallError, check_interruption, interrupted_by
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.rows import StoredProblem
from restmcts.adapters.sql.state import promotions, runs, trees
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.workers.model_cache import ModelCache
from restmcts.domain.labels.filtering import value_paths
from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.labels.labelled_solutions import labels_of
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.runs.phases import PROMOTION_PHASE, PromotionPhase
from restmcts.domain.runs.promotion import AUC, BENCH_AUC, SIBLING_ACCURACY, HeldOutStep, auc, sibling_accuracy
from restmcts.domain.stats.estimates import Figure
from restmcts.domain.tree import Tree
from restmcts.errors import ModelError, is_retryable
from restmcts.messages.commands import EvaluateValues
from restmcts.messages.events import ValuesJudged
from restmcts.ports import StepScorer
from restmcts.usecases import promote
from restmcts.usecases.blocked import blocking
from restmcts.usecases.leases import renewed
from restmcts.usecases.serve_claims import WorkerSettings

log = logging.getLogger(__name__)
LabelledTree = tuple[str, Tree, dict[int, StepLabel]]
TREES_AT_ONCE = 32
Member = TypeVar("Member")


class Evaluations:
    """Evaluates for promotions: in the thread that was asked to, or, where models are served side
    by side, in one of its own, so that the worker goes on taking messages.
    """

    def __init__(self, database: Database, scorers: ModelCache[StepScorer], settings: WorkerSettings) -> None:
        self._database, self._scorers, self._settings = database, scorers, settings
        self._lock = threading.Lock()
        self._under_way: set[int] = set()
        self._errors: dict[int, BaseException] = {}
        self._threads = ThreadPoolExecutor(max(settings.max_at_once, 1), thread_name_prefix="evaluation")

    def ask(self, phase_id: int) -> None:
        """Evaluate for a promotion, unless that is under way.

        Raises:
            BaseException: why that failed when it was last asked for.
        """
        if not self._settings.max_at_once:
            evaluate(self._database, self._scorers, phase_id, self._settings)
            return
        with self._lock:
            error = self._errors.pop(phase_id, None)
            if error is None and phase_id not in self._under_way:
                self._under_way.add(phase_id)
                self._threads.submit(self._evaluate_beside, phase_id)
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait for what is under way; the worker must be stopping."""
        self._threads.shutdown()

    def _evaluate_beside(self, phase_id: int) -> None:
        failed: BaseException | None = None
        try:
            evaluate(self._database, self._scorers, phase_id, self._settings)
        except BaseException as error:
            log.warning("promotion %d is not evaluated: %s", phase_id, error)
            # Told by the next message, in the thread that knows what to do with it.
            failed = None if is_retryable(error) else error
        with self._lock:
            self._under_way.discard(phase_id)
            if failed is not None:
                self._errors[phase_id] = failed


def evaluate(database: Database, scorers: ModelCache[StepScorer], phase_id: int, settings: WorkerSettings) -> None:
    """Decide a promotion that waits for it; if another checkpoint is promoted meanwhile, evaluate
    again. It is left to other workers if this one ends.
    """
    try:
        while not _evaluate(database, scorers, phase_id, settings):
            pass
    except InterruptedCallError:
        if not settings.stopping.is_set():
            return
        with database.transaction() as transaction:
            row = runs.phase_by_id(transaction, phase_id, lock=True)
            if row is not None and row.state == PhaseState.PROMOTING:
                runs.set_phase(transaction, phase_id, PhaseState.PROMOTING, lease_until=None)
                transaction.emit(EvaluateValues(phase_id=phase_id))


def _evaluate(database: Database, scorers: ModelCache[StepScorer], phase_id: int, settings: WorkerSettings) -> bool:
    """Return whether the promotion waits no more."""
    with database.transaction() as transaction:
        row = runs.phase_by_id(transaction, phase_id)
        if row is None or row.state != PhaseState.PROMOTING:
            return True
        phase = PROMOTION_PHASE.validate_python(row.spec)
        candidate = runs.checkpoints_of(transaction, row.run_id)[phase.candidate]
        incumbent = promotions.promoted(transaction, row.run_id, phase.model)
        held_out = _held_out(transaction, row.run_id, phase)
        bench = None if phase.bench_set is None else runs.problems_of(transaction, row.run_id, phase.bench_set)
    with blocking(database, phase_id), _kept(database, phase_id, settings):
        new = _figures(scorers, candidate.id, held_out, bench, settings)
        old = dict.fromkeys(new) if incumbent is None else _figures(scorers, incumbent.id, held_out, bench, settings)
    with database.transaction() as transaction:
        runs.lock_run(transaction, row.run_id)
        row = runs.phase_by_id(transaction, phase_id, lock=True)
        if row is None or row.state != PhaseState.PROMOTING:
            return True
        now_promoted = promotions.promoted(transaction, row.run_id, phase.model)
        if (now_promoted and now_promoted.id) != (incumbent and incumbent.id):
            return False
        promote.decide(transaction, row, phase, candidate, incumbent, {name: (new[name], old[name]) for name in new})
        transaction.emit(ValuesJudged(run_id=row.run_id))
        return True


def _held_out(transaction: Transaction, run_id: int, phase: PromotionPhase) -> list[LabelledTree]:
    """Return the labelled trees on which a promotion compares value models."""
    evidence = next(row.spec for row in runs.phases_of(transaction, run_id) if row.name == phase.evidence)
    problems = runs.problems_of_round(transaction, run_id, evidence["problem_set"], phase.round)
    problem_ids = {problem.id for problem in problems}
    found = []
    for labelled in runs.labelled_trees(transaction, run_id, (phase.evidence,)):
        batch = [row for row in labelled if row.id in problem_ids]
        loaded = trees.load_trees(transaction, [row.tree_id for row in batch])
        labels = trees.load_labels(transaction, loaded)
        found += [(row.question, loaded[row.tree_id], labels[row.tree_id][1]) for row in batch]
    return found


@contextmanager
def _kept(database: Database, phase_id: int, settings: WorkerSettings) -> Iterator[None]:
    """Keep others from a promotion that is evaluated here; what is done is interrupted if nobody
    wants it any more, or the worker ends.
    """
    lost = threading.Event()

    def renew() -> None:
        with database.transaction() as transaction:
            row = runs.phase_by_id(transaction, phase_id, lock=True)
            is_waiting = row is not None and row.state == PhaseState.PROMOTING
            if row is None or not is_waiting or runs.state_of(transaction, row.run_id) == RunState.CANCELLED:
                lost.set()
                return
            runs.set_phase(transaction, phase_id, PhaseState.PROMOTING, lease_until=moment(settings.lease_seconds))

    renew()
    with (
        renewed(f"promotion {phase_id}", settings.lease_seconds, renew),
        interrupted_by(lambda: lost.is_set() or settings.stopping.is_set()),
    ):
        yield


def _figures(
    scorers: ModelCache[StepScorer],
    checkpoint_id: int,
    held_out: list[LabelledTree],
    bench: list[StoredProblem] | None,
    settings: WorkerSettings,
) -> dict[str, Figure | None]:
    steps = _in_batches(
        scorers, checkpoint_id, [tree for tree in held_out if len(tree[2]) > 1], _held_out_steps, settings
    )
    figures = {AUC: auc(steps), SIBLING_ACCURACY: sibling_accuracy(steps)}
    if bench is None:
        return figures
    found = _in_batches(scorers, checkpoint_id, bench, _bench_steps, settings)
    by_question: dict[str, list[HeldOutStep]] = {}
    for problem, steps_of_solution in zip(bench, found, strict=True):
        by_question.setdefault(problem.digest, []).extend(steps_of_solution)
    return {**figures, BENCH_AUC: auc(list(by_question.values()))}


def _in_batches(
    scorers: ModelCache[StepScorer],
    checkpoint_id: int,
    members: Sequence[Member],
    score: Callable[[StepScorer, Sequence[Member]], list[list[HeldOutStep]]],
    settings: WorkerSettings,
) -> list[list[HeldOutStep]]:
    steps: list[list[HeldOutStep]] = []
    for start in range(0, len(members), TREES_AT_ONCE):
        check_interruption()
        with settings.at_work(), scorers.use(checkpoint_id) as scorer:
            steps += score(scorer, members[start : start + TREES_AT_ONCE])
        settings.on_batch()
    return steps


def _bench_steps(scorer: StepScorer, solutions: Sequence[StoredProblem]) -> list[list[HeldOutStep]]:
    """Return the labelled steps of each solution with the scorer's values; none of a solution that
    the scorer refuses.
    """
    steps = [tuple(solution.solution or ()) for solution in solutions]
    requests = [ScoreSteps(number, (), (each,)) for number, each in enumerate(steps)]
    try:
        answers = scorer.score([solution.question for solution in solutions], requests)
    except ModelError:
        if len(solutions) == 1:
            return [[]]
        return [found for solution in solutions for found in _bench_steps(scorer, [solution])]
    return [
        [
            HeldOutStep(place, value, is_right)
            for place, (value, is_right) in enumerate(
                zip(answer.values[0], labels_of(solution.answer, each), strict=True)
            )
            if is_right is not None
        ]
        for solution, each, answer in zip(solutions, steps, answers, strict=True)
    ]


def _held_out_steps(scorer: StepScorer, held_out: Sequence[LabelledTree]) -> list[list[HeldOutStep]]:
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
