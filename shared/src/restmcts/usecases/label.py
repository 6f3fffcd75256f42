"""Labels: the leaves of ended trees are verified, the values of their steps are inferred, and both
are stored. With the reports, the one place that reads true answers.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from restmcts.adapters.observability import metrics, tracing
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import JsonObject, StoredRun
from restmcts.adapters.sql.state import annotations, blocks, labelling, regrading, runs, trees, truth_ledger
from restmcts.adapters.sql.state.labelling import Labelled, TreeToLabel
from restmcts.adapters.sql.state.regrading import TreePair
from restmcts.adapters.sql.tables import Need, RunState
from restmcts.domain.answers.extraction import extract_answer
from restmcts.domain.labels.annotations import Agreed
from restmcts.domain.labels.inferred import end_leaves
from restmcts.domain.labels.rollouts import label_steps
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.phases import SEARCH_PHASE
from restmcts.domain.search.tool_calls import mark_observations
from restmcts.domain.tasks.task import TASKS, Judgement, judged
from restmcts.domain.tree import Node, Tree
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.errors import LEAVING, InputError, UnknownEntryError, is_retryable, reason_of
from restmcts.messages.events import TreesLabelled
from restmcts.ports import Verifier
from restmcts.usecases.truth.judge import OpenJudge, judge_by_models
from restmcts.usecases.truth.vote import KnownAnswers, entry_of, judge_by_vote

log = logging.getLogger(__name__)

TREES_PER_TRANSACTION = 128
DECIDED = ("bootstrap", "collect", "probe")
"""Purposes of searches whose verdicts may come from another source than the true answers."""


def label_trees(
    database: Database, verifier: Verifier, tree_ids: Sequence[int], open_judge: OpenJudge | None = None
) -> None:
    """Label those of the trees that have ended; the others are left as they are. A tree that cannot
    be labelled fails, with the reason, and no other.

    Args:
        open_judge: where language models give verdicts; None: none can be asked here.
    """
    for start in range(0, len(tree_ids), TREES_PER_TRANSACTION):
        together = tree_ids[start : start + TREES_PER_TRANSACTION]
        try:
            _label(database, verifier, together, open_judge)
        except LEAVING:
            raise
        except BaseException as error:
            if is_retryable(error):
                raise
            log.warning("%d trees cannot be labelled together (%s); one by one", len(together), reason_of(error))
            for tree_id in together:
                _label_alone(database, verifier, tree_id, open_judge)


def _label_alone(database: Database, verifier: Verifier, tree_id: int, open_judge: OpenJudge | None) -> None:
    try:
        _label(database, verifier, [tree_id], open_judge)
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


def _label(database: Database, verifier: Verifier, tree_ids: Sequence[int], open_judge: OpenJudge | None) -> None:
    with database.transaction() as transaction:
        rows = labelling.ended(transaction, tree_ids)
        loaded = trees.load_trees(transaction, [row.tree_id for row in rows])
        known = _known_answers(transaction, rows)
    with tracing.step("label", [row.tree_id for row in rows]):
        outcomes = _outcomes(rows, loaded, verifier, known, open_judge)
    with database.transaction() as transaction:
        still_ended = labelling.lock_ended(transaction, list(outcomes))
        _save(transaction, rows, [outcomes[tree_id] for tree_id in still_ended])
        for phase_id in sorted({row.phase_id for row in rows}):
            blocks.unblock(transaction, Need.PHASE, phase_id)
        transaction.emit(*(TreesLabelled(run_id=run_id) for run_id in sorted({row.run_id for row in rows})))
    for row in rows:
        _observe(row, outcomes[row.tree_id])


def _known_answers(transaction: Transaction, rows: Sequence[TreeToLabel]) -> dict[int, KnownAnswers]:
    """Return what was accepted as true of the problems of trees, by run and digest."""
    digests: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        digests[row.run_id] |= {row.digest}
    return {run: truth_ledger.answers_by_problem(transaction, run, sorted(own)) for run, own in digests.items()}


def _outcomes(
    rows: Sequence[TreeToLabel],
    loaded: Mapping[int, Tree],
    verifier: Verifier,
    known: Mapping[int, KnownAnswers],
    open_judge: OpenJudge | None,
    regraded: TruthSettings | None = None,
    people: Mapping[int, Agreed] | None = None,
) -> dict[int, Labelled]:
    """Return what trees came to, each knowing what was accepted as true in those before it."""
    found = {}
    for row in rows:
        said = (people or {}).get(row.tree_id)
        outcome = outcome_of(row, loaded[row.tree_id], verifier, known[row.run_id], regraded, open_judge, said)
        if outcome.entry is not None and outcome.entry.answer is not None:
            known[row.run_id].setdefault(row.digest, []).append(outcome.entry.answer)
        found[row.tree_id] = outcome
    return found


def _save(transaction: Transaction, rows: Sequence[TreeToLabel], outcomes: Sequence[Labelled]) -> None:
    labelling.save(transaction, outcomes)
    entries = {one.tree_id: one.entry for one in outcomes if one.entry is not None}
    truth_ledger.write(transaction, {row.tree_id: row.run_id for row in rows}, entries)


def outcome_of(
    row: TreeToLabel,
    tree: Tree,
    verifier: Verifier,
    known: KnownAnswers | None = None,
    regraded: TruthSettings | None = None,
    open_judge: OpenJudge | None = None,
    people: Agreed | None = None,
) -> Labelled:
    """Return what an ended tree (`row` is that of `labelling.ended`) came to; where its phase
    merges given solutions and knows true answers, the problem's is added to the tree.

    Args:
        known: what was accepted as true in the run so far.
        regraded: another source of verdicts than the phase's; the true answer, where there is one,
            is then looked up for every tree, as for a probe's.
        open_judge: where language models give verdicts; None: none can be asked here.
        people: what people agree on, which replaces verdicts and whether steps are right.
    """
    phase = SEARCH_PHASE.validate_python(row.spec)
    truth = regraded if regraded is not None and phase.purpose in DECIDED else phase.truth
    num_searched = len(tree)
    if phase.merge_solutions and row.solution and truth.knows_answers:
        steps = [ProposedStep(step, 0, 0.0) for step in row.solution]
        task = TASKS.get(row.kind)
        tree.add_path(tree.root, steps, lambda step: task.ends(step.text))
        if phase.tools.max_calls:
            mark_observations(tree, lambda step: task.calls(step) and not task.ends(step), num_searched)
    is_graded_alone = phase.purpose == "evaluate"
    threshold = None if is_graded_alone else phase.search.verified_threshold
    leaves, entry = end_leaves(tree, threshold), None
    unanswered = {leaf.node_id: _unanswered(leaf) for leaf in leaves if leaf.observed}
    leaves = [leaf for leaf in leaves if not leaf.observed]
    if truth.knows_answers:
        judgements = _verify(row, tree, leaves, verifier)
    else:
        if truth.source == "votes":
            judgements, answer = judge_by_vote(row, tree, leaves, phase, truth, verifier, known or {})
        else:
            judgements, answer = judge_by_models(row, tree, leaves, truth, verifier, known or {}, open_judge)
        asks = phase.purpose == "probe" or (regraded is not None and row.answer is not None)
        entry = entry_of(row, tree, phase.iteration, answer, judgements, verifier if asks else None)
    people = people if people is not None else Agreed()
    judgements = {**judgements, **unanswered, **_by_people(tree, people)}
    verdicts = {node_id: found.verdict for node_id, found in judgements.items()}
    scores = {node_id: found.score for node_id, found in judgements.items() if found.score is not None}
    chosen = tree[row.chosen_node] if row.chosen_node is not None else None
    own = {node_id: verdict for node_id, verdict in verdicts.items() if node_id < num_searched}
    return Labelled(
        tree_id=row.tree_id,
        judgements=judgements,
        labels={} if is_graded_alone else label_steps(tree, verdicts, phase.labels, scores, people.steps),
        added=tree.nodes[num_searched:],
        answer=extract_answer("".join(tree.steps_to(chosen))) if chosen is not None else None,
        # What was not finished, for want of tokens or of time, might have become right.
        verdict=own.get(chosen.node_id, Verdict.UNDECIDED) if chosen is not None else Verdict.UNDECIDED,
        solved=Verdict.RIGHT in own.values(),
        entry=entry,
    )


def _verify(row: TreeToLabel, tree: Tree, leaves: Sequence[Node], verifier: Verifier) -> dict[int, Judgement]:
    """Return what leaves were found to be; one that is not finished is never wrong."""
    checks = [Check(row.question, row.answer, row.kind, "".join(tree.steps_to(leaf))) for leaf in leaves]
    found = zip(leaves, verifier.judge(checks), strict=True)
    return {leaf.node_id: one if leaf.final or one.verdict == Verdict.RIGHT else _open(one) for leaf, one in found}


def _by_people(tree: Tree, people: Agreed) -> dict[int, Judgement]:
    """Return people's verdicts on answers, of nodes that the tree still has."""
    verdicts = {True: Verdict.RIGHT, False: Verdict.WRONG}
    known = {node_id: is_right for node_id, is_right in people.answers.items() if node_id < len(tree)}
    return {node_id: judged(verdicts[is_right], "people", "people say so") for node_id, is_right in known.items()}


