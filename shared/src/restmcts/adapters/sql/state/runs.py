"""Runs, their problem sets, phases, checkpoints, datasets and dead letters."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Label, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from restmcts.adapters.observability.this_process import this_start
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.rows import (
    Columns,
    JsonObject,
    StoredCheckpoint,
    StoredDataset,
    StoredPhase,
    StoredProblem,
    StoredRun,
    columns,
)
from restmcts.adapters.sql.stack_tables import DeadLetterRow
from restmcts.adapters.sql.state import blocks
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import (
    CheckpointRow,
    DatasetRow,
    PhaseState,
    RunState,
    TreeState,
)
from restmcts.domain.problems import Problem, question_digest
from restmcts.domain.provenance import with_start
from restmcts.domain.requests import derive_seed
from restmcts.domain.runs.phases import PHASE, Phase
from restmcts.domain.runs.splits import Round
from restmcts.domain.text import escaped_text
from restmcts.errors import InputError

CHECKPOINTS = table_of(CheckpointRow)
DATASETS = table_of(DatasetRow)
DEAD_LETTERS = table_of(DeadLetterRow)
ORIGINAL = PROBLEMS.alias("original")
PROBLEMS_PER_INSERT = 1000


def create_run(
    transaction: Transaction, name: str, method: str, seed: int, config: JsonObject, max_tokens: int | None = None
) -> int:
    """Insert a run, which may generate `max_tokens` in all; return its id. What it comes from is
    recorded with it.

    Raises:
        InputError: if a run has that name.
    """
    values = {"name": name, "method": method, "seed": seed, "config": config, "max_tokens": max_tokens}
    values |= {"state": RunState.RUNNING.value, "provenance": _with_this_start(transaction, [])}
    is_sqlite = transaction.connection.dialect.name == "sqlite"
    # another process may store a run of the same name at the same time
    new = (sqlite.insert if is_sqlite else postgresql.insert)(RUNS).values(**values)
    run_id = transaction.execute(new.on_conflict_do_nothing(index_elements=["name"]).returning(RUNS.c.id)).scalar()
    if run_id is None:
        raise InputError(f"a run named {name!r} exists already: choose another name")
    return int(run_id)


def find_run(transaction: Transaction, name: str) -> StoredRun | None:
    """Return the run's row by name, or None."""
    return transaction.row(StoredRun, select(RUNS).where(RUNS.c.name == name))


def record_start(transaction: Transaction, run_id: int) -> None:
    """Record what a run is continued with, where that is not what it was last started with; one
    whose beginning was not recorded stays so.
    """
    recorded = transaction.execute(select(RUNS.c.provenance).where(RUNS.c.id == run_id).with_for_update()).scalar()
    if recorded is not None and (now := _with_this_start(transaction, recorded)) != recorded:
        transaction.execute(update(RUNS).where(RUNS.c.id == run_id).values(provenance=now))


def _with_this_start(transaction: Transaction, recorded: Sequence[JsonObject]) -> list[JsonObject]:
    return with_start(recorded, this_start(), transaction.now().isoformat(timespec="seconds"))


def configs(transaction: Transaction) -> dict[str, dict[str, Any]]:
    """Return what is stored of every run to know it by, by the run's name."""
    return {row.name: row.config for row in transaction.execute(select(RUNS.c.name, RUNS.c.config).order_by(RUNS.c.id))}


def lock_run(transaction: Transaction, run_id: int, *, waits: bool = True) -> StoredRun | None:
    """Return the run's row, locked until the transaction ends; None if there is no such run or,
    where nobody `waits`, if somebody else has locked it.
    """
    locked = select(RUNS).where(RUNS.c.id == run_id).with_for_update(skip_locked=not waits)
    return transaction.row(StoredRun, locked)


def state_of(transaction: Transaction, run_id: int) -> str:
    """Return the state of a run."""
    return str(transaction.execute(select(RUNS.c.state).where(RUNS.c.id == run_id)).scalar_one())


