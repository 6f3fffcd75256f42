"""Workers are killed at random, Redis and PostgreSQL restarted, the S3 server stopped: nothing is
lost and nothing is doubled.

`make chaos` runs it with a seed of its own (RESTMCTS_CHAOS_SEED) for RESTMCTS_CHAOS_SECONDS of
kills.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.testing.runs import await_end, begin_run, faults, small_plan
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
}
KILL_EVERY_SECONDS = (1.5, 4.0)
S3_AWAY_SECONDS = 20.0
END_SECONDS = 150.0


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

    def __init__(self, stack: Stack, seed: int, seconds: float) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        self._seconds = seconds
        self._ended = threading.Event()
        self.log: list[str] = []

    def run(self) -> None:
        """Do harm for a time, then leave everything running."""
        begin = time.monotonic()
        events = {0.25: self._restart_redis, 0.5: self._restart_postgres, 0.7: self._stop_s3}
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
    chaos = Chaos(stack, seed, float(os.environ.get("RESTMCTS_CHAOS_SECONDS", "70")))
    settings = stack.settings
    keys = (settings["RESTMCTS_S3_ACCESS_KEY"], settings["RESTMCTS_S3_SECRET_KEY"])
    artifacts = S3ArtifactStore(settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, tmp_path / "cache", 2**30)
    database = Database(settings["RESTMCTS_DATABASE_URL"])
    run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:24], small_plan())
    chaos.run()
    state = await_end(database, run_id, END_SECONDS)
    print(f"seed {seed}: {len(chaos.log)} blows: {', '.join(chaos.log)}")
    assert state == "done"
    assert faults(database, run_id) == []
    with database.transaction() as transaction:
        assert transaction.execute(select(DEAD_LETTERS)).all() == []
    database.close()
