"""What the phases of runs took, for forecasts of others (restmcts.domain.forecasts.work)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.tree_counts import tree_counts
from restmcts.adapters.sql.rows import StoredPhase, StoredRun, columns
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.runs import CHECKPOINTS, phases_of
from restmcts.adapters.sql.state.token_budget import spent
from restmcts.adapters.sql.state.trees import RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.domain.forecasts.work import MeasuredSearch, MeasuredTraining, Progress, search_key

MOST_RUNS = 3
"""Runs that a forecast is made from, the newest: machines and versions change."""


@dataclass(frozen=True, slots=True)
class RunWork:
    """What a run took.

    Attributes:
        nodes: of all its trees.
        seconds: from its first phase to its end.
    """

    searches: Sequence[MeasuredSearch]
    trainings: Sequence[MeasuredTraining]
    nodes: int
    seconds: float


def runs_like(transaction: Transaction, policy: str, models: Mapping[str, object]) -> list[StoredRun]:
    """Return the newest runs that are done, begin with the same policy and call models alike.

    Args:
        policy: where the first policy is from; of a fresh one the seed does not matter.
        models: the settings of the run's document that decide how fast models are.
    """
    first = select(func.min(CHECKPOINTS.c.id)).where(CHECKPOINTS.c.kind == "policy").group_by(CHECKPOINTS.c.run_id)
    statement = (
        select(*columns(StoredRun, RUNS), CHECKPOINTS.c.uri)
        .join(CHECKPOINTS, CHECKPOINTS.c.run_id == RUNS.c.id)
        .where(RUNS.c.state == RunState.DONE.value, CHECKPOINTS.c.id.in_(first))
        .order_by(RUNS.c.id.desc())
    )
    found = []
    for row in transaction.execute(statement).mappings():
        stored = dict(row)
        uri = stored.pop("uri")
        settings = stored["config"].get("spec", {}).get("models", {})
        if _without_seed(uri) == _without_seed(policy) and all(settings.get(name) == models[name] for name in models):
            found.append(StoredRun(**stored))
    return found[:MOST_RUNS]


def _without_seed(policy: str) -> str:
    name, _, seed = policy.rpartition(":")
    return name if name and seed.isdecimal() else policy


def run_work(transaction: Transaction, run_id: int, step_seconds: Mapping[str, float] | None = None) -> RunWork:
    """Return what the phases of a run took that are done.

    Args:
        step_seconds: of one optimizer step, by phase, where they were watched; for others what the
            training says of it, or the time of the whole training divided by its steps.
    """
    done = [row for row in phases_of(transaction, run_id) if row.state == PhaseState.DONE]
    times = [(row.started_at, row.finished_at) for row in done if row.started_at and row.finished_at]
    seconds = (max(end for _, end in times) - min(begin for begin, _ in times)).total_seconds() if times else 0.0
    sources = _sizes(transaction, run_id, done)
    trainings = [
        _training(row, sources, step_seconds or {})
        for row in done
        if row.kind.startswith("train-") and row.result.get("num_steps")
    ]
    searches = _searches(transaction, run_id, done)
    return RunWork(searches, trainings, sum(one.nodes for one in searches), seconds)


def _sizes(transaction: Transaction, run_id: int, done: Sequence[StoredPhase]) -> dict[str, int]:
    """Return how many trees a phase has, and how many problems a set."""
    sizes = {f"set {name}": number for name, number in set_sizes(transaction, run_id).items()}
    return sizes | {row.name: int(row.result.get("trees", 0)) for row in done if row.kind == "search"}


def set_sizes(transaction: Transaction, run_id: int) -> dict[str, int]:
    """Return how many problems each set of a run has."""
    per_set = select(PROBLEMS.c.set_name, func.count()).where(PROBLEMS.c.run_id == run_id).group_by(PROBLEMS.c.set_name)
    return {name: int(number) for name, number in transaction.execute(per_set)}


def progress_of(transaction: Transaction, run_id: int) -> Progress:
    """Return what of a run needs no work any more."""
    rows, counts = phases_of(transaction, run_id), tree_counts(transaction, run_id)
    return Progress(
        frozenset(row.name for row in rows if row.state in (PhaseState.DONE, PhaseState.SKIPPED, PhaseState.FAILED)),
        {row.name: counts[row.id].done for row in rows if row.id in counts},
        max(spent(transaction, run_id), sum(one.tokens for one in counts.values())),
    )


def _searches(transaction: Transaction, run_id: int, done: Sequence[StoredPhase]) -> list[MeasuredSearch]:
    """Return what the searches took. Of the time in which several ran each has the share of its
    trees in the time that all trees were open: they are served in turn.
    """
    counts = tree_counts(transaction, run_id)
    rows = [row for row in done if row.kind == "search" and row.id in counts and row.started_at and row.finished_at]
    spread = _spread(transaction, run_id)
    busy = covered_seconds([(row.started_at, row.finished_at) for row in rows if row.started_at and row.finished_at])
    open_seconds = max(sum(counts[row.id].seconds for row in rows), 1e-9)
    return [
        MeasuredSearch(
            search_key(row.spec),
            counts[row.id].trees,
            counts[row.id].tokens,
            counts[row.id].model_calls,
            counts[row.id].nodes,
            busy * counts[row.id].seconds / open_seconds,
            spread.get(row.id, 0.0),
            row.spec["policy"],
        )
        for row in rows
    ]


def _spread(transaction: Transaction, run_id: int) -> dict[int, float]:
    """Return the variance of the tokens of a phase's trees, by its id."""
    square, mean = func.avg(1.0 * TREES.c.tokens * TREES.c.tokens), func.avg(1.0 * TREES.c.tokens)
    statement = select(TREES.c.phase_id, square, mean).where(TREES.c.run_id == run_id).group_by(TREES.c.phase_id)
    return {
        phase_id: max(float(squared) - float(average) ** 2, 0.0)
        for phase_id, squared, average in transaction.execute(statement)
    }