def running(transaction: Transaction, run_ids: Sequence[int]) -> list[int]:
    """Return those of the runs that are running."""
    statement = select(RUNS.c.id).where(RUNS.c.id.in_(list(run_ids)), RUNS.c.state == RunState.RUNNING.value)
    return list(transaction.execute(statement.order_by(RUNS.c.id)).scalars())


def finish_run(transaction: Transaction, run_id: int, state: RunState, error: str | None = None) -> None:
    """End a run; nothing blocks it any more."""
    blocks.unblock_run(transaction, run_id)
    transaction.execute(
        update(RUNS).where(RUNS.c.id == run_id).values(state=state.value, error=error, finished_at=moment())
    )


def pause_run(transaction: Transaction, run_id: int, reason: str) -> None:
    """Pause a run by itself; it waits for a person to resume it."""
    transaction.execute(update(RUNS).where(RUNS.c.id == run_id).values(state=RunState.PAUSED.value, error=reason))


def change_run(transaction: Transaction, run_id: int, config: JsonObject, *, goes_on: bool) -> None:
    """Store what a run is to be known by; one that `goes_on` is running again."""
    values: Columns = {"config": config}
    if goes_on:
        values |= {"state": RunState.RUNNING.value, "error": None, "finished_at": None, "notified_state": None}
    transaction.execute(update(RUNS).where(RUNS.c.id == run_id).values(**values))


def add_problems(transaction: Transaction, run_id: int, set_name: str, problems: Iterable[Problem]) -> int:
    """Append problems to a set of a run as they come, however many; return how many."""
    last = transaction.execute(
        select(func.max(PROBLEMS.c.position)).where(PROBLEMS.c.run_id == run_id, PROBLEMS.c.set_name == set_name)
    ).scalar()
    first = 0 if last is None else last + 1
    rows = (_problem_row(run_id, set_name, position, problem) for position, problem in enumerate(problems, first))
    num_added = 0
    while chunk := list(islice(rows, PROBLEMS_PER_INSERT)):
        transaction.execute(insert(PROBLEMS), chunk)
        num_added += len(chunk)
    return num_added


def _problem_row(run_id: int, set_name: str, position: int, problem: Problem) -> Columns:
    return {
        "run_id": run_id,
        "set_name": set_name,
        "position": position,
        "question": problem.question,
        "answer": problem.answer,
        "solution": list(problem.solution) if problem.solution is not None else None,
        "kind": problem.kind,
        "digest": question_digest(problem.question),
    }


def problems_of(transaction: Transaction, run_id: int, set_name: str) -> list[StoredProblem]:
    """Return the rows of a problem set, in order."""
    statement = select(PROBLEMS).where(PROBLEMS.c.run_id == run_id, PROBLEMS.c.set_name == set_name)
    return transaction.rows(StoredProblem, statement.order_by(PROBLEMS.c.position))


def problems_of_round(transaction: Transaction, run_id: int, set_name: str, part: Round | None) -> list[StoredProblem]:
    """Return the rows of a problem set that belong to a round, in order; without one, all."""
    problems = problems_of(transaction, run_id, set_name)
    if part is None:
        return problems
    seed = transaction.execute(select(RUNS.c.seed).where(RUNS.c.id == run_id)).scalar_one()
    return part.members(problems, derive_seed(seed, "rounds", set_name))


def set_names_of(transaction: Transaction, run_id: int) -> list[str]:
    """Return the names of a run's problem sets."""
    statement = select(PROBLEMS.c.set_name).where(PROBLEMS.c.run_id == run_id).distinct()
    return list(transaction.execute(statement.order_by(PROBLEMS.c.set_name)).scalars())


def digests_of(transaction: Transaction, run_id: int, set_name: str) -> list[str]:
    """Return the digests of the questions of a problem set, in order."""
    statement = select(PROBLEMS.c.digest).where(PROBLEMS.c.run_id == run_id, PROBLEMS.c.set_name == set_name)
    return list(transaction.execute(statement.order_by(PROBLEMS.c.position)).scalars())