def _open(found: Judgement) -> Judgement:
    return judged(Verdict.UNDECIDED, found.source, "the solution is not finished")


def _unanswered(leaf: Node) -> Judgement:
    """Return what is known of a solution that ends with a call which nobody could answer."""
    return judged(Verdict.UNDECIDED, reason=f"a tool was {leaf.step.strip()}")


def _observe(row: TreeToLabel, outcome: Labelled) -> None:
    """Count what was labelled, and end the tree's trace."""
    metrics.TREES_LABELLED.inc()
    for found in outcome.judgements.values():
        metrics.VERDICTS.labels(found.verdict.value).inc()
    of_tree = {"restmcts.run": row.run_id, "restmcts.verdict": outcome.verdict.value}
    tracing.whole(row.tree_id, row.started_at, row.ended_at, **of_tree)


@dataclass(slots=True)
class Regraded:
    """What became of the trees of a run.

    Attributes:
        name: of the run that holds the new verdicts.
        num_trees: graded in this call.
        verdicts: how many leaves had which verdict before and after.
        solved: how many trees were solved before and after.
        num_labels: steps that had a label before or have one now.
        num_annotated: steps and answers for which people's verdicts were taken over.
        num_labels_changed: those whose quality value is another one, or that have one only before
            or only now.
    """

    name: str
    num_trees: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    solved: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    num_labels: int = 0
    num_labels_changed: int = 0
    num_annotated: int = 0

    @property
    def num_verdicts_changed(self) -> int:
        """How many leaves have another verdict than before."""
        return sum(count for (before, after), count in self.verdicts.items() if before != after)


