"""All runs in one line each, for lists that people sort and filter.

The work does not grow with the trees of phases that are done: what these came to is stored with
the phase. Only trees of phases under way are counted.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, case, func, or_, select, union_all

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import POLICY_PHASES, evaluates_policy
from restmcts.adapters.sql.reads.run_times import RunTimes, run_times
from restmcts.adapters.sql.reads.tree_counts import ENDED_TREES, count_if
from restmcts.adapters.sql.rows import RunFacts, columns
from restmcts.adapters.sql.state import blocks
from restmcts.adapters.sql.state.runs import CHECKPOINTS
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState
from restmcts.domain.stats.estimates import Estimate, share


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers among those of one evaluation phase, at least one."""

    num_right: int
    num_answers: int

    @property
    def accuracy(self) -> Estimate:
        return share(self.num_right, self.num_answers)


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What the phases of a run have come to.

    Attributes:
        iteration: as PhaseTotals.iteration says.
        num_ended: phases that have ended.
        tokens: that the policy generated, evaluations included.
    """

    iteration: int = 0
    num_phases: int = 0
    num_ended: int = 0
    num_trees: int = 0
    num_done: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in one line.

    Attributes:
        policy: where its first policy is from, or "policy-0 of demo"
            where another run has trained it; empty if it has none.
        first: of its first policy; None if that was not evaluated.
        last: of its last policy, or of the only method that it evaluates.
    """

    run: RunFacts
    policy: str
    counts: RunCounts
    first: Score | None
    last: Score | None
    times: RunTimes


def run_lines(transaction: Transaction) -> list[RunLine]:
    """Return all runs, archived ones among them, the newest first."""
    shown = select(*columns(RunFacts, RUNS, besides=("state", "error")), blocks.SHOWN_STATE, blocks.SHOWN_ERROR)
    rows = transaction.rows(RunFacts, shown.select_from(RUNS).order_by(RUNS.c.id.desc()))
    policies, counts, scores = _policies(transaction), _counts(transaction), _scores(transaction)
    times = run_times(transaction)
    return [
        RunLine(
            row,
            policies.get(row.id, ""),
            counts.get(row.id, RunCounts()),
            *_first_and_last(scores.get(row.id, ())),
            times[row.id],
        )
        for row in rows
    ]


def _policies(transaction: Transaction) -> dict[int, str]:
    first = select(func.min(CHECKPOINTS.c.id)).where(CHECKPOINTS.c.kind == "policy").group_by(CHECKPOINTS.c.run_id)
    statement = select(CHECKPOINTS.c.run_id, CHECKPOINTS.c.uri).where(CHECKPOINTS.c.id.in_(first))
    found = {row.run_id: row.uri for row in transaction.execute(statement)}
    makers = _makers(transaction, set(found.values()))
    return {run_id: _maker_or_uri(run_id, uri, makers.get(uri)) for run_id, uri in found.items()}


def _makers(transaction: Transaction, uris: Collection[str]) -> dict[str, tuple[int, str]]:
    """Return by URI the run that has trained a model, and what it is called there; nothing of
    models that runs were given.
    """
    trained = CHECKPOINTS.c.uri.in_(uris) & CHECKPOINTS.c.parent.is_not(None)
    first = select(func.min(CHECKPOINTS.c.id)).where(trained).group_by(CHECKPOINTS.c.uri)
    named = select(CHECKPOINTS.c.uri, CHECKPOINTS.c.run_id, CHECKPOINTS.c.name, RUNS.c.name.label("run"))
    rows = transaction.execute(named.join(RUNS, RUNS.c.id == CHECKPOINTS.c.run_id).where(CHECKPOINTS.c.id.in_(first)))
    return {row.uri: (row.run_id, f"{row.name} of {row.run}") for row in rows}


def _maker_or_uri(run_id: int, uri: str, maker: tuple[int, str] | None) -> str:
    return maker[1] if maker is not None and maker[0] != run_id else uri


