"""What the stack itself does with many model workers, and with some of them killed: `make
bench-scale`.

Queue, database, searches and labels are real, each worker a process of its own. Model workers are
simulated: they claim requests as real ones do, at most REQUESTS of a kind at a time, and answer
after `--seconds` whatever they have claimed, as a GPU does; a scoring takes half as long, so that
what there is too little of is generators. Five tables:

- trees and requests a second against the number of model workers, and the share of what as many
  times one worker would do;
- share of the undisturbed rate while each minute one model worker of ten and one other worker are
  killed; seconds until the killed worker's replacement answers, requests answered a second time,
  and what is lost or doubled in the end;
- CPU time of a tree, and the rate, in a database that holds 1,000 other trees and then 100,000;
- bytes of a tree in the database and archived in the bucket, and how long both ways take;
- claims a second with models that answer at once, and the processes that need the time.

Run: python tests/bench/bench_scale.py [--workers 1 4 16 32] [--window 40] [--seconds 2]
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_dashboard import NODES, TREES
from bench_many_problems import cpu_seconds, measured, propose, score
from restmcts.adapters.buses.celery_bus import CeleryBus, celery_app
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind, RunState
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.domain.problems import Problem
from restmcts.ports import MayBegin
from restmcts.settings import load_settings
from restmcts.testing.runs import SEARCH, await_end, begin_search, faults
from restmcts.usecases.serve_claims import Serve, WorkerSettings
from restmcts.usecases.serve_models import serve_waiting
from restmcts.usecases.tree_archive.from_store import restore_from_store
from restmcts.usecases.tree_archive.to_store import move_to_store
from restmcts_cli.processes.stack_processes import SUPERVISOR, Stack
from sqlalchemy import text

STACK = {"coordinator": 1, "tree-search": 1, "value-labeler": 1}
SETTINGS = {"RESTMCTS_MAX_TREES_IN_FLIGHT": "1000", "RESTMCTS_RECONCILE_SECONDS": "5"}
REQUESTS = 8
LEASE_SECONDS = 10.0
WARM_SECONDS = 15.0
NUM_KILLED_FROM = 10
KILL_EVERY_SECONDS = 60.0
STORED = (1_000, 100_000)
STORED_NODES, STORED_REQUESTS = 12, 10
MEASURED_TREES = 600
SERVES: dict[RequestKind, Serve] = {RequestKind.PROPOSE: propose, RequestKind.SCORE: score}
SHARES = {RequestKind.PROPOSE: 1.0, RequestKind.SCORE: 0.5}
"""Of the seconds that a model needs for a claim."""
ANSWERED = "SELECT count(*) FROM requests WHERE state IN ('answered', 'applied')"
LABELLED = "SELECT count(*) FROM trees WHERE state = 'labelled'"
WAITING = "SELECT count(*) FROM trees WHERE state NOT IN ('labelled', 'failed') AND run_id = :run"
AGAIN = "SELECT count(*) FROM requests r JOIN trees t ON t.id = r.tree_id WHERE r.attempt > 1 AND t.run_id = :run"
APPLIED = """
INSERT INTO requests (tree_id, problem_id, number, kind, checkpoint_id, generation, num_prompt_chars, payload, state,
  attempt, answer, applied_order, elapsed_seconds)
SELECT trees.id, problem_id, n, CASE WHEN n % 2 = 0 THEN 'propose' ELSE 'score' END, 0, '', 400, repeat('p', 200),
  'applied', 1, repeat('a', 300), n, 0.5
