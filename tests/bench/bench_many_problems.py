"""100 problems against 10,000: memory of the command line and of every worker, time in the database, cost of a tree.

Run: python tests/bench/bench_many_problems.py [--problems 100 10000] [--seconds-limit 900]

Workers are processes on PostgreSQL and Redis; the models are scripted and served by this process, so that all that is measured is
the stack's own. A tree is small: what is looked for is whatever grows with the number of problems.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from restmcts.adapters.celery_bus import CeleryBus, celery_app
from restmcts.adapters.model_worker import WorkerSettings, serve_waiting
from restmcts.adapters.presence import TELL_SECONDS
from restmcts.adapters.sql import queries
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.requests import Claim, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.domain.requests import ProposedStep, Sample, StepsProposed, StepsScored, derive_seed
from restmcts.messages.wire import dump_response, load_proposal, load_scoring
from restmcts_cli.server_processes import SERVERS
from restmcts_cli.stack_processes import Stack

WORKERS = {"coordinator": 1, "search": 1, "labels": 1}
SEARCH = ("--algorithm", "mcts-star", "-o", "branch=2", "--budget-iterations", "4", "--held-out", "0")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
MEBIBYTE = 2**20


def propose(claim: Claim, requests: Sequence[ClaimedRequest]) -> list[str]:
    answers = []
    for request in requests:
        proposal = load_proposal(request.payload)
        key = derive_seed(request.tree_id, proposal.number)
        steps = [
            f"The answer is {key % 7}." if (key + place) % 3 else f"We add {key % 90 + place}.\n"
            for place in range(proposal.num_samples)
        ]
        samples = tuple(Sample((ProposedStep(step, 8, -2.0),), 8, ended="answer" in step) for step in steps)
        answers.append(dump_response(StepsProposed(proposal.number, samples, 1)))
    return answers


def score(claim: Claim, requests: Sequence[ClaimedRequest]) -> list[str]:
    answers = []
    for request in requests:
        scoring = load_scoring(request.payload)
        values = tuple(tuple((derive_seed(request.tree_id, step) % 100) / 150 for step in branch) for branch in scoring.branches)
        answers.append(dump_response(StepsScored(scoring.number, values, 1)))
    return answers


@contextmanager
def models(settings: Mapping[str, str]) -> Iterator[Database]:
    """Serve both kinds of requests as the model workers do, until the block ends; yield another connection."""
    stopping, watching = threading.Event(), Database(settings["RESTMCTS_DATABASE_URL"])

    def serve() -> None:
        database, redis_url = Database(settings["RESTMCTS_DATABASE_URL"]), settings["RESTMCTS_REDIS_URL"]
        bus = CeleryBus(celery_app(redis_url), redis_url, database)
        database.publish = bus.publish
        limits = WorkerSettings(max_requests=256, stopping=stopping)
        while not stopping.wait(0.02):
            serve_waiting(database, RequestKind.PROPOSE, propose, limits)
            serve_waiting(database, RequestKind.SCORE, score, limits)
        bus.close()
        database.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield watching
    finally:
        stopping.set()
        thread.join()
        watching.close()


def restmcts(settings: Mapping[str, str], *arguments: str) -> tuple[float, float]:
    """Call the command line; return its seconds and its peak memory in MiB."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", "from restmcts_cli.main import run; run()", *arguments]
    child = subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"restmcts {' '.join(arguments)} ended with {child.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def workers(stack: Stack) -> dict[str, psutil.Process]:
    return {member.name.partition("-")[0]: psutil.Process(member.pid) for member in stack.members() if member.name not in SERVERS}


def cpu_seconds(process: psutil.Process) -> float:
    processes = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def measure(stack: Stack, database: Database, num_problems: int, folder: Path, limit_seconds: float) -> None:
    settings, name = stack.settings, f"bench-{num_problems}"
    problems = folder / f"{num_problems}.jsonl"
    rows = ({"question": f"What is {number} + {number % 97}?", "answer": str(number % 7)} for number in range(num_problems))
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    restmcts(settings, "runs", "create", name, "--policy", "artifact:none/p", "--value", "artifact:none/v", *SEARCH)
    seconds, peak = restmcts(settings, "problems", "enqueue", name, str(problems))
    print(f"{num_problems} problems: enqueued in {seconds:.1f} s by a command of {peak:.0f} MiB", flush=True)
    processes = {**workers(stack), "postgres": postgres_of(stack)}
    before = {kind: cpu_seconds(process) for kind, process in processes.items()}
    handled = messages(database)
    restmcts(settings, "runs", "resume", name)
    begin, shares = time.perf_counter(), list(SHARES)
    while shares and time.perf_counter() - begin < limit_seconds:
        time.sleep(0.2)
        with database.transaction() as transaction:
            phases = queries.phase_numbers(transaction, queries.run_named(transaction, name).id)
        collect = next(phase for phase in phases if phase.purpose == "collect")
        if collect.num_trees and collect.num_done >= shares[0] * collect.num_trees:
            sizes = {kind: process.memory_info().rss / MEBIBYTE for kind, process in processes.items() if kind != "postgres"}
            print(f"  {shares.pop(0):.0%}: " + ", ".join(f"{kind} {size:.0f} MiB" for kind, size in sizes.items()), flush=True)
    seconds = time.perf_counter() - begin
    each = {kind: 1000 * (cpu_seconds(process) - before[kind]) / collect.num_done for kind, process in processes.items()}
    print(
        f"  {collect.num_done} trees in {seconds:.1f} s, {1000 * seconds / collect.num_done:.1f} ms a tree; CPU ms a tree: ", end=""
    )
    print(", ".join(f"{kind} {cost:.2f}" for kind, cost in each.items()), flush=True)
    sent = {kind: (count - handled[kind]) / collect.num_done for kind, count in messages(database).items()}
    print("  messages a tree: " + ", ".join(f"{kind} {count:.2f}" for kind, count in sent.items()), flush=True)
    restmcts(settings, "runs", "cancel", name)


def messages(database: Database) -> dict[str, int]:
    """Return how many messages each kind of worker has handled, once they have told of it."""
    time.sleep(TELL_SECONDS + 1.0)
    with database.transaction() as transaction:
        return {row["queue"]: row["num_done"] for row in queries.list_workers(transaction)}


def postgres_of(stack: Stack) -> psutil.Process:
    return psutil.Process(next(member.pid for member in stack.members() if member.name == "postgres"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--seconds-limit", type=float, default=900.0, help="of each number of problems")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            stack.up(WORKERS)
            with models(stack.settings) as database:
                for num_problems in options.problems:
                    measure(stack, database, num_problems, Path(folder), options.seconds_limit)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
