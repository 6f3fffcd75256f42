"""How far a run is: one read for whoever shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.tree_counts import TreeCounts, tree_counts
from restmcts.adapters.sql.rows import JsonObject, StoredPhase
from restmcts.adapters.sql.state import blocks, token_budget
from restmcts.adapters.sql.state.runs import phases_of
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.adapters.sql.tables import PhaseState


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """One phase: counts of its trees (0 for training), and its result once it has one."""

    name: str
    kind: str
    state: str
    iteration: int
    num_trees: int
    num_done: int
    num_solved: int
    num_failed: int
    result: JsonObject


class CountedPhase(Protocol):
    """A phase with counts of its trees."""

    @property
    def state(self) -> str: ...

    @property
    def iteration(self) -> int: ...

    @property
    def num_trees(self) -> int: ...

    @property
    def num_done(self) -> int: ...

    @property
    def num_solved(self) -> int: ...

    @property
    def num_failed(self) -> int: ...


class PhaseTotals:
    """Sums over the phases of a run, for all who show it."""

    __slots__ = ()
    phases: Sequence[CountedPhase]

    @property
    def iteration(self) -> int:
        """The iteration of the last phase that has started."""
        return max((phase.iteration for phase in self.phases if phase.state != PhaseState.PENDING), default=0)

    @property
    def num_trees(self) -> int:
        return sum(phase.num_trees for phase in self.phases)

    @property
    def num_done(self) -> int:
        return sum(phase.num_done for phase in self.phases)

    @property
    def num_solved(self) -> int:
        return sum(phase.num_solved for phase in self.phases)

    @property
    def num_failed(self) -> int:
        return sum(phase.num_failed for phase in self.phases)

    @property
    def share_done(self) -> float:
        """The share of the phases that are done, those under way by their trees; in [0, 1]."""
        done = 0.0
        for phase in self.phases:
            if phase.state in (PhaseState.DONE, PhaseState.SKIPPED, PhaseState.FAILED):
                done += 1.0
            elif phase.num_trees:
                done += phase.num_done / phase.num_trees
        return done / max(len(self.phases), 1)


@dataclass(frozen=True, slots=True)
class RunProgress(PhaseTotals):
    """All phases in order, and sums over all trees of the run.

    Attributes:
        state: the run's, as people are shown it.
        error: why it failed, was paused by itself, or is blocked.
        max_tokens: the run's token budget; None: it has none.
        tokens_spent: of that budget; 0 without one.
    """

    phases: tuple[PhaseProgress, ...]
    tokens: int
    nodes: int
    state: str
    error: str | None
    max_tokens: int | None
    tokens_spent: int


def read(transaction: Transaction, run_id: int) -> RunProgress:
    """Return the progress of a run."""
    counts = tree_counts(transaction, run_id)
    phases = tuple(_phase(row, counts.get(row.id, TreeCounts())) for row in phases_of(transaction, run_id))
    tokens = sum(phase.tokens for phase in counts.values())
    nodes = sum(phase.nodes for phase in counts.values())
    shown = select(blocks.SHOWN_STATE, blocks.SHOWN_ERROR, RUNS.c.max_tokens).select_from(RUNS)
    run = transaction.execute(shown.where(RUNS.c.id == run_id)).one()
    spent = token_budget.spent(transaction, run_id) if run.max_tokens is not None else 0
    return RunProgress(phases, tokens, nodes, run.state, run.error, run.max_tokens, spent)


def _phase(row: StoredPhase, counts: TreeCounts) -> PhaseProgress:
    return PhaseProgress(
        row.name,
        row.kind,
        row.state,
        row.iteration,
        num_trees=counts.trees,
        num_done=counts.done,
        num_solved=counts.solved,
        num_failed=counts.failed,
        result=row.result,
    )
