"""What the page of a run says: how far it is, how fast it goes, what is left, and what it has
made so far.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import progress, queries
from restmcts.adapters.sql.reads.queries import ENDED_PHASES, PhaseNumbers
from restmcts.adapters.sql.reads.run_times import RunTimes, run_times
from restmcts.adapters.sql.reads.truth import read_truth
from restmcts.adapters.sql.rows import StoredRun
from restmcts.adapters.sql.state import annotations, token_budget
from restmcts.adapters.sql.state.blocks import BLOCKED
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.runs import phases_of
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import RunState
from restmcts.adapters.storage.folder_lock import FolderUse
from restmcts.domain.labels.annotations import AnnotationCounts
from restmcts.domain.runs.splits import size_of_round
from restmcts.domain.truth.ledger import RunTruth
from restmcts.reporting.annotations import annotations_in_words
from restmcts.reporting.run_states import NEEDS_A_PROCESS, WAITING
from restmcts.reporting.truth import mark_of, truth_in_words
from restmcts.reporting.value_warnings import value_warnings
from sqlalchemy import func, select

from restmcts_dashboard.runs.run_list import state_shown
from restmcts_dashboard.runs.time_left import seconds_left

WINDOW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pace:
    """What trees that ended within a stretch of time came to.

    Attributes:
        seconds: the stretch: the last five minutes of a run that runs, else the whole run.
        num_trees: that ended in it.
        tokens: the policy generated for them.
        scored_tokens: the value model read for them.
        expansions: iterations of their searches.
        nodes: in them.
    """

    seconds: float
    num_trees: int
    tokens: int
    scored_tokens: int
    expansions: int
    nodes: int

    @property
    def trees_per_hour(self) -> float:
        return self.num_trees * 3600.0 / self.seconds


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is still to be done, guessed from what was; None where nothing like it was done yet.

    Attributes:
        num_trees: still to be searched, those of phases that have not started included.
        tokens: the policy will generate for them, at the mean of the trees that have ended.
        token_cap: it cannot generate more than that; None where a phase has no limit of tokens.
        seconds: until the run ends, training included.
    """

    num_trees: int
    tokens: int | None
    token_cap: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """What a run may generate.

    Attributes:
        limit: tokens in all.
        spent: of them.
        seconds_left: until they are spent, at the present pace; None where the run does not
            generate now.
    """

    limit: int
    spent: int
    seconds_left: float | None

    @property
    def left(self) -> int:
        return max(self.limit - self.spent, 0)

    @property
    def share_spent(self) -> float:
        return min(self.spent / self.limit, 1.0)


@dataclass(frozen=True, slots=True)
class RunView(progress.PhaseTotals):
    """A run as its page shows it; `run` is its row, `phases` are in order, `seconds` is how long it
    took or, while it runs, has taken (None: it has not started).
    """

    run: StoredRun
    phases: Sequence[PhaseNumbers]
    pace: Pace | None
    forecast: Forecast | None
    budget: TokenBudget | None
    truth: RunTruth | None
    annotations: AnnotationCounts | None
    times: RunTimes
    seconds: float | None

    @property
    def truth_lines(self) -> dict[str, str]:
        """What is said of verdicts that no true answer gives."""
        return truth_in_words(self.truth)

    @property
    def annotation_lines(self) -> dict[str, str]:
        """What is said of people's annotations."""
        return annotations_in_words(self.annotations)

    @property
    def mark(self) -> str:
        """The mark beside each of its figures: "unchecked", or nothing."""
        return mark_of(self.truth)

    @property
    def is_budget_spent(self) -> bool:
        """Whether a larger token budget lets the run go on."""
        return token_budget.is_spent(self.run.error)

    @property
    def budget_ends_first(self) -> bool:
        """Whether the token budget seems too small for what is still to be searched."""
        return bool(self.budget and self.forecast and (self.forecast.tokens or 0) > self.budget.left)

    @property
    def warnings(self) -> list[str]:
        """What must be said of the run's value models."""
        return value_warnings(self.phases, self.mark)

    @property
    def searches(self) -> list[PhaseNumbers]:
        return [phase for phase in self.phases if phase.kind == "search"]

    @property
    def tokens(self) -> int:
        return sum(phase.tokens for phase in self.phases)


