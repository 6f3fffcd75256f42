"""All runs in one line each, for lists that people sort and filter.

The work does not grow with the trees of phases that are done: what these came to is stored with
the phase. Only trees of phases under way are counted. Who reads the list again and again keeps
what runs that are done came to.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, case, func, or_, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import POLICY_PHASES, evaluates_policy
from restmcts.adapters.sql.reads.run_times import RunTimes, among, run_times
from restmcts.adapters.sql.reads.tree_counts import ENDED_TREES, count_if
from restmcts.adapters.sql.rows import RunFacts, columns
from restmcts.adapters.sql.state import blocks
from restmcts.adapters.sql.state.runs import CHECKPOINTS
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
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


@dataclass(frozen=True, slots=True)
class _Work:
    """What a run has done: the part of its line that is read from its phases and trees."""

    counts: RunCounts
    first: Score | None
    last: Score | None
    times: RunTimes


KnownWork = dict[tuple[int, datetime], _Work]
"""Of runs that are done, by their number and when they ended: nothing of it changes until they
are extended, and then they end anew.
"""


def run_lines(transaction: Transaction, known: KnownWork | None = None) -> list[RunLine]:
    """Return all runs, archived ones among them, the newest first.

    Args:
        known: what earlier calls have read, which is not read again; takes up what this one reads.
    """
    shown = select(*columns(RunFacts, RUNS, besides=("state", "error")), blocks.SHOWN_STATE, blocks.SHOWN_ERROR)
    rows = transaction.rows(RunFacts, shown.select_from(RUNS).order_by(RUNS.c.id.desc()))
    policies = _policies(transaction)
    ended = {row.id: (row.id, row.finished_at) for row in rows if row.state == RunState.DONE and row.finished_at}
    known = {} if known is None else known
    work = {run_id: known[end] for run_id, end in ended.items() if end in known}
    read = _work(transaction, [row.id for row in rows if row.id not in work] if work else None)
    known.update((ended[run_id], one) for run_id, one in read.items() if run_id in ended)
    work |= read
    return [
        RunLine(row, policies.get(row.id, ""), one.counts, one.first, one.last, one.times)
        for row, one in ((row, work[row.id]) for row in rows)
    ]


def _work(transaction: Transaction, run_ids: Sequence[int] | None) -> dict[int, _Work]:
    counts, scores = _counts(transaction, run_ids), _scores(transaction, run_ids)
    return {
        run_id: _Work(counts.get(run_id, RunCounts()), *_first_and_last(scores.get(run_id, ())), times)
        for run_id, times in run_times(transaction, run_ids).items()
    }


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


def _counts(transaction: Transaction, run_ids: Sequence[int] | None) -> dict[int, RunCounts]:
    started = case((PHASES.c.state != PhaseState.PENDING.value, PHASES.c.iteration), else_=0)
    # Plans name them so; what a phase is for is not read, since its document is long.
    collecting = case((PHASES.c.name.startswith("collect-"), started))
    iteration = func.coalesce(func.max(collecting), func.max(started))
    ended = count_if(PHASES.c.state.in_(_ENDED))
    known = [_stored(name) for name in ("trees", "tokens")]
    by_phase = select(PHASES.c.run_id, iteration, func.count(), ended, *known)
    by_phase = by_phase.where(among(PHASES.c.run_id, run_ids)).group_by(PHASES.c.run_id)
    under_way = (
        select(
            TREES.c.run_id,
            func.count(),
            count_if(TREES.c.state.in_(ENDED_TREES)),
            func.coalesce(func.sum(TREES.c.tokens), 0),
        )
        .where(TREES.c.phase_id.in_(_open_phases(run_ids)))
        .group_by(TREES.c.run_id)
    )
    more = {run_id: numbers for run_id, *numbers in transaction.execute(under_way)}
    found = {}
    for run_id, iteration, num_phases, num_ended, num_trees, *numbers in transaction.execute(by_phase):
        both = zip((num_trees, num_trees, *numbers), more.get(run_id, [0] * 3), strict=True)
        sums = (int(stored) + int(counted) for stored, counted in both)
        found[run_id] = RunCounts(int(iteration), int(num_phases), int(num_ended), *sums)
    return found


def _open_phases(run_ids: Sequence[int] | None) -> Select[tuple[int]]:
    """Select the searches whose trees must be counted: those that have started and are not done."""
    closed = (PhaseState.DONE.value, PhaseState.PENDING.value, PhaseState.SKIPPED.value)
    return select(PHASES.c.id).where(
        among(PHASES.c.run_id, run_ids), PHASES.c.kind == "search", PHASES.c.state.not_in(closed)
    )


def _scores(transaction: Transaction, run_ids: Sequence[int] | None) -> Mapping[int, Sequence[tuple[str, Score]]]:
    """Return the evaluations that are done of runs, by phase name, in order: those of their
    policies, or where there is none all others. What a phase is for is read of the latter alone,
    since its document is long.
    """
    of_policy = or_(*(PHASES.c.name.startswith(name, autoescape=True) for name in POLICY_PHASES))
    found = _scores_of(transaction, run_ids, of_policy)
    evaluates = PHASES.c.spec["purpose"].as_string() == "evaluate"
    asked = transaction.execute(select(RUNS.c.id).where(among(RUNS.c.id, run_ids))).scalars()
    return found | _scores_of(transaction, [run_id for run_id in asked if run_id not in found], evaluates)


def _scores_of(
    transaction: Transaction, run_ids: Sequence[int] | None, are_asked: ColumnElement[bool]
) -> dict[int, list[tuple[str, Score]]]:
    """Return runs with such phases alone; no score of a phase of which every tree failed."""
    right, trees, failed = (PHASES.c.result[name].as_float() for name in ("right", "trees", "failed"))
    done = select(PHASES.c.run_id, PHASES.c.name, right, trees, failed).where(among(PHASES.c.run_id, run_ids), _IS_DONE)
    found: dict[int, list[tuple[str, Score]]] = {}
    for run_id, name, *counted in transaction.execute(
        done.where(are_asked).order_by(PHASES.c.run_id, PHASES.c.position)
    ):
        num_right, num_answers, num_failed = (int(one or 0) for one in counted)
        scores = found.setdefault(run_id, [])
        if num_answers > num_failed:
            scores.append((name, Score(num_right, num_answers)))
    return found


def _first_and_last(scores: Sequence[tuple[str, Score]]) -> tuple[Score | None, Score | None]:
    """Return the figures of a run's first policy and of its last; where no policy was trained, the
    figure of the only method.
    """
    of_policy = [score for name, score in scores if evaluates_policy(name)]
    if of_policy:
        return of_policy[0], of_policy[-1] if len(of_policy) > 1 else None
    return None, scores[0][1] if len(scores) == 1 else None
