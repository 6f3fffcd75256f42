"""Workers are killed at random, one of them whenever it has leases; PostgreSQL is restarted five
times, Redis once, the S3 server stopped, a process frozen with a run's lock; other runs ask a
dripping and a poisonous server: nothing is lost and nothing is doubled.

`make chaos` runs it with a seed of its own (RESTMCTS_CHAOS_SEED) for RESTMCTS_CHAOS_SECONDS of
kills.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.errors import StorageError
from restmcts.testing.hostile_servers import HostileServer, drips_its_body
from restmcts.testing.policy_servers import END, PolicyServer, judge_log_probs
from restmcts.testing.runs import await_end, begin_run, begin_search, faults, small_plan
from restmcts_cli.processes.server_processes import NAME, SERVERS
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import select

WORKERS = {
    "coordinator": 2,
    "tree-search": 2,
    "policy-generator": 1,
    "prm-scorer": 1,
    "value-labeler": 1,
    "trainer": 1,
}
SETTINGS = {
    "RESTMCTS_RECONCILE_SECONDS": "2",
    "RESTMCTS_REQUEST_LEASE_SECONDS": "5",
    "RESTMCTS_JOB_LEASE_SECONDS": "6",
    "RESTMCTS_MAX_REQUESTS": "16",
    "RESTMCTS_POLICY_TIMEOUT_SECONDS": "5",
    "RESTMCTS_POLICY_RETRY_SECONDS": "5",
}
NUM_POISONED = 8
KILL_EVERY_SECONDS = (1.5, 4.0)
S3_AWAY_SECONDS = 20.0
END_SECONDS = 150.0
POSTGRES_RESTARTS = (0.1, 0.3, 0.5, 0.65, 0.85)
LEASED = "SELECT count(*) FROM requests WHERE state = 'leased' AND kind = 'score'"
AGAIN = "SELECT count(*) FROM requests r JOIN trees t ON t.id = r.tree_id WHERE r.attempt > 1 AND t.run_id = "
FROZEN = """
import os, signal, sys, time
from restmcts.adapters.sql.database import Database
from restmcts.errors import StorageError
from sqlalchemy import text
database = Database(sys.argv[1], idle_seconds=8.0)
while True:
    try:
        with database.transaction() as transaction:
            transaction.execute(text("SELECT * FROM runs WHERE id = " + sys.argv[2] + " FOR UPDATE"))
            os.kill(os.getpid(), signal.SIGSTOP)
    except StorageError:
        time.sleep(0.2)
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "stack", SETTINGS)
    try:
        stack.up(WORKERS)
        yield stack
    finally:
        stack.down()


class Chaos:
    """Kills and restarts, one after the other, from a seed; `log` tells what was done when."""

    def __init__(self, stack: Stack, database: Database, run_id: int, seed: int, seconds: float) -> None:
        self._stack, self._database, self._run_id = stack, database, run_id
        self._random = random.Random(seed)
        self._seconds = seconds
        self._frozen: list[subprocess.Popen[bytes]] = []
        self.log: list[str] = []

    def run(self) -> None:
        """Do harm for a time, then leave everything running."""
        begin = time.monotonic()
        events = {0.25: self._restart_redis, 0.4: self._freeze_a_lock, 0.7: self._stop_s3}
        events |= {0.2: self._kill_scorer_with_leases, 0.6: self._kill_scorer_with_leases}
        events |= dict.fromkeys(POSTGRES_RESTARTS, self._restart_postgres)
        s3_back = None
        while (elapsed := time.monotonic() - begin) < self._seconds:
            for share in [share for share in events if elapsed > share * self._seconds]:
                events.pop(share)()
                if share == 0.7:
                    s3_back = elapsed + S3_AWAY_SECONDS
            if s3_back is not None and elapsed > s3_back:
                self._stack.start_server("s3")
                s3_back = None
            self._kill_worker()
            time.sleep(self._random.uniform(*KILL_EVERY_SECONDS))
        self._stack.start_server("s3")
        self._revive()
        for process in self._frozen:
            process.kill()
            process.wait()

    def _kill_scorer_with_leases(self) -> None:
        """Kill the value models' worker while it serves requests, if it does within seconds."""
        self._revive()
        for _ in range(200):
            with suppress(StorageError), self._database.transaction() as transaction:
                if transaction.connection.exec_driver_sql(LEASED).scalar_one():
                    self.log.append("SIGKILL prm-scorer-1 with leases")
                    break
            time.sleep(0.02)
        self._stack.kill("prm-scorer-1", signal.SIGKILL)

    def _freeze_a_lock(self) -> None:
        self.log.append("a frozen lock")
        url = self._stack.settings["RESTMCTS_DATABASE_URL"]
        self._frozen.append(subprocess.Popen([sys.executable, "-c", FROZEN, url, str(self._run_id)]))

    def _kill_worker(self) -> None:
        self._revive()
        victim = self._random.choice(
            sorted(member.name for member in self._stack.members() if member.name not in SERVERS)
        )
        self.log.append(f"SIGKILL {victim}")
        self._stack.kill(victim, signal.SIGKILL)

    def _revive(self) -> None:
        for kind, count in WORKERS.items():
            for number in range(1, count + 1):
                self._stack.start_worker(f"{kind}-{number}")

    def _restart_redis(self) -> None:
        self._restart("redis", signal.SIGKILL)

    def _restart_postgres(self) -> None:
        self._restart("postgres", signal.SIGQUIT)

    def _stop_s3(self) -> None:
        self.log.append("stop s3")
        self._stack.stop("s3")

    def _restart(self, name: str, how: int) -> None:
        self.log.append(f"restart {name}")
        self._stack.kill(name, how)
        time.sleep(1.0)
        self._stack.start_server(name)


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled(
    stack: Stack, puzzles: Sequence[Problem], puzzle_policy: Path, tmp_path: Path
) -> None:
    seed = int(os.environ.get("RESTMCTS_CHAOS_SEED", "1"))
    settings = stack.settings
    keys = (settings["RESTMCTS_S3_ACCESS_KEY"], settings["RESTMCTS_S3_SECRET_KEY"])
    artifacts = S3ArtifactStore(settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, tmp_path / "cache", 2**30)
    database = Database(settings["RESTMCTS_DATABASE_URL"])
    run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:24], small_plan())
    chaos = Chaos(stack, database, run_id, seed, float(os.environ.get("RESTMCTS_CHAOS_SECONDS", "70")))
    poison = partial(judge_log_probs, vocabulary=("a\0", "b\ud800", "\n", END))
    with HostileServer(drips_its_body) as dripping, PolicyServer(log_probs_of=poison) as poisonous:
        policy, value = poisonous.uri("openai"), poisonous.uri("openai", "&format=judge")
        poisoned_id = begin_search(database, policy, value, NUM_POISONED)
        begin_search(database, f"openai+http://{dripping.host}/v1?model=tiny", value, NUM_POISONED)
        chaos.run()
        states = [await_end(database, each, END_SECONDS) for each in (run_id, poisoned_id)]
    with database.transaction() as transaction:
        again = [
            transaction.connection.exec_driver_sql(f"{AGAIN}{each}").scalar_one() for each in (run_id, poisoned_id)
        ]
        letters = [letter.reason for letter in transaction.execute(select(DEAD_LETTERS)).all()]
    print(f"seed {seed}: {len(chaos.log)} blows: {', '.join(chaos.log)}; requests tried again: {again}")
    assert states == ["done", "done"]
    assert faults(database, run_id) + faults(database, poisoned_id) == []
    assert letters == []
    database.close()
