"""What a run pays for another one's model: time to finish of a healthy run beside runs whose policy
and whose value model are broken, slow, dripping or silent, as a multiple of its time alone.

On a real stack with one worker of each kind; models are servers in this process. A ratio is that of
the means of several healthy runs, with its standard error; a run that takes longer than
LIMIT_SECONDS counts as that long.

Run: python tests/bench/bench_fairness.py [--problems 24] [--repeats 3]
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.messages.workers import WORKERS
from restmcts.testing import hostile_servers as hostile
from restmcts.testing.hostile_servers import Answer, HostileServer
from restmcts.testing.policy_servers import PolicyServer
from restmcts.testing.runs import await_end, begin_search
from restmcts_cli.processes.stack_processes import Stack

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "RESTMCTS_RECONCILE_SECONDS": "5",
    "RESTMCTS_POLICY_TIMEOUT_SECONDS": "20",
    "RESTMCTS_POLICY_RETRY_SECONDS": "10",
}
HOSTILE: dict[str, Answer] = {
    "broken": hostile.breaks,
    "dripping": hostile.drips_its_body,
    "silent": hostile.says_nothing,
}
SLOW = "slow"
SLOW_SECONDS = 5.0
LIMIT_SECONDS = 300.0


def seconds_of(database: Database, policy: str, value: str, num_problems: int) -> float:
    """Return how long a run takes from its creation to its end."""
    begun = time.monotonic()
    run_id = begin_search(database, policy, value, num_problems)
    try:
        await_end(database, run_id, LIMIT_SECONDS)
    except TimeoutError:
        cancel(database, [run_id])
        return LIMIT_SECONDS
    return time.monotonic() - begun


def cancel(database: Database, run_ids: Sequence[int]) -> None:
    """End runs that nobody waits for any more."""
    with database.transaction() as transaction:
        for run_id in run_ids:
            runs.finish_run(transaction, run_id, RunState.CANCELLED)


@contextmanager
def server_of(kind: str) -> Iterator[str]:
    """Yield the host of a server with that fault."""
    if kind == SLOW:
        with PolicyServer(faults=[SLOW] * 10_000, slow_seconds=SLOW_SECONDS) as slow:
            yield slow.host
    else:
        with HostileServer(HOSTILE[kind]) as server:
            yield server.host


@contextmanager
def disturbed(database: Database, kind: str, policy: str, value: str, num_problems: int) -> Iterator[None]:
    """Keep two runs beside, one with such a policy, one with such a value model."""
    with server_of(kind) as host:
        faulty = f"openai+http://{host}/v1?model=tiny"
        run_ids = [
            begin_search(database, faulty, value, num_problems),
            begin_search(database, policy, f"{faulty}&format=judge", num_problems),
        ]
        time.sleep(5.0)
        yield
        cancel(database, run_ids)


def measure(folder: Path, num_problems: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of healthy runs by what runs beside them."""
    with ExitStack() as opened:
        policy = opened.enter_context(PolicyServer()).uri("openai")
        value = opened.enter_context(PolicyServer()).uri("openai", "&format=judge")
        stack = Stack(folder / "stack", SETTINGS)
        opened.callback(stack.down)
        stack.up(dict.fromkeys(WORKERS, 1))
        database = Database(stack.settings["RESTMCTS_DATABASE_URL"])
        opened.callback(database.close)

        def timed() -> list[float]:
            return [seconds_of(database, policy, value, num_problems) for _ in range(repeats)]

        timed()  # what is opened and imported once
        found = {"alone": timed()}
        for kind in (*HOSTILE, SLOW):
            with disturbed(database, kind, policy, value, num_problems):
                found[kind] = timed()
        return found | {"alone again": timed()}


def ratio(seconds: Sequence[float], alone: Sequence[float]) -> tuple[float, float]:
    """Return the ratio of two means, and its standard error."""
    found = statistics.mean(seconds) / statistics.mean(alone)
    shares = [statistics.stdev(each) / len(each) ** 0.5 / statistics.mean(each) for each in (seconds, alone)]
    return found, found * math.hypot(*shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.repeats < 2:
        parser.error("--repeats: an error needs two runs at least")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.problems, given.repeats)
    alone = found.pop("alone") + found.pop("alone again")
    print(f"{'alone':12} {statistics.mean(alone):6.1f} s")
    for kind, seconds in found.items():
        times, error = ratio(seconds, alone)
        print(f"{kind:12} {statistics.mean(seconds):6.1f} s   {times:.2f} ± {error:.2f} times alone")


if __name__ == "__main__":
    main()