def regrade(
    database: Database,
    verifier: Verifier,
    verifier_version: str,
    run: str,
    name: str,
    on_trees: Callable[[int], None] = lambda _: None,
    truth: TruthSettings | None = None,
    open_judge: OpenJudge | None = None,
    annotated: bool = False,
) -> Regraded:
    """Grade the labelled trees of a run again, as a new run; one that was started is continued.

    Args:
        verifier_version: stored with the new run.
        run: whose trees are graded; it stays as it is.
        name: of the new run.
        on_trees: called with the number of trees that are graded so far.
        truth: where the verdicts of training trees come from; None: as in the run.
        open_judge: where language models give verdicts; None: none can be asked.
        annotated: whether what people agree on replaces verdicts on answers, and whether steps are
            right.

    Raises:
        InputError: if there is no such run, it has no labelled trees or no annotations that are
            asked for, or another run has the name.
    """
    with database.transaction() as transaction:
        old_run = queries.run_named(transaction, run)
        by: JsonObject = {"run": run, "verifier": verifier_version}
        by |= {"truth": asdict(truth)} if truth is not None else {}
        by |= {"annotations": _annotations_of(transaction, old_run)} if annotated else {}
        new_run = _begun(transaction, old_run, name, by)
    found = Regraded(name)
    while True:
        with database.transaction() as transaction:
            pairs = regrading.trees_to_grade(transaction, old_run.id, new_run, TREES_PER_TRANSACTION)
        if not pairs:
            break
        _grade(database, verifier, pairs, found, truth, open_judge, annotated)
        on_trees(found.num_trees)
    with database.transaction() as transaction:
        runs.finish_run(transaction, new_run, RunState.DONE)
    return found


