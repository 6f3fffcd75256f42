"""One search worker on PostgreSQL with scripted models: events a second, the share of time in the
database, cost by size of tree.

CPU time is that of the worker's thread and of its connection's process: on a machine that others
use, it alone can be compared.

Run: python tests/bench/bench_search_worker.py [--trees 32] [--seconds-limit 60]
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import requests as queue
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.requests import ClaimedBatch
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import RequestKind
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, Sample, StepsProposed, StepsScored, derive_seed
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.messages.commands import AdvanceRun, AdvanceTrees
from restmcts.messages.events import RequestsAnswered
from restmcts.messages.wire import dump_response, load_proposal, load_scoring
from restmcts_cli.processes.stack_processes import Stack
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from sqlalchemy import event, func, select

SIZES = (50, 1000)
STEP = "Therefore we add the two numbers and go on with what remains of the sum, number {}.\n"


class DatabaseClock:
    """Counts the statements of an engine, and the seconds that they and their commits take."""

    def __init__(self, database: Database) -> None:
        self.seconds, self.num_statements, self._begin = 0.0, 0, 0.0
        event.listen(database.engine, "before_cursor_execute", self._before)
        event.listen(database.engine, "after_cursor_execute", self._after)
        commit = database.engine.dialect.do_commit

        def timed_commit(connection: Any) -> None:
            self._begin = time.perf_counter()
            commit(connection)
            self.seconds += time.perf_counter() - self._begin

        database.engine.dialect.do_commit = timed_commit  # type: ignore[method-assign]

    def _before(self, *_: Any) -> None:
        self._begin = time.perf_counter()

    def _after(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._begin
        self.num_statements += 1


def begin_run(database: Database, num_trees: int, num_nodes: int) -> int:
    settings = MctsStarSettings(mode="collect", branch=4, stop_threshold=2.0, max_depth=10_000, roll_forward_steps=1)
    phase = SearchPhase("collect", 1, "collect", "set", "policy", "value", settings, Budget(iterations=num_nodes // 4))
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, f"bench-{time.monotonic_ns()}", "rest-mcts", 0, {})
        runs.add_problems(
            transaction, run_id, "set", [Problem(question=f"question {n}", answer="1") for n in range(num_trees)]
        )
        for name in ("policy", "value"):
            runs.add_checkpoint(transaction, run_id, name, name, "nowhere", "0")
        runs.add_phases(transaction, run_id, [phase])
    CoordinatorHandlers(database, num_trees).advance_run(AdvanceRun(run_id=run_id))
    return run_id


def answers(claim: ClaimedBatch, kind: RequestKind) -> list[str]:
    return [answer(request.payload, kind) for request in claim.requests]


def answer(payload: str, kind: RequestKind) -> str:
    if kind == RequestKind.SCORE:
        scoring = load_scoring(payload)
        values = tuple(tuple((derive_seed(0, step) % 100) / 150 for step in branch) for branch in scoring.branches)
        return dump_response(StepsScored(scoring.number, values, 1))
    proposal = load_proposal(payload)
    key = derive_seed(proposal.number, *proposal.steps)
    samples = (
        Sample((ProposedStep(STEP.format(key + place), 20, -5.0),), 20, ended=False)
        for place in range(proposal.num_samples)
    )
    return dump_response(StepsProposed(proposal.number, tuple(samples), 1))


def measure(database: Database, num_trees: int, num_nodes: int, limit_seconds: float) -> dict[str, float]:
    """Return the numbers of one size; what the models' side costs is not counted."""
    run_id = begin_run(database, num_trees, num_nodes)
    with database.transaction() as transaction:
        tree_ids = list(
            transaction.execute(select(TREES.c.id).where(TREES.c.run_id == run_id).order_by(TREES.c.id)).scalars()
        )
        backend = psutil.Process(transaction.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    worker, clock = TreeSearchHandlers(database), DatabaseClock(database)
    used, num_events = [0.0] * 5, len(tree_ids)
    advance = functools.partial(worker.advance_trees, AdvanceTrees(tree_ids=tuple(tree_ids)))
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        before = read(clock, backend)
        advance()
        used = [total + now - then for total, now, then in zip(used, read(clock, backend), before, strict=True)]
        served = serve(database)
        if not served:
            break
        num_events += len(served)
        advance = functools.partial(worker.take_answers, RequestsAnswered())
    busy, in_database, num_statements, cpu, backend_cpu = used
    with database.transaction() as transaction:
        statement = select(func.sum(TREES.c.nodes)).where(TREES.c.run_id == run_id)
        num_made = int(transaction.execute(statement).scalar_one())
        runs.finish_run(transaction, run_id, runs.RunState.CANCELLED)
    return {
        "nodes a tree": num_made / num_trees,
        "events/s": num_events / busy,
        "share in the database": in_database / busy,
        "ms an event": 1000 * busy / num_events,
        "ms a node": 1000 * busy / num_made,
        "statements an event": num_statements / num_events,
        "CPU ms an event": 1000 * cpu / num_events,
        "CPU ms an event in PostgreSQL": 1000 * backend_cpu / num_events,
    }


def read(clock: DatabaseClock, backend: psutil.Process) -> tuple[float, ...]:
    """Return the time, that in the database, the number of statements, and the CPU time of this
    thread and of PostgreSQL.
    """
    return time.perf_counter(), clock.seconds, clock.num_statements, time.thread_time(), sum(backend.cpu_times()[:2])


def serve(database: Database) -> set[int]:
    """Answer all that waits; return the trees that have answers."""
    served: set[int] = set()
    for kind in RequestKind:
        with database.transaction() as transaction:
            while (claim := queue.claim(transaction, kind, 1000, 60.0)) is not None:
                queue.answer(transaction, list(zip(claim.requests, answers(claim, kind), strict=True)))
                served.update(request.tree_id for request in claim.requests)
    return served


@contextmanager
def postgres() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            stack.up({})
            yield stack.settings["RESTMCTS_DATABASE_URL"]
        finally:
            stack.down()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=32)
    parser.add_argument("--seconds-limit", type=float, default=60.0, help="of each size")
    options = parser.parse_args()
    with postgres() as url:
        for num_nodes in SIZES:
            database = Database(url)
            numbers = measure(database, options.trees, num_nodes, options.seconds_limit)
            database.close()
            print(
                f"{options.trees} trees: " + ", ".join(f"{value:.2f} {name}" for name, value in numbers.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