def read_run(transaction: Transaction, run_id: int, use: FolderUse | None = None) -> RunView:
    """Return a run with its numbers.

    Args:
        use: of its work folder.

    Raises:
        InputError: if there is none.
    """
    run = queries.run_by_id(transaction, run_id)
    run = replace(run, state=state_shown(run.state, run_id, use))
    phases = queries.phase_numbers(transaction, run_id)
    pace = _pace(transaction, run)
    open_ = run.state in (RunState.RUNNING, WAITING, BLOCKED, RunState.PAUSED)
    truth = read_truth(transaction, run.id, run.config)
    budget, said = _budget(transaction, run, pace), annotations.counts(transaction, run_id)
    times = run_times(transaction, [run_id])[run_id]
    until = transaction.now() if run.state == RunState.RUNNING else times.last_change
    left = seconds_left(transaction, run, times.started, until) if open_ else None
    forecast = _forecast(transaction, run_id, phases, left) if open_ else None
    seconds = times.seconds(transaction.now() if run.state in NEEDS_A_PROCESS else None)
    return RunView(run, phases, pace, forecast, budget, truth, said, times, seconds)


def _budget(transaction: Transaction, run: StoredRun, pace: Pace | None) -> TokenBudget | None:
    if run.max_tokens is None:
        return None
    spent = token_budget.spent(transaction, run.id)
    goes_on = run.state == RunState.RUNNING and pace is not None and pace.tokens > 0
    seconds = max(run.max_tokens - spent, 0) * pace.seconds / pace.tokens if goes_on and pace is not None else None
    return TokenBudget(run.max_tokens, spent, seconds)


def _pace(transaction: Transaction, run: StoredRun) -> Pace | None:
    columns = (TREES.c.tokens, TREES.c.scored_tokens, TREES.c.iterations, TREES.c.nodes)
    sums = [func.coalesce(func.sum(column), 0) for column in columns]
    statement = select(func.min(TREES.c.started_at), func.max(TREES.c.ended_at), func.count(TREES.c.ended_at), *sums)
    statement = statement.where(TREES.c.run_id == run.id, TREES.c.ended_at.is_not(None))
    moment = transaction.now()
    if run.state == RunState.RUNNING:
        statement = statement.where(TREES.c.ended_at >= moment - WINDOW)
    started, ended, num_trees, *counts = transaction.execute(statement).one()
    if not num_trees or started is None:
        return None
    if run.state == RunState.RUNNING:
        started, ended = max(started, moment - WINDOW), moment
    return Pace(max((ended - started).total_seconds(), 1e-3), int(num_trees), *map(int, counts))


def _forecast(transaction: Transaction, run_id: int, phases: Sequence[PhaseNumbers], seconds: float | None) -> Forecast:
    specs = {row.name: row.spec for row in phases_of(transaction, run_id)}
    per_set = select(PROBLEMS.c.set_name, func.count()).where(PROBLEMS.c.run_id == run_id).group_by(PROBLEMS.c.set_name)
    num_problems: dict[str, int] = {name: int(number) for name, number in transaction.execute(per_set)}
    left: dict[str, int] = {}
    for phase in phases:
        if phase.kind == "search" and phase.state not in ENDED_PHASES:
            of_set = num_problems.get(specs[phase.name]["problem_set"], 0)
            is_pending = phase.state == "pending"
            left[phase.name] = size_of_round(of_set, phase.round) if is_pending else phase.num_trees - phase.num_done
    tokens = _tokens_left(phases, left)
    caps = [specs[name].get("budget", {}).get("tokens") for name in left]
    known = [cap for cap in caps if cap is not None]
    cap = (
        sum(cap * number for cap, number in zip(known, left.values(), strict=True)) if len(known) == len(caps) else None
    )
    return Forecast(sum(left.values()), tokens, cap, seconds)


def _tokens_left(phases: Sequence[PhaseNumbers], left: Mapping[str, int]) -> int | None:
    spent: dict[str | None, list[int]] = defaultdict(lambda: [0, 0])
    for phase in phases:
        if phase.num_done:
            for key in (phase.purpose, None):
                spent[key][0] += phase.tokens
                spent[key][1] += phase.num_done
    if None not in spent:
        return None
    total = 0.0
    for phase in phases:
        if phase.name in left:
            tokens, number = spent.get(phase.purpose, spent[None])
            total += left[phase.name] * tokens / number
    return round(total)


def clock(moment: datetime | None) -> str:
    """Return a time in UTC for people."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment is not None else "–"