_IS_DONE = (PHASES.c.kind == "search") & (PHASES.c.state == PhaseState.DONE.value)
_ENDED = (PhaseState.DONE.value, PhaseState.SKIPPED.value, PhaseState.FAILED.value)


def _stored(name: str) -> ColumnElement[float]:
    """Return a number of what a phase says of its trees once it is done."""
    number = PHASES.c.result[name].as_float()
    return func.coalesce(func.sum(case((_IS_DONE, number))), 0)


def _counts(transaction: Transaction) -> dict[int, RunCounts]:
    started = case((PHASES.c.state != PhaseState.PENDING.value, PHASES.c.iteration), else_=0)
    # Plans name them so; what a phase is for is not read, since its document is long.
    collecting = case((PHASES.c.name.startswith("collect-"), started))
    iteration = func.coalesce(func.max(collecting), func.max(started))
    ended = count_if(PHASES.c.state.in_(_ENDED))
    known = [_stored(name) for name in ("trees", "tokens")]
    by_phase = select(PHASES.c.run_id, iteration, func.count(), ended, *known).group_by(PHASES.c.run_id)
    under_way = (
        select(
            TREES.c.run_id,
            func.count(),
            count_if(TREES.c.state.in_(ENDED_TREES)),
            func.coalesce(func.sum(TREES.c.tokens), 0),
        )
        .where(TREES.c.phase_id.in_(_open_phases()))
        .group_by(TREES.c.run_id)
    )
    more = {run_id: numbers for run_id, *numbers in transaction.execute(under_way)}
    found = {}
    for run_id, iteration, num_phases, num_ended, num_trees, *numbers in transaction.execute(by_phase):
        both = zip((num_trees, num_trees, *numbers), more.get(run_id, [0] * 3), strict=True)
        sums = (int(stored) + int(counted) for stored, counted in both)
        found[run_id] = RunCounts(int(iteration), int(num_phases), int(num_ended), *sums)
    return found


def _open_phases() -> Select[tuple[int]]:
    """Select the searches whose trees must be counted: those that have started and are not done."""
    closed = (PhaseState.DONE.value, PhaseState.PENDING.value, PhaseState.SKIPPED.value)
    return select(PHASES.c.id).where(PHASES.c.kind == "search", PHASES.c.state.not_in(closed))


def _scores(transaction: Transaction) -> Mapping[int, Sequence[tuple[str, Score]]]:
    """Return the evaluations that are done of every run, by phase name, in order: those of its
    policies, or where it has none all others. What a phase is for is read of the latter alone,
    since its document is long.
    """
    right, trees, failed = (PHASES.c.result[name].as_float() for name in ("right", "trees", "failed"))
    of_policy = or_(*(PHASES.c.name.startswith(name, autoescape=True) for name in POLICY_PHASES))
    without = PHASES.c.run_id.not_in(select(PHASES.c.run_id).where(_IS_DONE, of_policy))
    other = without & (PHASES.c.spec["purpose"].as_string() == "evaluate")
    done = select(PHASES.c.run_id, PHASES.c.name, PHASES.c.position, right.label("right"), trees.label("trees"))
    # Where every tree failed, nothing is known.
    known = _IS_DONE & (trees > func.coalesce(failed, 0))
    found_so = union_all(done.where(known, of_policy), done.where(known, other)).subquery()
    statement = select(found_so.c.run_id, found_so.c.name, found_so.c.right, found_so.c.trees).order_by(
        found_so.c.run_id, found_so.c.position
    )
    found: dict[int, list[tuple[str, Score]]] = defaultdict(list)
    for run_id, name, num_right, num_answers in transaction.execute(statement):
        found[run_id].append((name, Score(int(num_right), int(num_answers))))
    return found


def _first_and_last(scores: Sequence[tuple[str, Score]]) -> tuple[Score | None, Score | None]:
    """Return the figures of a run's first policy and of its last; where no policy was trained, the
    figure of the only method.
    """
    of_policy = [score for name, score in scores if evaluates_policy(name)]
    if of_policy:
        return of_policy[0], of_policy[-1] if len(of_policy) > 1 else None
    return None, scores[0][1] if len(scores) == 1 else None
