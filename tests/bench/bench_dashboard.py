"""The dashboard over PostgreSQL: how long its pages take for a run of 10,000 trees, against the
limit of 200 ms; and the list of 1,000 runs that have 100,000 trees between them, against 300 ms.

Run: python tests/bench/bench_dashboard.py [--trees 10000] [--nodes 40] [--runs 1000]
"""

import argparse
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.plans import self_training_plan
from restmcts.domain.runs.self_training import SelfTraining
from restmcts_cli.processes.stack_processes import Stack
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from sqlalchemy import text
from uvicorn import Config, Server

LIMIT_MILLISECONDS = 200.0
LIST_MILLISECONDS = 300.0
TREES_PER_RUN = 100
NUM_ITERATIONS = 4
REPEATS = 15

TREES = """
INSERT INTO trees (run_id, phase_id, problem_id, seed, state, version, num_attempts, tokens, prompt_tokens, reused_tokens,
  scored_tokens, model_calls, nodes, iterations, seconds, stop_reason, chosen_node, answer, verdict, solved,
  started_at, updated_at, ended_at)
SELECT :run, phases.id, problems.id, problems.id, 'labelled', 9, 0, 900, 4000, 0, 9000, 40, :nodes, 20, 3.5, 'budget', 3, '7',
  CASE WHEN problems.id % 3 = 0 THEN 'right' ELSE 'wrong' END, problems.id % 2 = 0, now(), now(), now()
FROM phases JOIN problems ON problems.run_id = phases.run_id AND problems.set_name = phases.spec->>'problem_set'
WHERE phases.run_id = :run AND phases.kind = 'search'
"""
NODES = """
INSERT INTO nodes (tree_id, node_id, parent_id, step, depth, log_prob, num_tokens, model_value, search_value, visits,
  expanded, final, multiplicity, origin, verdict)
SELECT trees.id, n, CASE WHEN n > 0 THEN (n - 1) / 3 END, 'Therefore we go on with what remains of it.', 1, 0, 9,
  random(), random(), 3,
  true, n > 26, 1, 'search', CASE WHEN n > 26 THEN CASE WHEN n % 2 = 0 THEN 'right' ELSE 'wrong' END END
FROM trees, generate_series(0, :nodes) AS n WHERE trees.run_id = :run
"""
RESULTS = """
UPDATE phases SET result = json_build_object('trees', 10, 'failed', 0, 'solved', 6, 'right', id % 10, 'tokens', 9000)
WHERE kind = 'search'
"""


def fill_list(database: Database, num_runs: int) -> None:
    """Store many runs that have ended, each of ten searches of ten trees."""
    plan = self_training_plan(
        SelfTraining(5, ("train",) * 5, bootstrap_set="train", test_set="train", given_value=True)
    )
    searches = [phase for phase in plan if phase.kind == "search"][:10]
    others = [phase for phase in plan if phase.kind != "search"]
    num_problems = TREES_PER_RUN // len(searches)
    for number in range(num_runs):
        with database.transaction() as transaction:
            run_id = runs.create_run(transaction, f"run {number}", "rest-mcts", number, {"spec": {"policy": "base"}})
            runs.add_problems(transaction, run_id, "train", (Problem(f"{one}?", "1") for one in range(num_problems)))
            runs.add_phases(transaction, run_id, [*searches, *others])
            runs.add_checkpoint(transaction, run_id, "base", "policy", "/models/base", "0")
            transaction.execute(text("UPDATE phases SET state = 'done' WHERE run_id = :run"), {"run": run_id})
            transaction.execute(text(TREES), {"run": run_id, "nodes": 40})
            runs.finish_run(transaction, run_id, RunState.DONE)
    with database.transaction() as transaction:
        transaction.execute(text(RESULTS))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def fill(database: Database, num_trees: int, num_nodes: int) -> int:
    """Store a run with so many labelled trees; return its id."""
    plan = self_training_plan(
        SelfTraining(
            NUM_ITERATIONS, ("train",) * NUM_ITERATIONS, bootstrap_set="train", test_set="train", given_value=True
        )
    )
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "bench", "rest-mcts", 0, {})
        num_searches = sum(phase.kind == "search" for phase in plan)
        problems = (
            Problem(f"What is {number} plus {number}?", str(2 * number)) for number in range(num_trees // num_searches)
        )
        runs.add_problems(transaction, run_id, "train", problems)
        runs.add_phases(transaction, run_id, plan)
        transaction.execute(text("UPDATE phases SET state = 'done' WHERE kind = 'search'"))
        transaction.execute(text(TREES), {"run": run_id, "nodes": num_nodes})
        transaction.execute(text(NODES), {"run": run_id, "nodes": num_nodes})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return run_id


def milliseconds(address: str) -> list[float]:
    """Return how long a page took, each time it was asked for, after two times that do not
    count.
    """
    times = []
    for _ in range(REPEATS + 2):
        begin = time.perf_counter()
        with urllib.request.urlopen(address, timeout=60) as answer:
            answer.read()
        times.append(1000.0 * (time.perf_counter() - begin))
    return times[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=40)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            stack.up({})
            database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
            run_id = fill(database, options.trees, options.nodes)
            source = Source(
                Database(stack.settings["RESTMCTS_DATABASE_URL"], read_only=True),
                "bench",
                stack.settings["RESTMCTS_REDIS_URL"],
            )
            server = Server(Config(create_app(source), port=0, log_level="warning", lifespan="off"))
            thread = threading.Thread(target=server.run)
            thread.start()
            while not server.started:
                time.sleep(0.05)
            address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            report(address, run_id, database)
            fill_list(database, options.runs)
            report_list(address, database)
            server.should_exit = True
            thread.join()
            source.database.close()
            database.close()
        finally:
            stack.down()


def report_list(address: str, database: Database) -> None:
    with database.transaction() as transaction:
        num_runs, num_trees = transaction.execute(
            text("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM trees)")
        ).one()
    print(f"{num_runs:,} runs, {num_trees:,} trees; limit {LIST_MILLISECONDS:.0f} ms")
    begin = time.perf_counter()
    with urllib.request.urlopen(address, timeout=60) as answer:
        answer.read()
    print(f"{'/, when nothing of it is known':34} {1000.0 * (time.perf_counter() - begin):10.1f}")
    for page in ("/", "/?sort=-last", "/?text=run+7&state=done"):
        times = milliseconds(address + page)
        middle = statistics.median(times)
        print(f"{page:34} {middle:10.1f} {max(times):10.1f} {middle / LIST_MILLISECONDS:12.0%}")


def report(address: str, run_id: int, database: Database) -> None:
    with database.transaction() as transaction:
        num_trees, first = transaction.execute(text("SELECT count(*), min(id) FROM trees")).one()
        num_nodes = transaction.execute(text("SELECT count(*) FROM nodes")).scalar_one()
    print(f"{num_trees:,} trees, {num_nodes:,} nodes; limit {LIMIT_MILLISECONDS:.0f} ms")
    print(f"{'page':34} {'median ms':>10} {'worst ms':>10} {'of the limit':>13}")
    pages = (
        "/",
        f"/runs/{run_id}",
        f"/runs/{run_id}/trees",
        f"/runs/{run_id}/quality",
        f"/trees/{first}",
        f"/trees/{first}/data",
    )
    for page in pages:
        times = milliseconds(address + page)
        middle = statistics.median(times)
        print(f"{page:34} {middle:10.1f} {max(times):10.1f} {middle / LIMIT_MILLISECONDS:12.0%}")


if __name__ == "__main__":
    main()
