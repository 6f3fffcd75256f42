"""Workers come with the work and go with it; the number is that of the database's own count."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads.demand import DEMAND, RUN_SHARE, demand
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import PhaseState, RunState, TreeState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.scaling import Autoscaler, Bounds
from restmcts.domain.search.best_of_n import CotSettings
from restmcts_cli.processes.scaling import keep_scaled
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import update

NUM_TREES = RUN_SHARE + 3


@pytest.fixture
def busy_run(idle_servers: Stack, database: Database) -> Iterator[int]:
    """A run with more searching trees than one run counts for."""
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, f"scaled-{time.monotonic_ns()}", "rest-mcts", 0, {})
        problems = [Problem(question=f"question {number}", answer="1") for number in range(NUM_TREES)]
        runs.add_problems(transaction, run_id, "set", problems)
        runs.add_phases(transaction, run_id, [SearchPhase("grade", 1, "evaluate", "set", "p", None, CotSettings())])
        [phase] = runs.phases_of(transaction, run_id)
        runs.set_phase(transaction, phase.id, PhaseState.SEARCHING)
        trees.create_trees(
            transaction,
            [
                {"run_id": run_id, "phase_id": phase.id, "problem_id": problem.id, "seed": 0}
                for problem in runs.problems_of(transaction, run_id, "set")
            ],
        )
        transaction.execute(
            update(TREES).where(TREES.c.run_id == run_id).values(state=TreeState.SEARCHING.value, version=1)
        )
    yield run_id
    with database.transaction() as transaction:
        runs.finish_run(transaction, run_id, RunState.CANCELLED)


@pytest.fixture
def own_stack(servers: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A stack of processes that uses the shared servers, without a worker."""
    stack = Stack(tmp_path / "stack", servers.settings)
    stack.up({})
    yield stack
    stack.down()


def work_of(database: Database) -> dict[str, int]:
    with database.transaction() as transaction:
        return {worker: demand(transaction, worker) for worker in DEMAND}


def test_running_work_is_counted_and_one_run_counts_for_its_share(database: Database, busy_run: int) -> None:
    nothing = dict.fromkeys(DEMAND, 0)
    assert work_of(database) == nothing | {"tree-search": RUN_SHARE}
    with database.transaction() as transaction:
        transaction.execute(
            update(TREES).where(TREES.c.run_id == busy_run, TREES.c.seed == 0).values(state=TreeState.ENDED.value)
        )
    assert work_of(database) == nothing | {"value-labeler": RUN_SHARE}
    with database.transaction() as transaction:
        runs.finish_run(transaction, busy_run, RunState.CANCELLED)
    assert work_of(database) == nothing


def test_workers_start_when_work_comes_and_all_stop_when_it_is_done(
    database: Database, busy_run: int, own_stack: Stack
) -> None:
    scaler = Autoscaler(Bounds(0, 2, RUN_SHARE // 2), cooldown_seconds=0.0)
    seen: list[int] = []

    def decide() -> dict[str, int]:
        return {"tree-search": scaler.decide(work_of(database)["tree-search"], time.monotonic())}

    def scale(counts: dict[str, int]) -> None:
        own_stack.up(counts)
        seen.append(sum(own_stack.lives(f"tree-search-{number}") for number in (1, 2, 3)))
        with database.transaction() as transaction:
            runs.finish_run(transaction, busy_run, RunState.CANCELLED)

    keep_scaled(decide, scale, every=0.1, looks=3)
    assert seen == [2, 0]
    assert own_stack.scale["tree-search"] == 0