def add_phases(transaction: Transaction, run_id: int, phases: Sequence[Phase]) -> None:
    """Append phases to a run, in order."""
    last = transaction.execute(select(func.max(PHASES.c.position)).where(PHASES.c.run_id == run_id)).scalar()
    rows = [
        {
            "run_id": run_id,
            "position": position,
            "name": phase.name,
            "kind": phase.kind,
            "iteration": phase.iteration,
            "spec": PHASE.dump_python(phase, mode="json"),
            "state": PhaseState.PENDING.value,
            "result": {},
            "attempt": 0,
        }
        for position, phase in enumerate(phases, 0 if last is None else last + 1)
    ]
    if rows:
        transaction.execute(insert(PHASES), rows)


def phases_of(transaction: Transaction, run_id: int) -> list[StoredPhase]:
    """Return the rows of a run's phases, in order."""
    statement = select(PHASES).where(PHASES.c.run_id == run_id).order_by(PHASES.c.position)
    return transaction.rows(StoredPhase, statement)


def phase_by_id(transaction: Transaction, phase_id: int, *, lock: bool = False) -> StoredPhase | None:
    statement = select(PHASES).where(PHASES.c.id == phase_id)
    return transaction.row(StoredPhase, statement.with_for_update() if lock else statement)


def set_phase(transaction: Transaction, phase_id: int, state: PhaseState, **values: object) -> None:
    """Move a phase to a state and set other columns; the end of a phase is dated."""
    if state in (PhaseState.DONE, PhaseState.SKIPPED, PhaseState.FAILED):
        values["finished_at"] = moment()
        values["lease_until"] = None
    transaction.execute(update(PHASES).where(PHASES.c.id == phase_id).values(state=state.value, **values))


def any_open_tree(transaction: Transaction, phase_id: int) -> bool:
    """Return whether a tree of a phase is not labelled or failed yet; one look in an index,
    however many trees there are.
    """
    states = [TreeState.SEARCHING.value, TreeState.WAITING.value, TreeState.ENDED.value]
    statement = select(TREES.c.id).where(TREES.c.phase_id == phase_id, TREES.c.state.in_(states)).limit(1)
    return transaction.execute(statement).first() is not None


def add_checkpoint(
    transaction: Transaction,
    run_id: int,
    name: str,
    kind: str,
    uri: str,
    digest: str,
    parent: str | None = None,
    lineage: JsonObject | None = None,
    num_bytes: int | None = None,
) -> int:
    """Insert a checkpoint under its name in the run; return its id. `num_bytes` is what it takes in
    the store, if that is known.
    """
    values: Columns = {"run_id": run_id, "name": name, "kind": kind, "uri": uri, "digest": digest, "parent": parent}
    values |= {"lineage": lineage or {}, "num_bytes": num_bytes}
    statement = insert(CHECKPOINTS).values(**values).returning(CHECKPOINTS.c.id)
    return int(transaction.execute(statement).scalar_one())


def checkpoints_of(transaction: Transaction, run_id: int) -> dict[str, StoredCheckpoint]:
    """Return the rows of a run's checkpoints by name."""
    statement = select(CHECKPOINTS).where(CHECKPOINTS.c.run_id == run_id).order_by(CHECKPOINTS.c.id)
    return {row.name: row for row in transaction.rows(StoredCheckpoint, statement)}


def checkpoint_by_id(transaction: Transaction, checkpoint_id: int) -> StoredCheckpoint | None:
    return transaction.row(StoredCheckpoint, select(CHECKPOINTS).where(CHECKPOINTS.c.id == checkpoint_id))


def add_bench(transaction: Transaction, checkpoint_id: int, on: str, found: JsonObject) -> None:
    """Keep what a checkpoint came to on a bench, in place of what it came to there before."""
    row = CHECKPOINTS.c.id == checkpoint_id
    known = transaction.execute(select(CHECKPOINTS.c.benches).where(row).with_for_update()).scalar_one()
    transaction.execute(update(CHECKPOINTS).where(row).values(benches={**known, on: found}))


