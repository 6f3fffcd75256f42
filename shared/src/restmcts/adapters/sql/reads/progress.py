"""How far a run is: one read for whoever shows it."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.measured import set_sizes
from restmcts.adapters.sql.reads.queries import ENDED_PHASES
from restmcts.adapters.sql.reads.tree_counts import TreeCounts, tree_counts
from restmcts.adapters.sql.rows import JsonObject, StoredPhase
from restmcts.adapters.sql.state import blocks, token_budget
from restmcts.adapters.sql.state.runs import phases_of
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.adapters.sql.tables import PhaseState
from restmcts.domain.runs.splits import Round, size_of_round


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """One phase: counts of its trees (0 for training), and its result once it has one.

    Attributes:
        after: names of the phases that must be done before it begins.
        work: of all of it, of a search in tokens, of a training in examples: as far as they are
            known, what its limits say; 0 where it was skipped.
        share_searched: of the work of a search, what its trees have done, those that are open too.
    """

    name: str
    kind: str
    state: str
    iteration: int
    purpose: str | None
    num_trees: int
    num_done: int
    num_solved: int
    num_failed: int
    after: Sequence[str]
    work: float
    share_searched: float
    result: JsonObject

    @property
    def has_started(self) -> bool:
        return self.state != PhaseState.PENDING

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_PHASES


class CountedPhase(Protocol):
    """A phase with counts of its trees."""

    @property
    def state(self) -> str: ...

    @property
    def iteration(self) -> int: ...

    @property
    def purpose(self) -> str | None: ...

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
        """The last iteration whose search for training data has started; in a run without such
        searches, that of the last phase that has. A control trains ahead of them.
        """
        counted = self._collecting or self.phases
        return max((phase.iteration for phase in counted if phase.state != PhaseState.PENDING), default=0)

    @property
    def num_trees(self) -> int:
        return sum(phase.num_trees for phase in self.phases)

    @property
    def num_done(self) -> int:
        return sum(phase.num_done for phase in self.phases)

    @property
    def num_searched(self) -> int:
        """Trees that were searched for training data and have ended."""
        return sum(phase.num_done for phase in self._collecting)

    @property
    def num_solved(self) -> int:
        """Trees with a right end among those of `num_searched`; evaluations do not count."""
        return sum(phase.num_solved for phase in self._collecting)

    @property
    def _collecting(self) -> list[CountedPhase]:
        return [phase for phase in self.phases if phase.purpose == "collect"]

    @property
    def num_failed(self) -> int:
        return sum(phase.num_failed for phase in self.phases)

    @property
    def share_done(self) -> float:
        """The share of the phases that are done, those under way by their trees; in [0, 1]."""
        done = 0.0
        for phase in self.phases:
            if phase.state in ENDED_PHASES:
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
    counts, sizes = tree_counts(transaction, run_id), set_sizes(transaction, run_id)
    rows = phases_of(transaction, run_id)
    sizes |= {row.name: _num_trees(row, counts, sizes) for row in rows if row.kind == "search"}
    names = {row.name for row in rows}
    phases = tuple(_phase(row, counts.get(row.id, TreeCounts()), sizes, names) for row in rows)
    tokens = sum(phase.tokens for phase in counts.values())
    nodes = sum(phase.nodes for phase in counts.values())
    shown = select(blocks.SHOWN_STATE, blocks.SHOWN_ERROR, RUNS.c.max_tokens).select_from(RUNS)
    run = transaction.execute(shown.where(RUNS.c.id == run_id)).one()
    spent = token_budget.spent(transaction, run_id) if run.max_tokens is not None else 0
    return RunProgress(phases, tokens, nodes, run.state, run.error, run.max_tokens, spent)


def _num_trees(row: StoredPhase, counts: Mapping[int, TreeCounts], sizes: Mapping[str, int]) -> int:
    """Return how many trees a search has, or will have at most."""
    if row.id in counts:
        return counts[row.id].trees
    return size_of_round(
        sizes.get(row.spec["problem_set"], 0), Round(**row.spec["round"]) if row.spec.get("round") else None
    )


def _phase(row: StoredPhase, counts: TreeCounts, sizes: Mapping[str, int], names: Set[str]) -> PhaseProgress:
    work = sizes[row.name] * _tree_tokens(row.spec) if row.kind == "search" else _examples(row.spec, sizes)
    of_open = min(counts.open_tokens / _tree_tokens(row.spec), counts.trees - counts.done) if counts.trees else 0.0
    needed = (row.spec.get(field) or () for field in _NEEDED)
    return PhaseProgress(
        row.name,
        row.kind,
        row.state,
        row.iteration,
        row.spec.get("purpose"),
        num_trees=counts.trees,
        num_done=counts.done,
        num_solved=counts.solved,
        num_failed=counts.failed,
        after=[name for one in needed for name in ([one] if isinstance(one, str) else one) if name in names],
        work=work if row.state != PhaseState.SKIPPED else 0.0,
        share_searched=(counts.done + of_open) / max(counts.trees, 1),
        result=row.result,
    )


_NEEDED = (
    *("policy", "value", "samples_of", "follows"),
    *("parent", "trunk", "sources"),
    *("candidate", "evidence", "previous", "incumbent_evidence"),
)
"""Fields of phases (restmcts.domain.runs.phases) that name others; they are read as stored: whoever
watches a run may lack its plugins."""


def _tree_tokens(spec: JsonObject) -> float:
    """Return the tokens of a tree: a solution is taken to be half as long as it may be, and a limit
    to be overshot by half of one.
    """
    solution = spec["generation"]["max_solution_tokens"] / 2
    limit = spec["budget"]["tokens"]
    return float(solution if limit is None else limit + solution / 2)


def _examples(spec: JsonObject, sizes: Mapping[str, int]) -> float:
    """Return the examples of a training; where it has no number of steps, each problem gives one.

    Args:
        sizes: problems by set, and trees by phase.
    """
    training = spec.get("training", {})
    if training.get("num_steps"):
        return float(training["num_steps"] * training["batch_size"] * training.get("gradient_accumulation", 1))
    problems = sum(sizes.get(name, 0) for name in (*spec.get("sources", ()), spec.get("solutions_of")))
    return float(training.get("num_epochs", 0) * problems)