def _annotations_of(transaction: Transaction, run: StoredRun) -> int:
    """Return how many annotations a run has."""
    found = annotations.of_run(transaction, run.id)
    if not found:
        raise InputError(f"nobody has annotated a tree of run {run.name!r}: `restmcts ui` shows trees, to be annotated")
    return len(found)


def _begun(transaction: Transaction, source: StoredRun, name: str, by: JsonObject) -> int:
    """Return the id of the copy, which is made if it is not there."""
    known = runs.find_run(transaction, name)
    if known is None:
        new_run = regrading.copy_run(transaction, source, name, by)
        if not regrading.trees_to_grade(transaction, source.id, new_run, 1):
            raise InputError(f"run {source.name!r} has no labelled tree to grade again")
        return new_run
    if known.config.get("regraded") != by or known.state == RunState.DONE.value:
        raise InputError(f"a run named {name!r} exists already: choose another name with --name")
    return known.id


def _grade(
    database: Database,
    verifier: Verifier,
    pairs: list[TreePair],
    found: Regraded,
    truth: TruthSettings | None,
    open_judge: OpenJudge | None,
    annotated: bool,
) -> None:
    new_ids, old_ids = [pair.new_id for pair in pairs], [pair.old_id for pair in pairs]
    with database.transaction() as transaction:
        rows = labelling.ended(transaction, new_ids)
        loaded = trees.load_trees(transaction, new_ids)
        before = trees.load_labels(transaction, old_ids)
        known = _known_answers(transaction, rows)
        agreed = annotations.agreed(transaction, old_ids) if annotated else {}
    people = {pair.new_id: agreed[pair.old_id] for pair in pairs if pair.old_id in agreed}
    outcomes = _outcomes(rows, loaded, verifier, known, open_judge, truth, people)
    for tree_id, one in people.items():
        outcome = outcomes[tree_id]
        found.num_annotated += len(one.steps.keys() & outcome.labels.keys())
        found.num_annotated += len(one.answers.keys() & outcome.judgements.keys())
    with database.transaction() as transaction:
        still_ended = labelling.lock_ended(transaction, new_ids)
        _save(transaction, rows, [outcomes[tree_id] for tree_id in still_ended])
    for pair in pairs:
        verdicts, labels = before[pair.old_id]
        outcome = outcomes[pair.new_id]
        found.num_trees += 1
        found.solved[bool(pair.was_solved), outcome.solved] += 1
        for node_id in verdicts.keys() & outcome.judgements.keys():
            found.verdicts[str(verdicts[node_id]), str(outcome.judgements[node_id].verdict)] += 1
        labelled = labels.keys() | outcome.labels.keys()
        found.num_labels += len(labelled)
        found.num_labels_changed += sum(labels.get(one) != outcome.labels.get(one) for one in labelled)