FROM trees, generate_series(1, :requests) AS n WHERE trees.run_id = :run
"""


def simulate(seconds: float) -> None:
    """Be a model worker, a thread for each kind of request, until the process is ended; print a
    line once the first claim is answered.
    """
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    threads = [threading.Thread(target=_serve, args=(kind, seconds * SHARES[kind], stopping)) for kind in SERVES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _serve(kind: RequestKind, seconds: float, stopping: threading.Event) -> None:
    database, redis_url = Database(os.environ["RESTMCTS_DATABASE_URL"]), os.environ["RESTMCTS_REDIS_URL"]
    bus = CeleryBus(celery_app(redis_url), redis_url, database)
    database.publish = bus.publish
    limits = WorkerSettings(max_requests=REQUESTS, lease_seconds=LEASE_SECONDS, stopping=stopping)

    def answer(
        claim: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin
    ) -> Iterable[tuple[int, str]]:
        stopping.wait(seconds)
        print("answers", flush=True)
        return SERVES[kind](claim, requests, may_begin)

    while not stopping.wait(0.1):
        serve_waiting(database, kind, answer, limits)


@dataclass(slots=True)
class ModelWorkers:
    """Simulated model workers, as many as `scale` was last asked for."""

    settings: Mapping[str, str]
    seconds: float
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    answering: set[int] = field(default_factory=set)

    def scale(self, count: int) -> None:
        """Start or end workers."""
        while len(self.processes) < count:
            self.processes.append(self._started())
        ended, self.processes = self.processes[count:], self.processes[:count]
        for process in ended:
            process.terminate()
        for process in ended:
            process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        environment = {**os.environ, **self.settings, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--simulate", str(self.seconds)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def kill(self, place: int) -> float:
        """Kill a worker, start another in its place, and return the seconds until that answers."""
        begin = time.monotonic()
        self.processes[place].kill()
        self.processes[place].communicate()
        self.processes[place] = self._started()
        self.await_answers()
        return time.monotonic() - begin

    def await_answers(self) -> None:
        """Wait until each worker has answered a claim; from then on read what it prints, so that it
        never waits for a reader.
        """
        for process in self.processes:
            if process.pid not in self.answering:
                assert process.stdout is not None
                process.stdout.readline()
                threading.Thread(target=process.stdout.read, daemon=True).start()
                self.answering.add(process.pid)


@dataclass(frozen=True, slots=True)
class Rate:
    """Trees and requests a second, and processor seconds of the stack a second."""

    trees: float
    requests: float
    cpu: float


class Bench:
    """A stack, and what is done to it."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.stack, self.database = stack, database

    def count(self, statement: str, **values: int) -> int:
        """Return the one number that a statement asks for."""
        with self.database.transaction() as transaction:
            return int(transaction.connection.execute(text(statement), values).scalar_one())

    def begin(self, num_problems: int, policy: str = "artifact:none/policy") -> int:
        """Begin a run of so many trees."""
        return begin_search(self.database, policy, "artifact:none/value", num_problems)

    def cancel(self, run_id: int) -> None:
        """End a run that nobody waits for any more."""
        with self.database.transaction() as transaction:
            runs.finish_run(transaction, run_id, RunState.CANCELLED)

    def rate(self, window: float) -> Rate:
        """Return what is done a second, over so many seconds."""
        cpu, trees, requests = self._cpu(), self.count(LABELLED), self.count(ANSWERED)
        begin = time.monotonic()
        time.sleep(window)
        seconds = time.monotonic() - begin
        done = self.count(LABELLED) - trees, self.count(ANSWERED) - requests, self._cpu() - cpu
        return Rate(*(one / seconds for one in done))

    def _cpu(self) -> float:
        return sum(self.cpu_by_process().values())

    def cpu_by_process(self) -> dict[str, float]:
        """Return the processor seconds of each process of the stack."""
        now = Stack(self.stack.folder)  # with the processes that the supervisor has started
        return {kind: cpu_seconds(one) for kind, one in measured(now).items() if kind not in ("models", SUPERVISOR)}

    def fill(self, num_trees: int) -> None:
        """Store a finished run of so many trees, with nodes and requests."""
        with self.database.transaction() as transaction:
            run_id = runs.create_run(transaction, f"stored-{time.monotonic_ns()}", "test", 0, {})
            problems = (Problem(f"What is {number} plus {number}?", str(2 * number)) for number in range(num_trees))
            runs.add_problems(transaction, run_id, "train", problems)
            runs.add_phases(transaction, run_id, [SEARCH])
            transaction.execute(text("UPDATE phases SET state = 'done' WHERE run_id = :run"), {"run": run_id})
            transaction.execute(text(TREES), {"run": run_id, "nodes": STORED_NODES})
            transaction.execute(text(NODES), {"run": run_id, "nodes": STORED_NODES})
            transaction.execute(text(APPLIED), {"run": run_id, "requests": STORED_REQUESTS})
            runs.finish_run(transaction, run_id, RunState.DONE)
        self._maintain("VACUUM ANALYZE", "CHECKPOINT")

    def bytes_of_trees(self) -> int:
        """Return what nodes and requests take on disk, indexes included, without free space."""
        self._maintain("VACUUM FULL nodes", "VACUUM FULL requests")
        return self.count("SELECT pg_total_relation_size('nodes') + pg_total_relation_size('requests')")

    def _maintain(self, *statements: str) -> None:
        with self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(text(statement))


