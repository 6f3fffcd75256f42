"""100 problems against 10,000: memory of the command line and of every worker, CPU time and
messages of a tree.

Run: python tests/bench/bench_many_problems.py [--problems 100 10000] [--seconds-limit 900]

Workers are processes on PostgreSQL and Redis; the models are scripted and served by this process,
so that all that is measured is the stack's own. A tree is small: what is looked for is whatever
grows with the number of problems.
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
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families
from restmcts.adapters.buses.celery_bus import CeleryBus, celery_app
from restmcts.adapters.observability.metrics import PORT_FILE
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.domain.requests import ProposedStep, Sample, StepsProposed, StepsScored, derive_seed
from restmcts.messages.wire import dump_response, load_proposal, load_scoring
from restmcts.ports import MayBegin
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts.usecases.serve_models import serve_waiting
from restmcts_cli.processes.stack_processes import Stack, kind_of

WORKERS = {"coordinator": 1, "tree-search": 1, "value-labeler": 1}
SEARCH = ("--algorithm", "mcts-star", "-o", "branch=2", "--budget-iterations", "4", "--held-out", "0")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
MEBIBYTE = 2**20
POLL_SECONDS = 1.0


def propose(claim: ClaimedBatch, requests: Sequence[ClaimedRequest], _: MayBegin) -> Iterator[tuple[int, str]]:
    for place, request in enumerate(requests):
        proposal = load_proposal(request.payload)
        key = derive_seed(request.tree_id, proposal.number)
        steps = [
            f"The answer is {key % 7}." if (key + number) % 3 else f"We add {key % 90 + number}.\n"
            for number in range(proposal.num_samples)
        ]
        samples = tuple(Sample((ProposedStep(step, 8, -2.0),), 8, ended="answer" in step) for step in steps)
        yield place, dump_response(StepsProposed(proposal.number, samples, 1))


def score(claim: ClaimedBatch, requests: Sequence[ClaimedRequest], _: MayBegin) -> Iterator[tuple[int, str]]:
    for place, request in enumerate(requests):
        scoring = load_scoring(request.payload)
        values = tuple(
            tuple((derive_seed(request.tree_id, step) % 100) / 150 for step in branch) for branch in scoring.branches
        )
        yield place, dump_response(StepsScored(scoring.number, values, 1))


@contextmanager
def models(settings: Mapping[str, str]) -> Iterator[Database]:
    """Serve both kinds of requests as the model workers do, until the block ends; yield another
    connection.
    """
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
    child = subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"restmcts {' '.join(arguments)} ended with {child.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def measured(stack: Stack) -> dict[str, psutil.Process]:
    """Return the workers, the servers that they use, and this process as "models"."""
    members = {kind_of(member.name) or member.name: psutil.Process(member.pid) for member in stack.members()}
    return {**{kind: process for kind, process in members.items() if kind != "s3"}, "models": psutil.Process()}


def cpu_seconds(process: psutil.Process) -> float:
    """Return what a process and its children have used, children that have ended included
    (autovacuum is one).
    """
    processes = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:4]) if each is process else sum(each.cpu_times()[:2]) for each in processes)


def messages(stack: Stack) -> dict[str, float]:
    """Return how many messages each kind of worker has handled, by its own count."""
    handled = {}
    for kind in WORKERS:
        port = (stack.folder / "workers" / f"{kind}-1" / PORT_FILE).read_text()
        with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            families = text_string_to_metric_families(page.read().decode())
            handled[kind] = sum(
                s.value for family in families for s in family.samples if s.name == "restmcts_messages_total"
            )
    return handled


@dataclass(frozen=True, slots=True)
class Reading:
    """What has been used when so many trees were done; CPU in seconds, by kind of process."""

    num_done: int
    seconds: float
    cpu: Mapping[str, float]
    messages: Mapping[str, float]


def read(stack: Stack, processes: Mapping[str, psutil.Process], num_done: int) -> Reading:
    cpu = {kind: cpu_seconds(process) for kind, process in processes.items()}
    return Reading(num_done, time.perf_counter(), cpu, messages(stack))


def report(what: str, before: Reading, after: Reading) -> None:
    """Print what each tree between two readings cost."""
    num_trees = max(after.num_done - before.num_done, 1)
    cpu = ", ".join(f"{kind} {1000 * (used - before.cpu[kind]) / num_trees:.2f}" for kind, used in after.cpu.items())
    sent = ", ".join(
        f"{kind} {(count - before.messages[kind]) / num_trees:.2f}" for kind, count in after.messages.items()
    )
    milliseconds = 1000 * (after.seconds - before.seconds) / num_trees
    print(f"  {what}: {milliseconds:.1f} ms a tree; CPU ms a tree: {cpu}; messages a tree: {sent}", flush=True)


def enqueue(settings: Mapping[str, str], name: str, num_problems: int, folder: Path) -> None:
    problems = folder / f"{num_problems}.jsonl"
    rows = (
        {"question": f"What is {number} + {number % 97}?", "answer": str(number % 7)} for number in range(num_problems)
    )
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    restmcts(settings, "runs", "create", name, "--policy", "artifact:none/p", "--value", "artifact:none/v", *SEARCH)
    seconds, peak = restmcts(settings, "problems", "enqueue", name, str(problems))
    print(f"{num_problems} problems: enqueued in {seconds:.1f} s by a command of {peak:.0f} MiB", flush=True)


def measure(stack: Stack, database: Database, num_problems: int, folder: Path, limit_seconds: float) -> None:
    name = f"bench-{num_problems}-{time.monotonic_ns()}"
    enqueue(stack.settings, name, num_problems, folder)
    processes = measured(stack)
    first = last = read(stack, processes, 0)
    restmcts(stack.settings, "runs", "resume", name)
    shares = list(SHARES)
    while shares and time.perf_counter() - first.seconds < limit_seconds:
        time.sleep(POLL_SECONDS)
        num_done = trees_done(database, name)
        reached = [share for share in shares if num_done >= share * num_problems]
        if reached:
            shares, before, last = shares[len(reached) :], last, read(stack, processes, num_done)
            report(f"{reached[-1]:.0%}", before, last)
            sizes = ", ".join(f"{kind} {processes[kind].memory_info().rss / MEBIBYTE:.0f}" for kind in WORKERS)
            print(f"       MiB: {sizes}", flush=True)
    last = read(stack, processes, trees_done(database, name))
    report(f"{last.num_done} trees in {last.seconds - first.seconds:.1f} s", first, last)
    restmcts(stack.settings, "runs", "cancel", name)


def trees_done(database: Database, name: str) -> int:
    with database.transaction() as transaction:
        phases = queries.phase_numbers(transaction, queries.run_named(transaction, name).id)
    return next(phase.num_done for phase in phases if phase.purpose == "collect")


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