def covered_seconds(intervals: Sequence[tuple[datetime, datetime]]) -> float:
    """Return how much time at least one of the intervals covers."""
    covered, until = 0.0, None
    for begin, end in sorted(intervals):
        begin = max(begin, until) if until is not None else begin
        covered += max((end - begin).total_seconds(), 0.0)
        until = max(end, until) if until is not None else end
    return covered


def _training(row: StoredPhase, sizes: Mapping[str, int], step_seconds: Mapping[str, float]) -> MeasuredTraining:
    settings, result = row.spec["training"], row.result
    names = [*row.spec["sources"], *([f"set {row.spec['solutions_of']}"] if row.spec["solutions_of"] else [])]
    a_step = step_seconds.get(row.name, result.get("step_seconds") or result["seconds"] / result["num_steps"])
    whole = (row.finished_at - row.started_at).total_seconds() if row.finished_at and row.started_at else 0.0
    return MeasuredTraining(
        row.kind,
        max(min(settings["batch_size"] * settings["gradient_accumulation"], result["num_examples"]), 1),
        result["num_examples"],
        sum(sizes.get(name, 0) for name in names),
        a_step,
        max(whole - a_step * result["num_steps"], 0.0),
    )


def bytes_a_node(transaction: Transaction) -> float | None:
    """Return what the database takes on disk, its requests and indexes included, a node that is in
    it; None if there is none.
    """
    here = TREES.c.run_id.in_(select(RUNS.c.id).where(RUNS.c.trees_in_store.is_(None)))
    num_nodes = int(transaction.execute(select(func.coalesce(func.sum(TREES.c.nodes), 0)).where(here)).scalar_one())
    if not num_nodes:
        return None
    if transaction.connection.dialect.name == "sqlite":
        count, free, size = (
            int(transaction.connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        # The first page of each table and index is there before any node is.
        first = transaction.connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE rootpage > 0")
        return max(count - free - int(first.scalar_one()), 1) * size / num_nodes
    size = transaction.connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
    return int(size) / num_nodes