def add_dataset(
    transaction: Transaction,
    phase_id: int,
    kind: str,
    uri: str,
    digest: str,
    card: JsonObject,
    num_bytes: int | None = None,
) -> None:
    """Insert a phase's dataset; `num_bytes` is what it takes in the store, if that is known."""
    values = {
        "phase_id": phase_id,
        "kind": kind,
        "uri": uri,
        "digest": digest,
        "num_bytes": num_bytes,
        "num_rows": card["num_rows"],
        "card": card,
    }
    transaction.execute(insert(DATASETS).values(**values))


def dataset_of(transaction: Transaction, phase_id: int) -> StoredDataset | None:
    return transaction.row(StoredDataset, select(DATASETS).where(DATASETS.c.phase_id == phase_id))


def original(problems: Table) -> tuple[Label[int], Label[str]]:
    """Return "id" and "question" of the problem that a problem is derived from, or its own; to
    be outer-joined with `ORIGINAL`.
    """
    return (
        func.coalesce(ORIGINAL.c.id, problems.c.id).label("id"),
        func.coalesce(ORIGINAL.c.question, problems.c.question).label("question"),
    )


@dataclass(frozen=True, slots=True)
class LabelledTree:
    """A labelled tree with its problem.

    Attributes:
        id: of the problem, or of the one that it is derived from; `question` is that one's too.
        phase: the name of the phase that searched the tree.
        digest: of the question.
    """

    tree_id: int
    solved: bool | None
    phase: str
    id: int
    question: str
    digest: str
    position: int
    kind: str
    begins_with: list[str] | None


def labelled_trees(
    transaction: Transaction, run_id: int, phase_names: Sequence[str], batch: int = 256
) -> Iterator[list[LabelledTree]]:
    """Yield the labelled trees of phases with their problems, in batches, in order of tree."""
    of_problem = columns(LabelledTree, PROBLEMS, besides=("tree_id", "solved", "phase", "id", "question", "digest"))
    statement = (
        select(TREES.c.id.label("tree_id"), TREES.c.solved, PHASES.c.name.label("phase"))
        .add_columns(*of_problem, *original(PROBLEMS))
        .add_columns(func.coalesce(ORIGINAL.c.digest, PROBLEMS.c.digest).label("digest"))
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .outerjoin(ORIGINAL, ORIGINAL.c.id == PROBLEMS.c.derived_from)
        .where(PHASES.c.run_id == run_id, PHASES.c.name.in_(list(phase_names)))
        .where(TREES.c.state == TreeState.LABELLED.value)
        .order_by(TREES.c.id)
    )
    rows = transaction.rows(LabelledTree, statement)
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch]


def add_dead_letter(transaction: Transaction, queue: str, name: str, body: str, reason: str) -> None:
    """Keep a message that could not be handled, or count it once more if it is kept with the same
    reason; what PostgreSQL cannot store as text is written out.
    """
    texts = {"queue": queue, "name": name, "body": body, "reason": reason}
    storable = {key: escaped_text(text) for key, text in texts.items()}
    digest = hashlib.sha256(json.dumps(storable).encode()).hexdigest()
    is_sqlite = transaction.connection.dialect.name == "sqlite"
    statement = (sqlite.insert if is_sqlite else postgresql.insert)(DEAD_LETTERS)
    statement = statement.values(**storable, digest=digest, num_times=1, last_at=moment())
    again = {"num_times": DEAD_LETTERS.c.num_times + 1, "last_at": moment()}
    transaction.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=again))


def started() -> Columns:
    """Return the columns that date the beginning of a phase."""
    return {"started_at": moment()}


def num_searching(transaction: Transaction, run_id: int) -> int:
    """Return how many trees of a run are searching; asked by phase, for the sake of the index."""
    phase_ids = select(PHASES.c.id).where(PHASES.c.run_id == run_id)
    condition = TREES.c.phase_id.in_(phase_ids) & (TREES.c.state == TreeState.SEARCHING.value)
    return int(transaction.execute(select(func.count()).select_from(TREES).where(condition)).scalar_one())