def scaling(bench: Bench, workers: ModelWorkers, counts: Sequence[int], window: float) -> None:
    """Print the rate with each number of workers."""
    print(f"{'workers':>8}{'trees/s':>10}{'requests/s':>12}{'efficiency':>12}{'CPU':>7}")
    first: float | None = None
    for count in counts:
        workers.scale(count)
        run_id = bench.begin(200 + int(3 * count * REQUESTS / workers.seconds * (window + WARM_SECONDS) / 4))
        workers.await_answers()
        time.sleep(WARM_SECONDS)
        rate = bench.rate(window)
        bench.cancel(run_id)
        alone = rate.requests / count
        first = first or alone
        print(f"{count:8}{rate.trees:10.2f}{rate.requests:12.1f}{alone / first:12.3f}{rate.cpu:7.2f}", flush=True)


def killed(bench: Bench, workers: ModelWorkers, minutes: int, seed: int) -> None:
    """Print what kills cost."""
    workers.scale(0)
    workers.scale(NUM_KILLED_FROM)
    chosen = random.Random(seed)
    window = minutes * KILL_EVERY_SECONDS
    run_id = bench.begin(int(NUM_KILLED_FROM * REQUESTS / workers.seconds * 2.2 * window / 2))
    workers.await_answers()
    time.sleep(WARM_SECONDS)
    undisturbed = bench.rate(window)
    recovered: list[float] = []

    def disturb() -> None:
        for _ in range(minutes):
            recovered.append(workers.kill(chosen.randrange(NUM_KILLED_FROM)))
            bench.stack.kill(f"{chosen.choice(sorted(STACK))}-1")
            time.sleep(max(0.0, KILL_EVERY_SECONDS - recovered[-1]))

    kills = threading.Thread(target=disturb)
    kills.start()
    disturbed = bench.rate(window)
    kills.join()
    workers.scale(0)
    workers.seconds = 0.0
    workers.scale(2)
    assert bench.count(WAITING, run=run_id), "all trees were done before the last kill"
    end = await_end(bench.database, run_id, 900.0)
    wrong = faults(bench.database, run_id)
    share = disturbed.requests / undisturbed.requests
    print(f"one of {NUM_KILLED_FROM} model workers and one other worker killed a minute, {minutes} minutes:")
    print(f"  requests/s {undisturbed.requests:.1f} undisturbed, {disturbed.requests:.1f} with kills: {share:.3f}")
    print(f"  replacements answered after {', '.join(f'{one:.1f}' for one in recovered)} s")
    print(f"  answered in a second attempt: {bench.count(AGAIN, run=run_id)} requests")
    print(f"  the run ended {end}; trees lost, doubled or wrong: {len(wrong)}", *wrong[:3], sep="\n  ", flush=True)


