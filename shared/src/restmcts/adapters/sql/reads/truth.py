"""Where the verdicts of a run come from, and what they are worth: one read for whoever shows it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import func, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.rows import JsonObject
from restmcts.adapters.sql.state import archived_trees, truth_ledger
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import NODES, RUNS, TREES
from restmcts.adapters.sql.state.truth_ledger import LEDGER
from restmcts.domain.problems import Verdict
from restmcts.domain.truth.ledger import (
    AcceptedAnswer,
    Flip,
    FlippedProblem,
    LedgerEntry,
    RunTruth,
    flips_of,
    summarise_truth,
)

OF_THE_TASK = ("answers", "tests")
BATCH = 500


def source_of_verdicts(config: JsonObject) -> str | None:
    """Return what the verdicts of a run rest on; None: true answers give them all.

    Args:
        config: the run's.
    """
    settings = config.get("regraded", {}).get("truth") or config.get("truth") or {}
    source = settings.get("source", OF_THE_TASK[0])
    return None if source in OF_THE_TASK else str(source)


def read_truth(transaction: Transaction, run_id: int, config: JsonObject) -> RunTruth | None:
    """Return where the verdicts of a run come from; None: true answers give them all.

    Args:
        config: the run's.
    """
    source = source_of_verdicts(config)
    if source is None:
        return None
    entries = truth_ledger.entries_of(transaction, run_id)
    is_checked = not unchecked_runs(transaction, [run_id])
    return RunTruth(source, is_checked, summarise_truth(entries), _flipped(transaction, run_id, entries))


def unchecked_runs(transaction: Transaction, run_ids: Iterable[int]) -> set[int]:
    """Return which of some runs have verdicts that neither true answers give nor a probe checks: a
    probe is a set with a true answer at least, or trees in the ledger that were checked.
    """
    configs = select(RUNS.c.id, RUNS.c.config).where(RUNS.c.id.in_(list(run_ids)))
    suspected = {
        run_id: config.get("probe_set")
        for run_id, config in transaction.execute(configs)
        if source_of_verdicts(config) is not None
    }
    if not suspected:
        return set()
    probed = select(LEDGER.c.run_id).where(LEDGER.c.run_id.in_(suspected), LEDGER.c.is_probe).distinct()
    checked = set(transaction.execute(probed).scalars())
    for run_id, probe_set in suspected.items():
        of_set = (PROBLEMS.c.run_id == run_id, PROBLEMS.c.set_name == probe_set, PROBLEMS.c.answer.is_not(None))
        if probe_set is not None and transaction.execute(select(PROBLEMS.c.id).where(*of_set).limit(1)).first():
            checked.add(run_id)
    return set(suspected) - checked


def _flipped(transaction: Transaction, run_id: int, entries: Sequence[LedgerEntry]) -> list[FlippedProblem]:
    """Return the flips of a run, the latest first."""
    flips = flips_of(entries)
    found: list[FlippedProblem] = []
    for start in range(0, len(flips), BATCH):
        found += _described(transaction, run_id, flips[start : start + BATCH])
    return sorted(found, key=lambda one: (-one.now.iteration, one.now.tree_id))


@dataclass(frozen=True, slots=True)
class _AcceptingTree:
    tree_id: int
    digest: str
    iteration: int
    answer: str
    is_probe: bool
    question: str
    share: float | None


def _described(transaction: Transaction, run_id: int, flips: Sequence[Flip]) -> list[FlippedProblem]:
    accepting = _accepting_trees(transaction, run_id, {flip.digest for flip in flips})
    found = []
    for flip in flips:
        before = accepting.get((flip.digest, flip.iteration_before, flip.before))
        now = accepting.get((flip.digest, flip.iteration, flip.now))
        if before is not None and now is not None:
            found.append(FlippedProblem(now.question, now.is_probe, _accepted(before), _accepted(now)))
    return found


def _accepted(tree: _AcceptingTree) -> AcceptedAnswer:
    return AcceptedAnswer(tree.iteration, tree.answer, tree.share, tree.tree_id)


def _accepting_trees(
    transaction: Transaction, run_id: int, digests: set[str]
) -> Mapping[tuple[str, int, str], _AcceptingTree]:
    """Return the first tree that accepted an answer, by problem, iteration and answer. The share of
    the votes is the score of the solutions that were found right.
    """
    own = (LEDGER.c.tree_id, LEDGER.c.digest, LEDGER.c.iteration, LEDGER.c.answer, LEDGER.c.is_probe)
    is_right = (NODES.c.tree_id == LEDGER.c.tree_id) & (NODES.c.verdict == Verdict.RIGHT.value)
    share = select(func.max(NODES.c.score)).where(is_right).correlate(LEDGER).scalar_subquery().label("share")
    statement = (
        select(*own, PROBLEMS.c.question, share)
        .join(TREES, TREES.c.id == LEDGER.c.tree_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(LEDGER.c.run_id == run_id, LEDGER.c.digest.in_(digests), LEDGER.c.answer.is_not(None))
        .order_by(LEDGER.c.tree_id)
    )
    archived = archived_trees.numbers_of(transaction, run_id)
    found: dict[tuple[str, int, str], _AcceptingTree] = {}
    for row in transaction.rows(_AcceptingTree, statement):
        known = row if archived is None else replace(row, share=archived.shares.get(str(row.tree_id)))
        found.setdefault((row.digest, row.iteration, row.answer), known)
    return found


def shares_of_flips(transaction: Transaction, run_id: int) -> dict[int, float]:
    """Return the shares of the votes that `read_truth` shows of a run, by tree."""
    digests = {flip.digest for flip in flips_of(truth_ledger.entries_of(transaction, run_id))}
    accepting = _accepting_trees(transaction, run_id, digests).values() if digests else ()
    return {one.tree_id: one.share for one in accepting if one.share is not None}