def archived(bench: Bench, run_id: int) -> None:
    """Print what a tree takes in the database and archived, and how long both ways take."""
    os.environ.update(bench.stack.settings)
    artifacts = open_bucket(load_settings())
    with bench.database.transaction() as transaction:
        name = queries.run_by_id(transaction, run_id).name
    num_trees = bench.count("SELECT count(*) FROM trees WHERE run_id = :run", run=run_id)
    before, begin = bench.bytes_of_trees(), time.monotonic()
    moved = move_to_store(bench.database, artifacts, name, lambda _: None)
    middle, after = time.monotonic(), bench.bytes_of_trees()
    assert moved.stored is not None
    restored_from = time.monotonic()
    restore_from_store(bench.database, artifacts, name, lambda _: None)
    ways = f"{middle - begin:.1f} s there, {time.monotonic() - restored_from:.1f} s back"
    here, there = ((before - after) / num_trees / 1024, moved.stored.num_bytes / num_trees / 1024)
    print(f"{num_trees:,} trees archived, {ways}: {here:.1f} KiB a tree in the database,")
    print(f"  {there:.1f} KiB a tree in the bucket", flush=True)


def stored(bench: Bench, workers: ModelWorkers) -> None:
    """Print what a tree costs beside few and beside many stored trees."""
    workers.scale(0)
    workers.seconds = 0.0
    workers.scale(2)
    warming = bench.begin(MEASURED_TREES // 4)
    workers.await_answers()
    await_end(bench.database, warming, 600.0)
    archived(bench, warming)
    costs: list[float] = []
    for number in STORED:
        bench.fill(number - sum(STORED[: STORED.index(number)]))
        size = bench.count("SELECT pg_database_size(current_database())")
        cpu, claims, begin = bench.cpu_by_process(), bench.count(ANSWERED), time.monotonic()
        await_end(bench.database, bench.begin(MEASURED_TREES), 900.0)
        seconds = time.monotonic() - begin
        used = {kind: total - cpu.get(kind, 0.0) for kind, total in bench.cpu_by_process().items()}
        costs.append(1000 * sum(used.values()) / MEASURED_TREES)
        parts = ", ".join(f"{kind} {1000 * one / MEASURED_TREES:.1f}" for kind, one in used.items())
        grown = (bench.count("SELECT pg_database_size(current_database())") - size) / MEASURED_TREES / 1024
        print(f"beside {number:,} stored trees: {costs[-1]:.1f} ms of CPU a tree ({parts});")
        print(
            f"  {(bench.count(ANSWERED) - claims) / seconds:.0f} requests/s; {grown:.0f} KiB of database a tree",
            flush=True,
        )
    print(f"cost beside {STORED[-1]:,} against {STORED[0]:,}: {costs[-1] / costs[0]:.2f}")


@contextlib.contextmanager
def stack_of(folder: Path) -> Iterator[Bench]:
    """Yield a stack without model workers, supervised."""
    stack = Stack(folder / "stack", {**os.environ, **SETTINGS})
    try:
        stack.up(STACK)
        stack.supervise()
        database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
        yield Bench(stack, database)
        database.close()
    finally:
        stack.down()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--window", type=float, default=40.0, help="seconds of each measurement")
    parser.add_argument("--seconds", type=float, default=2.0, help="a simulated model needs for a claim")
    parser.add_argument("--minutes", type=int, default=4, help="with kills")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--simulate", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.simulate is not None:
        simulate(given.simulate)
        return
    with tempfile.TemporaryDirectory() as folder, stack_of(Path(folder)) as bench:
        workers = ModelWorkers(bench.stack.settings, given.seconds)
        try:
            scaling(bench, workers, given.workers, given.window)
            killed(bench, workers, given.minutes, given.seed)
            stored(bench, workers)
        finally:
            workers.scale(0)


if __name__ == "__main__":
    main()
